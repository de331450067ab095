"""Turns a budget into optimizer steps, and these into the steps that are measured and saved."""

from __future__ import annotations

import math

from architectures.frozen import SettingError
from harness.training.settings.loop import Budget, Measure


def steps_of(budget: Budget, batch_size: int) -> int:
    """Returns the optimizer steps of a budget; samples are rounded up to whole batches. Raises
    `SettingError` for a unit that a design must be asked about first."""
    if budget.steps is not None:
        return budget.steps
    if budget.samples is None:
        raise SettingError(
            f"a budget in {budget.unit} is turned into steps by the plan of a study "
            "(harness.planning.budgets.converted), and this one was not; name steps or samples"
        )
    return math.ceil(budget.samples / batch_size)


def is_compared(step: int) -> bool:
    """Says whether every run keeps the digest of the batches fed up to this step, however long it
    is: all steps up to 32, and then 16 at even distances between each power of two and the next.
    So runs of different lengths can be compared over at least 16/17 of the shorter one.

    >>> [step for step in range(30, 70) if is_compared(step)]
    [30, 31, 32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62, 64, 68]
    """
    return step % (1 << max(step.bit_length() - 5, 0)) == 0


def grid_of(steps: int, points: int) -> tuple[int, ...]:
    """Returns the steps after which curves are measured: step 0, and `points` steps at even
    distances of which the last is `steps`; fewer where there are fewer steps.

    >>> grid_of(10, 4)
    (0, 2, 5, 8, 10)
    """
    return tuple(sorted({0, *(round(steps * i / points) for i in range(1, points + 1))}))


def checkpoints_of(steps: int, measure: Measure) -> frozenset[int]:
    """Returns the measured steps after which a checkpoint is written, at even distances; the last
    measured step is always one.
    """
    measured = grid_of(steps, measure.points)[1:]
    count = min(measure.checkpoints, len(measured))
    return frozenset(
        measured[math.ceil(len(measured) * i / count) - 1] for i in range(1, count + 1)
    )
