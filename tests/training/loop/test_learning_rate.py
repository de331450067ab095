"""The learning rate of every step, by hand: shares of the peak at cosines that are known."""

import pytest

from harness.training.loop.optimizer import learning_rate
from harness.training.settings.loop import Optimizer

# Two of eight steps go up; then cos 30, 60, ..., 180 degrees down to a fifth.
SHARES = (0.5, 1.0, 0.9464101615, 0.8, 0.6, 0.4, 0.2535898385, 0.2)


@pytest.mark.parametrize("peak", [1.0, 5e-4])
@pytest.mark.parametrize(("step", "share"), [*enumerate(SHARES, 1)])
def test_warm_up_then_a_cosine_to_the_final_share(step: int, share: float, peak: float) -> None:
    settings = Optimizer(learning_rate=peak, warmup_share=0.25, final_share=0.2)
    assert learning_rate(settings, step, 8) == pytest.approx(peak * share, rel=1e-9)


@pytest.mark.parametrize(
    ("step", "steps", "warmup", "final", "rate"),
    [
        (1, 1, 0.1, 0.1, 1.0),  # a single step takes the peak
        (1, 4, 0.0, 0.0, 1.0),  # no warm-up: the first step is at the peak, the last at nothing
        (4, 4, 0.0, 0.0, 0.0),
        (3, 5, 0.0, 0.0, 0.5),
        (3, 5, 0.0, 1.0, 1.0),  # no decay
        (30, 100, 0.4, 0.1, 0.75),
        (40, 100, 0.4, 0.1, 1.0),
        (70, 100, 0.4, 0.1, 0.55),
        (100, 100, 0.4, 0.1, 0.1),
        (1, 15, 0.1, 0.1, 0.5),  # 1.5 steps of warm-up are 2
        (1, 14, 0.1, 0.1, 1.0),  # 1.4 are 1
        (2, 2, 0.9, 0.3, 1.0),  # nothing is left to decay in
    ],
)
def test_edges(step: int, steps: int, warmup: float, final: float, rate: float) -> None:
    settings = Optimizer(learning_rate=1.0, warmup_share=warmup, final_share=final)
    assert learning_rate(settings, step, steps) == pytest.approx(rate, abs=1e-12)
