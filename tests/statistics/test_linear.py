"""Weighted sums of designs against closed forms, and their tests against statsmodels."""

import math

import numpy as np
import pytest

from harness.statistics.additive import fit
from harness.statistics.linear import combination, f_test
from tests.statistics.tables import table

SCORES_DS = np.random.default_rng(3).normal(size=(4, 5)) + np.arange(5) + [[0], [1], [0], [2]]


def test_a_pair_is_the_difference_of_the_primary_analysis() -> None:
    for missing in (False, True):
        scores_DS = SCORES_DS.copy()
        if missing:
            scores_DS[1, 2] = scores_DS[3, 0] = math.nan
        model = fit(table(scores_DS))
        pair = combination(model, [0, 1, 0, -1])
        same = model.difference("1", "3")
        assert (pair.estimate, pair.se) == pytest.approx((same.delta, same.se))
        assert f_test(model, [[0, 1, 0, -1]]).p == pytest.approx(pair.p)
        assert f_test(model, [[0, 2, 0, -2], [0, 1, 0, -1]]).df == 1  # twice the same question


def test_a_level_is_the_mean_over_seeds() -> None:
    model = fit(table(SCORES_DS))
    for d in range(4):
        level = combination(model, np.eye(4)[d])
        assert level.estimate == pytest.approx(SCORES_DS[d].mean())
        assert level.se >= math.sqrt(model.mse / 5) * (1 - 1e-9)
    lower, upper = level.interval(0.05)
    assert (upper - lower) / 2 == pytest.approx(2.1788 * level.se, rel=1e-4)  # t, 12 df


def test_what_a_seed_does_to_all_changes_no_error() -> None:
    shifted = SCORES_DS + np.array([5.0, 0, -9, 2, 1])
    for weights in ([1, 0, 0, 0], [0.25] * 4, [1, -2, 0, 1]):
        plain, other = (combination(fit(table(s)), weights) for s in (SCORES_DS, shifted))
        assert other.se == pytest.approx(plain.se)


def test_the_omnibus_is_the_blocked_f_test() -> None:
    means_D, means_S = SCORES_DS.mean(1), SCORES_DS.mean(0)
    residual_DS = SCORES_DS - means_D[:, None] - means_S + SCORES_DS.mean()
    f = 5 * means_D.var(ddof=1) / ((residual_DS**2).sum() / 12)
    test = f_test(fit(table(SCORES_DS)), np.diff(np.eye(4), axis=0))
    assert (test.f, test.df, test.df_error) == (pytest.approx(f), 3, 12)


def test_what_cannot_be_compared_is_refused() -> None:
    apart = {"a": {0: 1.0, 1: 2.0}, "b": {0: 2.0, 1: 2.5}, "c": {2: 1.0, 3: 2.0}}
    with pytest.raises(ValueError, match="share seeds"):
        combination(fit(apart), [1, 0, -1])
    with pytest.raises(ValueError, match="degree of freedom"):
        f_test(fit({"a": {0: 1.0}, "b": {0: 2.0}}), [[1, -1]])


def test_no_variation_is_no_certainty() -> None:
    model = fit(table(np.array([[1.0, 1, 1], [2, 2, 2], [4, 4, 4]])))
    assert math.isnan(f_test(model, [[1, -1, 0]]).p) and math.isnan(f_test(model, [[1, -1, 0]]).f)
    assert math.isnan(combination(model, [1, -1, 0]).se)
