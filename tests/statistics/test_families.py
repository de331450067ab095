"""Adjustments and estimators against hand-made cases and enumeration."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.statistics.blocked import analyse
from harness.statistics.families import all_pairs, expected_best, holm, mcnemar
from tests.statistics.tables import noise, table


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]).tolist() == [1, 1]
    assert holm([]).tolist() == []


def test_holm_leaves_unknown_values_out_of_the_family() -> None:
    adjusted = holm([0.02, math.nan, 0.04])
    assert adjusted[[0, 2]].tolist() == pytest.approx([0.04, 0.04]) and math.isnan(adjusted[1])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm([0.5, 1.2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms())
def test_holm_does_not_depend_on_order(p: list[float], random: object) -> None:
    order = list(range(len(p)))
    random.shuffle(order)  # type: ignore[attr-defined]
    np.testing.assert_allclose(holm([p[i] for i in order]), holm(p)[order])
    assert (holm(p) >= p).all()


def test_all_pairs_are_tukey_on_the_blocked_model() -> None:
    rows = np.random.default_rng(4).normal([[0], [1], [3]], 1, size=(3, 4))
    scores = {name: dict(enumerate(row)) for name, row in zip("cde", rows.tolist(), strict=True)}
    pairs = all_pairs(scores)
    assert [(p.design, p.control) for p in pairs] == [("c", "d"), ("c", "e"), ("d", "e")]
    against = {c.design: c for c in analyse(scores, "c").contrasts}
    for pair in pairs[:2]:
        same = against[pair.control]
        assert (pair.delta, pair.se) == pytest.approx((-same.delta, same.se))
        assert pair.critical > same.critical  # three comparisons instead of two
        assert pair.critical == pytest.approx(
            4.339 / math.sqrt(2), abs=1e-3
        )  # q .05, 3 groups, 6 df
        outside = pair.lower > 0 or pair.upper < 0
        assert outside == (pair.p_adjusted < 0.05)


def test_the_only_pair_is_the_primary_contrast() -> None:
    scores = {"c": {0: 0.1, 1: 0.5, 2: 0.3}, "d": {0: 0.4, 1: 0.6, 2: 0.8}}
    (pair,), (contrast,) = all_pairs(scores), analyse(scores, "d").contrasts
    assert pair.p_adjusted == pytest.approx(contrast.p_adjusted, rel=1e-4)
    assert (pair.lower, pair.upper) == pytest.approx((contrast.lower, contrast.upper), rel=1e-4)


def test_all_pairs_of_too_little() -> None:
    assert all_pairs({"c": {0: 1.0, 1: 2.0}}) == () == all_pairs({})
    (pair,) = all_pairs({"c": {0: 1.0}, "d": {0: 2.0}})
    assert not pair.has_interval
    (pair,) = all_pairs({"c": {0: 0.0, 1: 1e-4}, "d": {0: 1e4, 1: 1e4}})
    assert 0 <= pair.p_adjusted < 1e-6


def test_mcnemar_counts_and_p() -> None:
    first = [1, 1, 1, 1, 1, 1, 0, 0, 1]
    second = [1, 0, 0, 0, 0, 0, 1, 0, 1]
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (5, 1)
    assert found.p == pytest.approx(2 * (1 + 6) / 2**6)
    assert mcnemar(first, first).p == 1
    with pytest.raises(ValueError, match="other items"):
        mcnemar(first, second[:-1])


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=7))
@settings(max_examples=30)
def test_expected_best_is_the_mean_over_all_subsets(values: list[float]) -> None:
    expected = [
        np.mean([max(subset) for subset in itertools.combinations(values, k)])
        for k in range(1, len(values) + 1)
    ]
    np.testing.assert_allclose(expected_best(values), expected, atol=1e-12)


def test_expected_best_at_its_ends() -> None:
    values = stats.norm.rvs(size=100, random_state=0)
    curve = expected_best(values)
    assert (curve[0], curve[-1]) == pytest.approx((values.mean(), values.max()))
    for bad in ([], [1.0, math.nan]):
        with pytest.raises(ValueError, match="finite"):
            expected_best(bad)


def wrong_pairs(sd: float, tables: int, seed: int, designs: int = 4, seeds: int = 3) -> float:
    """Share of tables of equal designs with any pair apart; the first is `sd` times as noisy."""
    rng, sd_D = np.random.default_rng(seed), np.ones(designs)
    sd_D[0] = sd
    smallest = [
        min(pair.p_adjusted for pair in all_pairs(table(noise(rng, sd_D, seeds))))
        for _ in range(tables)
    ]
    return float(np.mean(np.array(smallest) < 0.05))


def test_false_pairs_quickly() -> None:
    assert wrong_pairs(1, 150, 1) < 0.09  # 3.5 % expected, SE 1.5 %


@pytest.mark.slow
@pytest.mark.parametrize("designs, seeds", [(3, 3), (4, 3), (6, 5)])
@pytest.mark.parametrize("sd, most", [(1, 0.06), (2, 0.08)])
def test_false_pairs(designs: int, seeds: int, sd: float, most: float) -> None:
    share = wrong_pairs(sd, 2_000, 2, designs, seeds)  # SE 0.5 %
    print(f"Tukey, {designs} designs, {seeds} seeds, first {sd} x: family-wise {share}")
    assert 0.015 < share < most
