"""Descriptive intervals against known values; bands against simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.statistics.intervals import (
    Band,
    mean_band,
    mean_interval,
    paired_difference_band,
    proportion_interval,
    proportion_lower_bound,
    sd_interval,
)


def test_proportions_are_clopper_pearson() -> None:
    found = proportion_interval(8, 10)
    assert found.estimate == 0.8
    assert (found.lower, found.upper) == pytest.approx((0.44390, 0.97479), abs=1e-5)
    assert proportion_lower_bound(8, 10) == pytest.approx(stats.beta.ppf(0.05, 8, 3))
    assert proportion_lower_bound(8, 10) > found.lower


def test_proportions_at_their_ends() -> None:
    assert proportion_interval(0, 20).lower == 0 and proportion_interval(20, 20).upper == 1
    assert proportion_interval(0, 20).upper == pytest.approx(1 - 0.025 ** (1 / 20))
    assert proportion_lower_bound(0, 20) == 0


@pytest.mark.parametrize("successes, n", [(0, 0), (3, 2), (-1, 5)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} of {n}"):
        proportion_lower_bound(successes, n)


def test_lower_bound_covers() -> None:
    # Of all outcomes at p = .3, those whose bound lies above .3 have at most 5 % between them.
    above = [k for k in range(51) if proportion_lower_bound(k, 50) > 0.3]
    assert 0 < stats.binom.pmf(above, 50, 0.3).sum() <= 0.05


def test_mean_interval_is_students_t() -> None:
    found = mean_interval([1.0, 2.0, 3.0, math.nan])
    assert found.estimate == 2
    assert found.upper - 2 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert 2 - found.lower == pytest.approx(found.upper - 2)
    one = mean_interval([4.0])
    assert one.estimate == 4 and math.isnan(one.lower) and math.isnan(one.upper)
    assert math.isnan(mean_interval([]).estimate)


def outside(band: Band, truth: float) -> tuple[bool, bool]:
    """Whether the truth leaves the pointwise and the simultaneous band anywhere."""
    return (
        bool(((band.lower > truth) | (band.upper < truth)).any()),
        bool(((band.lower_simultaneous > truth) | (band.upper_simultaneous < truth)).any()),
    )


def test_pointwise_band_is_an_interval_at_each_point() -> None:
    curves = np.random.default_rng(0).normal(size=(4, 7))
    band = mean_band(curves, 0.9)
    for point in range(7):
        assert (band.lower[point], band.mean[point], band.upper[point]) == pytest.approx(
            mean_interval(curves[:, point], 0.9)
        )
    assert (band.upper_simultaneous >= band.upper).all()
    assert (band.lower_simultaneous <= band.lower).all()


def test_parallel_curves_pay_nothing_for_many_points() -> None:
    offsets = np.array([[0.0], [1.0], [3.0]])
    # So do curves that change sides together: the estimate is as many errors away at every point.
    for curves in (np.linspace(0, 1, 50) + offsets, offsets * (-1) ** np.arange(50)):
        band = mean_band(curves)
        np.testing.assert_allclose(band.upper_simultaneous, band.upper, rtol=1e-5)


def test_a_finer_grid_costs_a_smooth_curve_little() -> None:
    rng = np.random.default_rng(1)
    slopes, offsets = rng.normal(size=(4, 1)), rng.normal(size=(4, 1))
    coarse, fine = (
        mean_band(offsets + slopes * np.linspace(0, 1, points)) for points in (21, 2001)
    )
    assert fine.upper_simultaneous[-1] == pytest.approx(coarse.upper_simultaneous[-1], rel=0.02)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("drifting", [True, False])
def test_simultaneous_band_holds_everywhere(seeds: int, drifting: bool) -> None:
    rng, missed = np.random.default_rng(2), np.zeros(2)
    for _ in range(250):
        curves = rng.normal(size=(seeds, 30))
        missed += outside(mean_band(curves.cumsum(axis=1) if drifting else curves), 0)
    pointwise, simultaneous = missed / 250
    assert pointwise > 0.25 and simultaneous < 0.05


def test_differences_are_paired_by_row() -> None:
    rng = np.random.default_rng(3)
    seed_effect, control = 10 * rng.normal(size=(3, 1)), rng.normal(size=(3, 5))
    other = control + 1 + 0.01 * rng.normal(size=(3, 5))
    band = paired_difference_band(other + seed_effect, control + seed_effect)
    np.testing.assert_allclose(band.mean, 1, atol=0.05)
    assert (band.upper - band.lower).max() < 0.2
    with pytest.raises(ValueError, match="differ in shape"):
        paired_difference_band(other, control[:2])


def test_one_seed_and_no_spread() -> None:
    one = mean_band([[1.0, 2.0]])
    assert one.mean.tolist() == [1, 2] and np.isnan(one.lower_simultaneous).all()
    same = mean_band([[1.0, 2.0], [1.0, 2.0]])
    assert same.lower_simultaneous.tolist() == same.mean.tolist() == [1, 2]
    start = mean_band([[1.0, 2.0, 3.0], [1.0, 2.5, 2.0]])  # all start alike
    assert np.isfinite(start.upper_simultaneous).all()


def test_curves_that_cannot_be_averaged_are_refused() -> None:
    with pytest.raises(ValueError, match="curve 1 is not finite at point 2"):
        mean_band([[1.0, 2.0, 3.0], [1.0, 2.0, math.nan]])
    shapes: list[tuple[int, ...]] = [(3,), (0, 4), (3, 0)]
    for shape in shapes:
        with pytest.raises(ValueError, match="shape"):
            mean_band(np.zeros(shape))


def test_the_interval_of_an_sd_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    intervals = [sd_interval(rng.normal(0, 2.0, size=4)) for _ in range(2000)]
    share = np.mean([low <= 2.0 <= high for low, _, high in intervals])
    assert abs(share - 0.95) < 0.015
    assert all(low < sd < high for low, sd, high in intervals)
    assert math.isnan(sd_interval([3.0, math.inf]).estimate)
