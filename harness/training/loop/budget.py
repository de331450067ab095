"""Turns a budget into optimizer steps, and these into the steps that are measured and saved."""

from __future__ import annotations

import math

from harness.training.settings.loop import Budget, Measure


def steps_of(budget: Budget, batch_size: int) -> int:
    """Returns the optimizer steps of a budget; samples are rounded up to whole batches."""
    if budget.steps is not None:
        return budget.steps
    assert budget.samples is not None
    return math.ceil(budget.samples / batch_size)


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
