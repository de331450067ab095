"""Steps of a budget, and which of them are measured and saved: counted by hand."""

import pytest

from harness.training.loop.budget import checkpoints_of, grid_of, steps_of
from harness.training.settings.loop import Budget, Measure


@pytest.mark.parametrize(
    ("budget", "batch", "steps"),
    [
        (Budget(steps=7), 64, 7),
        (Budget(samples=64), 64, 1),
        (Budget(samples=65), 64, 2),
        (Budget(samples=1), 64, 1),
        (Budget(samples=640), 32, 20),
    ],
)
def test_samples_are_rounded_up_to_whole_batches(budget: Budget, batch: int, steps: int) -> None:
    assert steps_of(budget, batch) == steps


@pytest.mark.parametrize(
    ("steps", "points", "grid"),
    [
        (10, 4, (0, 2, 5, 8, 10)),
        (100, 4, (0, 25, 50, 75, 100)),
        (30, 3, (0, 10, 20, 30)),
        (9, 1, (0, 9)),
        (2, 10, (0, 1, 2)),
    ],
)
def test_the_grid_ends_with_the_last_step(steps: int, points: int, grid: tuple[int, ...]) -> None:
    assert grid_of(steps, points) == grid


@pytest.mark.parametrize(
    ("steps", "points", "checkpoints", "saved"),
    [
        (10, 10, 2, {5, 10}),
        (10, 10, 3, {4, 7, 10}),
        (100, 4, 4, {25, 50, 75, 100}),
        (100, 4, 1, {100}),
        (100, 4, 9, {25, 50, 75, 100}),
        (2, 10, 5, {1, 2}),
        (1, 10, 5, {1}),
    ],
)
def test_checkpoints_lie_evenly_on_the_grid(
    steps: int, points: int, checkpoints: int, saved: set[int]
) -> None:
    assert checkpoints_of(steps, Measure(points=points, checkpoints=checkpoints)) == saved
