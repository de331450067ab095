"""Descriptive comparisons, rankings, the front and earlier variances, by hand and by scipy."""

import math

import numpy as np
import pytest
from scipy import special, stats

from harness.statistics.agreement import kendall_tau, kendall_w
from harness.statistics.blocked import analyse
from harness.statistics.descriptive import probability_of_improvement, seeds_and_items
from harness.statistics.dunnett import dunnett_critical
from harness.statistics.earlier import Prior, prior, second_opinion
from harness.statistics.pareto import dominated_by
from tests.statistics.tables import noise, table


def named(*values: float) -> dict[str, float]:
    return dict(zip("abcdef", values, strict=False))


# -- probability of improvement


def test_improvement_is_mann_and_whitneys_share() -> None:
    runs, others = [0.3, 0.5, 0.5, 0.9], [0.5, 0.2, 0.4]
    chance = probability_of_improvement(runs, [*others, math.nan])
    assert chance.estimate == pytest.approx(stats.mannwhitneyu(runs, others).statistic / 12)
    mirrored = probability_of_improvement(others, runs)
    assert (1 - mirrored.upper, 1 - mirrored.lower) == pytest.approx((chance.lower, chance.upper))
    assert 0 < chance.lower < chance.estimate < chance.upper < 1


def test_improvement_of_runs_that_are_all_above() -> None:
    chance = probability_of_improvement([4, 5, 6], [1, 2, 3])
    assert (chance.estimate, chance.upper) == (1, 1) and 0.45 < chance.lower < 0.55
    assert probability_of_improvement([1, 2, 3], [4, 5, 6]).upper == pytest.approx(1 - chance.lower)


def test_improvement_of_too_few() -> None:
    assert all(map(math.isnan, probability_of_improvement([], [1.0])))
    one = probability_of_improvement([2.0], [1.0])
    assert one.estimate == 1 and math.isnan(one.lower)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("shift", [0.0, 0.8, 2.0])
def test_improvement_covers(seeds: int, shift: float) -> None:
    rng, truth, inside = np.random.default_rng(3), stats.norm.cdf(shift / math.sqrt(2)), 0
    for _ in range(2_000):
        ours = probability_of_improvement(rng.normal(size=seeds) + shift, rng.normal(size=seeds))
        inside += ours.lower <= truth <= ours.upper
    print(f"probability of improvement, {seeds} seeds, {shift} SD: covered {inside / 2_000}")
    assert inside / 2_000 > 0.89


# -- seeds and items


def test_the_bootstrap_draws_seeds_and_items() -> None:
    rng = np.random.default_rng(4)
    by_seed = rng.normal(size=(5, 1)) + np.zeros((5, 80))
    seeds_alone = seeds_and_items(by_seed, np.zeros((5, 80)))
    sd = by_seed[:, 0].std() / math.sqrt(5)  # of a mean of five values drawn again
    assert seeds_alone.upper - seeds_alone.lower == pytest.approx(2 * 1.96 * sd, rel=0.15)
    by_item = rng.normal(size=(1, 80)) + np.zeros((5, 80))
    items_alone = seeds_and_items(by_item, np.zeros((5, 80)))
    sd = by_item[0].std() / math.sqrt(80)
    assert items_alone.upper - items_alone.lower == pytest.approx(2 * 1.96 * sd, rel=0.1)
    assert items_alone.estimate == pytest.approx(by_item.mean())
    assert items_alone == seeds_and_items(by_item, np.zeros((5, 80)))


def test_the_bootstrap_refuses_what_does_not_pair() -> None:
    for shape in ((3, 4), (2, 5), (0, 5), (5,)):
        with pytest.raises(ValueError, match="must pair"):
            seeds_and_items(np.zeros((3, 5) if shape != (0, 5) else shape), np.zeros(shape))


# -- rankings


def test_tau_is_scipys_over_shared_designs() -> None:
    first, second = named(1, 2, 3, 4, math.nan), named(2, 1, 3, 4, 5) | {"z": 0.0}
    tau = kendall_tau(first, second)
    expected = stats.kendalltau([1, 2, 3, 4], [2, 1, 3, 4])
    assert (tau.designs, tau.coefficient, tau.p) == (4, expected.statistic, expected.pvalue)
    assert math.isnan(kendall_tau(named(1), named(2)).coefficient)


