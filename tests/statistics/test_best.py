"""Which may be the best, against Student's t, by hand, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.statistics.additive import fit
from harness.statistics.best import candidates
from harness.statistics.dunnett import one_sided_critical
from tests.statistics.tables import noise, table

SCORES_DS = np.random.default_rng(8).normal([[0], [3], [4], [4.5]], 0.8, size=(4, 4))


def test_two_designs_are_the_one_sided_paired_t_test() -> None:
    rows = np.array([[0.50, 0.54, 0.52, 0.51], [0.53, 0.55, 0.54, 0.55]])
    for level in (0.2, 0.05, 0.01):
        worse = candidates(table(rows), alpha=level)[0]
        p = stats.ttest_rel(rows[0], rows[1], alternative="less").pvalue
        assert worse.may_be_best == (p > level)
    bound = stats.ttest_rel(rows[0], rows[1], alternative="less").confidence_interval(0.95).high
    assert candidates(table(rows), alpha=0.05)[0].upper == pytest.approx(max(0, bound))


def test_bounds_by_hand() -> None:
    ours, model = candidates(table(SCORES_DS)), fit(table(SCORES_DS))
    critical = one_sided_critical(3, model.df, 0.05)

    def bound(d: int, other: int, side: int) -> float:
        pair = model.difference(str(d), str(other))
        return pair.delta + side * critical * pair.se

    may_be_best = [min(bound(d, o, 1) for o in range(4) if o != d) > 0 for d in range(4)]
    assert [c.may_be_best for c in ours] == may_be_best == [False, False, True, True]
    means = SCORES_DS.mean(axis=1)
    for d, candidate in enumerate(ours):
        assert candidate.gap == pytest.approx(means[d] - np.delete(means, d).max())
        rivals = [other for other in (2, 3) if other != d]
        lowest = min(0, *(bound(d, other, -1) for other in rivals))
        assert candidate.lower == pytest.approx(lowest)
        assert candidate.upper >= max(0, candidate.gap) or not candidate.may_be_best
    assert ours[0].upper == 0  # certain: it is not the best


def test_one_design_may_be_the_best_alone() -> None:
    clear = np.array([[0.0, 0.1, 0.05], [0.1, 0.0, 0.08], [9.0, 9.1, 9.1]])
    ours = candidates(table(clear))
    assert [c.may_be_best for c in ours] == [False, False, True]
    assert ours[2].lower == 0 < ours[2].upper and ours[2].share_best > 0.999


def test_lower_is_better_mirrors_everything() -> None:
    plain, mirrored = (
        candidates(table(SCORES_DS)),
        candidates(table(-SCORES_DS), higher_is_better=False),
    )
    for one, other in zip(plain, mirrored, strict=True):
        assert (other.gap, other.lower, other.upper) == pytest.approx(
            (-one.gap, -one.upper, -one.lower)
        )
        assert (other.may_be_best, other.share_best) == (one.may_be_best, one.share_best)


def test_shares_are_draws_of_the_means() -> None:
    two = table(SCORES_DS[2:])
    shares = [c.share_best for c in candidates(two)]
    t = stats.ttest_rel(SCORES_DS[3], SCORES_DS[2], alternative="less").pvalue
    assert sum(shares) == pytest.approx(1) and shares[1] == pytest.approx(t, abs=0.01)
    assert shares == [c.share_best for c in candidates(two)]


def test_too_little_to_say() -> None:
    assert candidates({"a": {0: 1.0}}) == () == candidates({})
    with pytest.raises(ValueError, match="share one seed"):
        candidates({"a": {0: 1.0}, "b": {0: 2.0}})
    with pytest.raises(ValueError, match="no variation"):
        candidates({"a": {0: 1.0, 1: 2.0}, "b": {0: 2.0, 1: 3.0}})
    assert candidates({"a": {0: 1.0, 1: 2.0}, "b": {0: math.nan}}) == ()


def kept(best_D: np.ndarray, seeds: int, sd: float, tables: int, seed: int) -> float:
    """Share of tables whose set holds the truly best design, which is `sd` times as noisy."""
    rng, sd_D, truth = np.random.default_rng(seed), np.ones(len(best_D)), int(best_D.argmax())
    sd_D[truth] = sd
    inside = [
        candidates(table(best_D[:, None] + noise(rng, sd_D, seeds)))[truth].may_be_best
        for _ in range(tables)
    ]
    return float(np.mean(inside))


def test_the_best_is_kept_quickly() -> None:
    assert kept(np.array([0, 0, 0, 1e-9]), 3, 1, 80, 1) > 0.85  # SE 2.4 %


@pytest.mark.slow
@pytest.mark.parametrize("designs, seeds", [(3, 3), (7, 3), (13, 5)])
@pytest.mark.parametrize("gap", [1e-9, 1.0])
@pytest.mark.parametrize("sd, least", [(1, 0.93), (2, 0.9)])
def test_the_best_is_kept(designs: int, seeds: int, gap: float, sd: float, least: float) -> None:
    truth_D = np.zeros(designs)
    truth_D[designs // 2] = gap
    share = kept(truth_D, seeds, sd, 800, 2)  # SE 0.8 %
    print(f"best of {designs}, {seeds} seeds, ahead by {gap:.0f} SD, {sd} x as noisy: {share}")
    assert share > least
