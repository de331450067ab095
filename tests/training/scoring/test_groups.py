"""Scores of groups: chance by counting orders, ties, and scorers that know one side only."""

import itertools
import math

import numpy as np
import pytest

from harness.training.scoring.groups import (
    RULES,
    compared,
    margin,
    margins,
    orders,
    paired,
    rules_of,
    shares_of,
)

RNG = np.random.default_rng(0)
PAIR = np.eye(2, dtype=bool)
FOUR = np.eye(4, dtype=bool)
SHAPES = {
    "pair": PAIR,
    "turned": PAIR[::-1],
    "three": np.roll(np.eye(3, dtype=bool), 1, axis=0),
    "four": FOUR,
    "one_sided": np.array([[True, False]]),
    "two_right": np.array([[True, True, False]]),
    "one_of_four": np.array([[False, True, False, False]]),
}
_OF_K = {
    "pair": (1 / 2, 1 / 4, 1 / 4, 1 / 6, 1 / 2),
    "three": (1 / 6, 1 / 27, 1 / 27, 2 / 120, 1 / 3),
    "four": (1 / 24, 1 / 256, 1 / 256, 6 / 5040, 1 / 4),
}
CHANCE = {shape: dict(zip(RULES, chances, strict=False)) for shape, chances in _OF_K.items()}
CHANCE |= {
    "one_sided": {"caption": 1 / 2},
    "two_right": {"caption": 1 / 3},
    "one_of_four": {"caption": 1 / 4},
}
CHANCE["turned"] = CHANCE["pair"]