def test_w_is_friedmans_statistic() -> None:
    rows = np.random.default_rng(5).integers(0, 5, size=(4, 6)).astype(float)  # with ties
    w = kendall_w([named(*row) for row in rows])
    friedman = stats.friedmanchisquare(*rows.T)
    assert w.coefficient == pytest.approx(friedman.statistic / (4 * 5))
    assert w.p == pytest.approx(friedman.pvalue, abs=0.05)


def test_w_at_its_ends() -> None:
    alike = kendall_w([named(1, 2, 3, 4, 5)] * 3)
    assert alike.coefficient == pytest.approx(1) and alike.p < 0.001
    assert kendall_w([named(1, 2, 3), named(3, 2, 1)]).coefficient == pytest.approx(0)
    assert math.isnan(kendall_w([named(1, 1), named(2, 2)]).coefficient)
    with pytest.raises(ValueError, match="two rankings"):
        kendall_w([named(1, 2)])


# -- the front


def test_the_front_by_hand() -> None:
    cost, score = named(1, 2, 3, 2, 1, 9), named(5, 7, 6, 7, 4, math.nan)
    front = dominated_by(cost, score)
    # b and d are alike, so neither beats the other.
    assert front == {"a": None, "b": None, "c": "b", "d": None, "e": "a"}
    losses = {name: -value for name, value in score.items()}
    assert dominated_by(cost, losses, higher_is_better=False) == front


# -- earlier variances


def test_a_prior_meets_smyths_moments() -> None:
    rng = np.random.default_rng(6)
    df = rng.integers(2, 12, size=4_000)
    true = 0.04 * 8 / rng.chisquare(8, 4_000)
    variances = true * rng.chisquare(df) / df
    before = prior(variances.tolist(), df.tolist())
    assert before.variance == pytest.approx(0.04, rel=0.07) and 6 < before.df < 10
    e = np.log(variances) - special.digamma(df / 2) + np.log(df / 2)
    excess = e.var(ddof=1) - special.polygamma(1, df / 2).mean()
    assert special.polygamma(1, before.df / 2) == pytest.approx(excess)


def test_variances_that_agree_count_without_end() -> None:
    before = prior([1.0, 1.01, 0.99], [4, 4, 4])
    assert before.df == math.inf
    with pytest.raises(ValueError, match="three earlier studies"):
        prior([1.0, 2.0], [3, 3])
    with pytest.raises(ValueError, match="with a spread"):
        prior([1.0, 2.0, 0.0], [3, 3, 3])


def test_a_second_opinion_by_hand() -> None:
    analysis = analyse(table(noise(np.random.default_rng(7), np.ones(3), 3)), "0")
    (first, _) = second_opinion(analysis, Prior(variance=4.0, df=12), guarded=False)
    variance = (12 * 4.0 + 4 * analysis.mse) / 16
    assert first.se == pytest.approx(math.sqrt(2 * variance / 3)) and first.df == 16
    assert first.upper - first.lower == pytest.approx(2 * dunnett_critical(2, 16, 0.05) * first.se)
    (wary, _) = second_opinion(analysis, Prior(variance=4.0, df=12))
    assert wary.se == pytest.approx(math.sqrt(2 * max(variance, 4.0, analysis.mse) / 3))


def wrong(factor: float, guarded: bool, tables: int) -> float:
    """Share of false differences, two designs and three seeds, where a study is `factor` times as
    noisy as the earlier ones of which a prior of eight degrees of freedom tells."""
    rng, count = np.random.default_rng(8), 0
    for _ in range(tables):
        sd = factor * math.sqrt(8 / rng.chisquare(8))
        analysis = analyse(table(sd * noise(rng, np.ones(2), 3)), "0")
        (opinion,) = second_opinion(analysis, Prior(variance=1.0, df=8), guarded=guarded)
        count += opinion.p_adjusted < 0.05
    return count / tables


@pytest.mark.slow
def test_a_second_opinion_errs_where_spreads_change() -> None:
    plain = [wrong(factor, False, 4_000) for factor in (1, 2, 4)]
    guarded = [wrong(factor, True, 4_000) for factor in (1, 2, 4)]
    print(f"moderated at 1, 2, 4 times the spread: {plain}; guarded: {guarded}")
    assert 0.04 < plain[0] < 0.06 and plain[1] > 0.08 and guarded[0] < 0.05
    assert guarded[1] < plain[1] and guarded[2] < plain[2]
