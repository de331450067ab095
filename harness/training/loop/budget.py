"""Budget -> optimizer steps, once, before training; Ledger: every unit, measured."""

from __future__ import annotations

import math

from harness.training.settings.loop import Budget, Measure


def steps_of(budget: Budget, batch_size: int) -> int:
    """Optimizer steps of a budget. Samples are rounded up to whole batches."""
    if budget.steps is not None:
        return budget.steps
    assert budget.samples is not None
    return math.ceil(budget.samples / batch_size)


def grid_of(steps: int, points: int) -> tuple[int, ...]:
    """Steps after which curves are measured: `points` even ones and the start, step 0.

    >>> grid_of(10, 4)
    (0, 2, 5, 8, 10)
    """
    return tuple(sorted({0, *(round(steps * i / points) for i in range(1, points + 1))}))


def checkpoints_of(steps: int, measure: Measure) -> frozenset[int]:
    """The measured steps after which a checkpoint is written; the last is always one."""
    measured = grid_of(steps, measure.points)[1:]
    count = min(measure.checkpoints, len(measured))
    return frozenset(
        measured[math.ceil(len(measured) * i / count) - 1] for i in range(1, count + 1)
    )
