"""Trends against polynomials by numpy, their curve by its definition, and their error rates."""

import numpy as np
import pytest
from scipy import stats

from harness.statistics.additive import fit
from harness.statistics.linear import combination, f_test
from harness.statistics.trends import Trend, trend
from tests.statistics.tables import noise, table


def along(scores_DS: np.ndarray, places: list[float] | None = None) -> Trend:
    at = places or [float(d) for d in range(len(scores_DS))]
    return trend(table(scores_DS), {str(d): place for d, place in enumerate(at)})


def scores_on(places: list[float], seeds: int = 4) -> np.ndarray:
    rng = np.random.default_rng(5)
    return noise(rng, np.ones(len(places)), seeds) + rng.normal(size=(len(places), 1))


@pytest.mark.parametrize("places", [[0, 1, 2], [0, 2, 6, 12], [1, 2, 4, 8, 16, 32, 64]])
def test_slope_and_bend_are_the_least_squares_ones(places: list[float]) -> None:
    scores_DS = scores_on(places)
    result, means_D = along(scores_DS, places), scores_DS.mean(axis=1)
    assert result.slope.estimate == pytest.approx(np.polyfit(places, means_D, 1)[0])
    assert result.bend.estimate == pytest.approx(np.polyfit(places, means_D, 2)[0])
    omnibus = f_test(fit(table(scores_DS)), np.diff(np.eye(len(places)), axis=0))
    assert result.any_difference.f == pytest.approx(omnibus.f)


def test_the_parabola_is_numpys() -> None:
    places = [0.0, 2, 6, 10, 12]
    scores_DS = scores_on(places)
    curve = along(scores_DS, places).curve
    expected = np.polyval(np.polyfit(places, scores_DS.mean(axis=1), 2), curve.axis)
    np.testing.assert_allclose(curve.fitted, expected)
    assert (curve.kind, curve.axis[0], curve.axis[-1]) == ("parabola", 0, 12)


def test_the_form_follows_from_the_number_of_places() -> None:
    for count, kind, df in ((3, "parabola", None), (5, "parabola", 2), (6, "spline", 1)):
        result = along(scores_on(list(range(count))))
        assert kind in result.curve.kind
        assert (result.lack_of_fit and result.lack_of_fit.df) == df


def test_the_spline_follows_lines_and_is_straight_at_its_ends() -> None:
    line_DS = np.arange(9.0)[:, None] * 2 + 1e-3 * scores_on(list(range(9)))
    curve = along(line_DS).curve
    np.testing.assert_allclose(curve.fitted, 2 * curve.axis, atol=0.02)
    bent = along(np.sin(np.arange(9.0) / 2)[:, None] + 1e-3 * scores_on(list(range(9)))).curve
    second = np.diff(bent.fitted, 2)
    assert abs(second[[0, -1]]).max() < abs(second).max() / 10


def test_lack_of_fit_sees_what_the_curve_misses() -> None:
    rng = np.random.default_rng(6)
    step_D = np.array([0, 0, 0, 0, 0, 0, 8.0, 0, 0])
    result = along(step_D[:, None] + noise(rng, np.ones(9), 3))
    assert result.lack_of_fit and result.lack_of_fit.p < 1e-3
    assert result.any_difference.p < 1e-3 < result.slope.p


def test_the_band_lies_between_pointwise_and_scheffe() -> None:
    places = np.arange(5.0)
    scores_DS = scores_on(list(places))
    model, curve = fit(table(scores_DS)), along(scores_DS).curve
    powers, at_places = np.vander(curve.axis, 3), np.vander(places, 3)
    weights = powers @ np.linalg.pinv(at_places)
    se = [combination(model, weights_D).se for weights_D in weights]
    covariance = np.linalg.inv(at_places.T @ at_places) * model.mse / 4
    assert (se >= np.sqrt(np.diag(powers @ covariance @ powers.T)) * (1 - 1e-9)).all()
    reach = (curve.upper - curve.fitted) / se
    scheffe = np.sqrt(3 * stats.f.isf(0.05, 3, model.df))
    assert reach.max() == pytest.approx(reach.min())
    assert stats.t.isf(0.025, model.df) * 1.1 < reach[0] < scheffe


def test_designs_at_one_place_are_averaged() -> None:
    scores_DS = scores_on([0, 0, 1, 1, 2, 2])
    result = along(scores_DS, [0, 0, 1, 1, 2, 2])
    means = scores_DS.mean(axis=1).reshape(3, 2).mean(axis=1)
    assert result.slope.estimate == pytest.approx((means[2] - means[0]) / 2)
    with pytest.raises(ValueError, match="different numbers of cells"):
        along(scores_DS, [0, 0, 1, 1, 2, 3])


def test_two_places_are_no_trend() -> None:
    with pytest.raises(ValueError, match="three places, and scores lie at 2"):
        along(scores_on([0, 1]))


def test_a_missing_run_leaves_the_others() -> None:
    scores_DS = scores_on([0, 1, 2, 3, 4])
    scores_DS[2, 1] = np.nan
    whole, some = along(scores_on([0, 1, 2, 3, 4])), along(scores_DS)
    assert some.slope.estimate == pytest.approx(whole.slope.estimate, abs=0.3)
    assert np.isfinite(some.curve.upper).all() and some.any_difference.df_error == 11


def test_page_sees_the_same_trend() -> None:
    rng = np.random.default_rng(7)
    scores_DS = np.arange(6.0)[:, None] / 2 + noise(rng, np.ones(6), 5)
    page = stats.page_trend_test(scores_DS.T)
    assert page.pvalue < 0.01 and along(scores_DS).slope.p < 0.01


def errors(places: int, seeds: int, sd: float, tables: int, seed: int) -> np.ndarray:
    """Share of tables without a trend in which any difference, slope, bend and lack of fit have
    p < .05, and in which the curve leaves its band; the first design is `sd` times as noisy."""
    rng, sd_D = np.random.default_rng(seed), np.ones(places)
    sd_D[0], wrong = sd, np.zeros(5)
    for _ in range(tables):
        seed_S, own_DS = (
            3 * rng.normal(size=seeds),
            sd_D[:, None] * rng.normal(size=(places, seeds)),
        )
        result = along(own_DS + seed_S)
        tests = (result.any_difference, result.slope, result.bend, result.lack_of_fit)
        low, high = result.curve.lower, result.curve.upper
        missed = bool(((low > seed_S.mean()) | (high < seed_S.mean())).any())
        wrong += [*(test is not None and test.p < 0.05 for test in tests), missed]
    return wrong / tables


def test_errors_quickly() -> None:
    assert (errors(5, 3, 1, 80, 1) < 0.15).all()


@pytest.mark.slow
@pytest.mark.parametrize("places, seeds", [(3, 3), (5, 3), (7, 5), (13, 5)])
@pytest.mark.parametrize("sd, most", [(1, 0.065), (2, 0.12)])
def test_errors(places: int, seeds: int, sd: float, most: float) -> None:
    share = errors(places, seeds, sd, 1_500, 2)  # SE 0.55 %
    print(f"{places} places, {seeds} seeds, first {sd} x: any, slope, bend, lack, band {share}")
    assert (share < most).all() and share[0] > 0.03