def means(tables: list[np.ndarray], matches: list[np.ndarray]) -> dict[str, float]:
    return {rule: its.share_N.mean() for rule, its in shares_of(tables, matches).items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_scorer_earns_chance_and_a_perfect_one_all(shape: str) -> None:
    match = SHAPES[shape]
    constant = shares_of([np.zeros(match.shape, np.float32)], [match])
    assert {rule: its.share_N.mean() for rule, its in constant.items()} == pytest.approx(
        CHANCE[shape]
    )
    for its in constant.values():
        assert np.array_equal(its.share_N, its.chance_N)
    perfect = means([np.where(match, 1.0, -1.0)], [match])
    assert set(perfect) == set(CHANCE[shape]) and set(perfect.values()) == {1.0}
    assert set(means([np.where(match, -1.0, 1.0)], [match]).values()) == {0.0}


@pytest.mark.parametrize("shape", ["pair", "three", "one_sided", "two_right", "one_of_four"])
def test_a_random_scorer_earns_chance(shape: str) -> None:
    match = SHAPES[shape]
    tables = list(RNG.standard_normal((6000, *match.shape)))
    for rule, value in means(tables, [match] * len(tables)).items():
        expected = CHANCE[shape][rule]
        assert value == pytest.approx(expected, abs=5 * math.sqrt(expected / len(tables)))


@pytest.mark.parametrize(
    "wanted",
    [
        compared(PAIR, rows=(0, 1), columns=()),
        compared(PAIR, rows=(0, 1), columns=(0, 1)),
        compared(np.eye(3, dtype=bool), rows=(0, 1), columns=(2,)),
        compared(np.array([[True, True, False, False]]), rows=(0,), columns=()),
        frozenset({(0, 1), (2, 1), (2, 3)}),
    ],
)
def test_the_share_of_orders_is_that_of_counting_them(wanted: frozenset[tuple[int, int]]) -> None:
    places = sorted({place for both in wanted for place in both})
    ranks = [dict(zip(places, order, strict=True)) for order in itertools.permutations(places)]
    fitting = sum(all(rank[right] > rank[wrong] for right, wrong in wanted) for rank in ranks)
    assert orders(wanted) == pytest.approx(fitting / len(ranks), rel=1e-12)


def test_what_ties_is_ordered_at_random_and_what_does_not_stands() -> None:
    tie = np.array([[1.0, 0.0], [1.0, 1.0]])  # the second picture has its captions tied
    assert means([tie], [PAIR]) == pytest.approx(
        {
            "group_match": 1.0,
            "text_score": 0.5,
            "picture_score": 0.5,
            "group_score": 1 / 3,
            "caption": 0.75,
        }
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_scorer_of_one_side_or_of_both_apart_has_margin_0_to_the_last_bit(dtype: type) -> None:
    """f(picture) + g(caption), rounded as a model's scores are, of any size."""
    for size in (1e-6, 1.0, 1e4):
        f = (size * RNG.standard_normal((500, 2, 1))).astype(dtype)
        g = RNG.standard_normal((500, 1, 2)).astype(dtype)
        for tables in (f + g, f + 0 * g, g + 0 * f):
            matches = [PAIR] * len(tables)
            assert all(value == 0 for _, value in margins(list(tables), matches))
            assert shares_of(list(tables), matches)["group_match"].share_N.tolist() == [0.5] * 500
    text_only = list(np.repeat(g, 2, axis=1))
    assert means(text_only, matches)["text_score"] == 0  # one order for both pictures: never both
    assert means(text_only, matches)["caption"] == 0.5


def test_four_pictures_read_one_by_one_leave_every_assignment_equal() -> None:
    f, g = RNG.standard_normal((2, 50, 4)).astype(np.float32)
    tables = list(f[:, :, None] + g[:, None, :])
    assert means(tables, [FOUR] * 50)["group_match"] == pytest.approx(1 / 24)


def test_the_margin_is_of_the_right_pairs_and_keeps_what_rounding_cannot_make() -> None:
    table = np.array([[0.5, 0.25], [0.125, 1.0]], dtype=np.float32)
    assert margin(table, PAIR) == 1.125
    assert margin(table, PAIR[::-1]) == -1.125
    small = np.array([[1.0, 1.0], [1.0, 1.0 + 2e-6]], dtype=np.float32)
    assert 1e-6 < margin(small, PAIR) < 3e-6


def test_a_score_that_is_no_number_is_never_right() -> None:
    for place in range(4):
        table = np.where(PAIR, 1.0, -1.0)
        table.ravel()[place] = np.nan
        values = means([table], [PAIR])
        assert values["group_score"] == values["group_match"] == 0.0


def test_statements_are_called_right_as_often_as_they_are() -> None:
    right = [np.array([[value]]) for value in (True, True, False, False, False)]

    def share(*scores: float) -> list[float]:
        tables = [np.array([[score]]) for score in scores]
        return shares_of(tables, right)["statement"].share_N.tolist()

    assert share(5, 4, 3, 2, 1) == [1, 1, 1, 1, 1]
    assert share(3, 1, 2, 0, -1) == [1, 0, 0, 1, 1]
    assert share(0, 0, 0, 0, 0) == pytest.approx([0.4, 0.4, 0.6, 0.6, 0.6])
    chance = shares_of([np.zeros((1, 1))] * 5, right)["statement"].chance_N
    assert chance.mean() == pytest.approx(0.4 * 0.4 + 0.6 * 0.6)


def test_statements_and_groups_of_a_mixed_set_know_their_groups() -> None:
    matches = [np.array([[True]]), PAIR, np.array([[False]])]
    tables = [np.ones((1, 1)), np.where(PAIR, 1.0, 0.0), np.zeros((1, 1))]
    shares = shares_of(tables, matches)
    assert shares["statement"].group_N.tolist() == [0, 2]
    assert shares["caption"].group_N.tolist() == [1, 1]
    assert set(shares) == set(RULES)


def test_the_comparison_of_two_scorers_is_mcnemars() -> None:
    one = np.array([1, 1, 1, 1, 1, 0, 1, 0.5])
    other = np.array([0, 0, 0, 0, 0, 1, 1, 0.5])
    more, less, p = paired(one, other)
    assert (more, less) == (5 / 8, 1 / 8)
    assert p == pytest.approx(2 * (math.comb(6, 0) + math.comb(6, 1)) / 2**6)
    assert paired(one, one) == (0, 0, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_have_no_margin_and_no_right_assignment(value: float) -> None:
    tables = [np.array([[value, 0.0], [0.0, 1.0]]), np.full((2, 2), value)]
    assert all(math.isnan(margin(table, PAIR)) for table in tables)
    assert shares_of(tables, [PAIR, PAIR])["group_match"].share_N.tolist() == [0.0, 0.0]


def test_orders_are_counted_once_for_groups_of_one_size() -> None:
    orders.cache_clear()
    turned = [np.roll(np.eye(5, dtype=bool), by, axis=0) for by in range(5)]
    tables = [RNG.normal(size=(5, 5)) for _ in turned]
    whole = shares_of(tables, turned)
    counted = orders.cache_info().misses
    apart = [shares_of([table[:, its.argmax(1)]], [turned[0]]) for table, its in zip(
        tables, turned, strict=True)]  # fmt: skip
    assert orders.cache_info().misses == counted
    for rule, its in whole.items():
        assert its.share_N.tolist() == [v for one in apart for v in one[rule].share_N.tolist()]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_group_has_the_rules_of_its_size(shape: str) -> None:
    match = SHAPES[shape]
    assert set(shares_of([np.zeros(match.shape)], [match])) == set(rules_of(*match.shape))
