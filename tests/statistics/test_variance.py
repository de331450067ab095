"""Parts of the residual variance against simulated scores whose parts are known."""

import math

import numpy as np
import pytest

from harness.statistics.variance import (
    ITEMS,
    LATE,
    REST,
    counted_variance,
    growth,
    item_variance,
    late_variance,
    variance_parts,
)

D, S, N, T = 5, 40, 60, 6


def test_items_are_told_from_what_designs_seeds_and_items_do_alike() -> None:
    rng = np.random.default_rng(0)
    answers_DSN = (
        rng.normal(size=(D, 1, 1)) + rng.normal(size=(1, S, 1)) + 3 * rng.normal(size=(1, 1, N))
        + rng.normal(size=(D, S, 1)) + rng.normal(size=(D, 1, N)) + rng.normal(size=(1, S, N))
        + 2 * rng.normal(size=(D, S, N))
    )  # fmt: skip
    assert item_variance(answers_DSN) == pytest.approx(4 / N, rel=0.04)


def test_counts_bound_the_part_of_items_from_above() -> None:
    rng = np.random.default_rng(1)
    easy_N = rng.uniform(size=N)  # the same for every run
    answers_DSN = (rng.uniform(size=(D, S, N)) < easy_N).astype(float)
    exact = item_variance(answers_DSN)
    counted = counted_variance((run.sum(), N) for row in answers_DSN for run in row)
    assert exact == pytest.approx((easy_N * (1 - easy_N)).mean() / N, rel=0.05)
    assert counted > 1.3 * exact
    assert math.isnan(counted_variance([])) and counted_variance([(5, 10), (0, 0)]) == 0.025


def test_late_checkpoints_are_told_from_trends_and_from_what_lasts() -> None:
    rng = np.random.default_rng(2)
    trend_T = np.linspace(0, 5, T)
    curve_DST = (
        rng.normal(size=(D, S, 1)) + rng.normal(size=(D, 1, 1)) * trend_T
        + rng.normal(size=(1, S, T)) + 0.5 * rng.normal(size=(D, S, T))
    )  # fmt: skip
    assert late_variance(curve_DST) == pytest.approx(0.25, rel=0.08)
    assert late_variance(curve_DST - rng.normal(size=(D, S, 1))) == pytest.approx(
        late_variance(curve_DST), rel=1e-9
    )


@pytest.mark.parametrize("shape", [(1, 3, 3), (3, 1, 3), (3, 3, 1), (3, 3)])
def test_too_little_tells_nothing(shape: tuple[int, ...]) -> None:
    assert math.isnan(item_variance(np.ones(shape))) and math.isnan(late_variance(np.ones(shape)))


def test_shares_are_those_of_the_simulated_parts() -> None:
    rng = np.random.default_rng(3)
    lasting_DS, late_DST = rng.normal(size=(D, S)), 0.7 * rng.normal(size=(D, S, T))
    answers_DSN = 4 * rng.normal(size=(D, S, N))
    scores_DS = lasting_DS + late_DST[..., -1] + answers_DSN.mean(2)
    residual_DS = scores_DS - scores_DS.mean(0) - scores_DS.mean(1, keepdims=True)
    mse = float(((residual_DS + scores_DS.mean()) ** 2).sum() / ((D - 1) * (S - 1)))
    items, late = item_variance(answers_DSN), late_variance(lasting_DS[..., None] + late_DST)
    parts = {part.part: part for part in variance_parts(mse, items=items, late=late)}
    whole = 1 + 0.49 + 16 / N
    for name, true in ((ITEMS, 16 / N), (LATE, 0.49), (REST, 1.0)):
        assert parts[name].share == pytest.approx(true / whole, abs=0.06)
        assert parts[name].sd == pytest.approx(math.sqrt(parts[name].share * mse))
    assert sum(part.share for part in parts.values()) == pytest.approx(1)


def test_what_is_too_much_is_cut_and_says_so() -> None:
    parts = variance_parts(2.0, items=3.0, late=1.0, counted=True)
    assert [part.share for part in parts] == pytest.approx([0.75, 0.25, 0.0])
    assert "at most, from counts" in parts[0].note and "estimated at 150%, cut" in parts[0].note
    assert "estimated at 50%, cut to fit" in parts[1].note
    fits = variance_parts(2.0, items=0.5)
    assert [part.share for part in fits] == [0.25, 0.0, 0.75]
    assert "cut" not in fits[0].note and "not known" in fits[1].note
    assert variance_parts(0.0) == variance_parts(math.nan) == ()


def test_growth_is_per_doubling_of_the_samples() -> None:
    samples = np.array([1000, 2000, 4000, 8000])
    wiggle = np.array([[0.1], [-0.1], [0.05]])
    change = growth(np.log2(samples) * (1.5 + wiggle), samples)
    assert change.doubling == pytest.approx(1.5 + wiggle.mean())
    assert change.p < 0.01
    flat = growth(np.array([[0, 1, 0, 1], [1, 0, 1, 0.5], [0, 0, 1, 0]]), samples)
    assert flat.p > 0.2
    assert math.isnan(growth(np.array([[0, 1, 2, 3]]), samples).p)
