"""A control that is noisier than the rest is told apart, by a test that is exact."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.statistics.additive import fit
from harness.statistics.blocked import analyse
from harness.statistics.spreads import control_spread


def table(scores_DS: np.ndarray) -> dict[str, dict[int, float]]:
    return {
        name: dict(enumerate(row)) for name, row in zip("cdefgh", scores_DS.tolist(), strict=False)
    }


def shares(control_sd: float, designs: int, seeds: int, draws: int) -> tuple[float, float]:
    """Share of tables with p below 5 %, and the median ratio."""
    rng, sd_D1 = np.random.default_rng(designs), np.ones((designs, 1))
    sd_D1[0] = control_sd
    found = [
        control_spread(fit(table(sd_D1 * rng.normal(size=(designs, seeds)))), "c")
        for _ in range(draws)
    ]
    return float(np.mean([p < 0.05 for _, p in found])), float(np.median([k for k, _ in found]))


def test_equal_spreads_are_called_different_as_often_as_stated() -> None:
    share, _ = shares(1.0, 4, 3, 600)
    assert 0.025 < share < 0.08  # a standard error is 0.9 %


def test_a_noisier_control_is_found_where_seeds_allow_it() -> None:
    share, ratio = shares(3.0, 4, 9, 200)
    assert share > 0.9 and ratio == pytest.approx(3.0, rel=0.15)


def test_the_analysis_says_so() -> None:
    scores_DS = np.random.default_rng(0).normal(size=(4, 6))
    assert not any("spreads" in note for note in analyse(table(scores_DS), "c").notes)
    scores_DS[0] *= 10
    (note,) = analyse(table(scores_DS), "c").notes
    assert note.startswith("spreads differ: from seed to seed the control varies about ")
    assert analyse(table(scores_DS), "d").notes == ()  # a design that is noisy costs little


@pytest.mark.parametrize("scores_DS", [np.eye(2), np.ones((4, 1)), np.arange(12.0).reshape(3, 4)])
def test_nothing_is_said_where_nothing_can_be_known(scores_DS: np.ndarray) -> None:
    assert all(map(math.isnan, control_spread(fit(table(scores_DS)), "c")))
