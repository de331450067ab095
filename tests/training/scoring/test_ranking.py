"""Rankings on hand-made scores; what a perfect, a constant and a tied scorer earn."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from harness.training.randomness import stream
from harness.training.scoring.chance import recall_chance
from harness.training.scoring.ranking import Shortlist, hits_at, level_of, reranked_hits_at


def test_a_perfect_scorer_always_hits() -> None:
    right = np.eye(6, dtype=bool)
    assert hits_at(right.astype(float), right, 1).tolist() == [1.0] * 6


def test_a_model_that_gives_no_numbers_finds_nothing() -> None:
    """All scores NaN; and the score of one wrong candidate of each query."""
    right = np.eye(3, 4, dtype=bool)
    nothing = np.full((3, 4), np.nan, dtype=np.float32)
    assert hits_at(nothing, right, 1).tolist() == [0.0] * 3
    some = np.where(np.eye(3, 4, k=1, dtype=bool), nothing, right)
    assert hits_at(some, right, 1).tolist() == [0.0] * 3
    assert hits_at(some, right, 2).tolist() == [1.0] * 3


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**31))
def test_a_constant_scorer_earns_chance(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    right = rng.random((9, 15)) < 0.2
    right[:, 0] = True
    hits = hits_at(np.zeros((9, 15)), right, k)
    np.testing.assert_allclose(hits.mean(), recall_chance(k, right.sum(1), 15))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**31))
def test_hits_are_the_mean_over_tie_orders(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (1, 6)).astype(float)
    right = rng.random((1, 6)) < 0.4
    right[0, rng.integers(6)] = True
    hits = []
    for _ in range(3000):
        order = np.lexsort((rng.random(6), -scores[0]))
        hits.append(right[0, order[:k]].any())
    assert abs(hits_at(scores, right, k)[0] - np.mean(hits)) < 0.05


def by_all_orders(
    first: list[int], second: list[int], right: list[bool], rerank: int, k: int
) -> float:
    """The mean over all orders of ties, in both stages: first by one score, then the best of these
    by the other, the rest behind.
    """
    every = list(itertools.permutations(range(len(first))))
    hits = 0
    for one in every:
        by_first = sorted(one, key=lambda c: -first[c])
        listed = set(by_first[:rerank])
        for other in every:
            final = sorted(other, key=lambda c: (c not in listed, -second[c] * (c in listed)))
            hits += any(right[c] for c in final[:k])
    return hits / len(every) ** 2


FEW = st.lists(st.integers(0, 2), min_size=5, max_size=5)


@settings(max_examples=25, deadline=None)
@given(FEW, FEW, st.lists(st.booleans(), min_size=4, max_size=4), st.integers(1, 5))
def test_reranked_hits_are_the_mean_over_all_tie_orders(
    first: list[int], second: list[int], right: list[bool], rerank: int
) -> None:
    right = [*right, True]
    scores, right_QC = np.array([first], float), np.array([right])
    shortlist = Shortlist.of(scores, right_QC, rerank)
    for k in (1, 3):
        hits = reranked_hits_at(shortlist, np.array([second], float), right_QC, k)
        assert hits == pytest.approx([by_all_orders(first, second, right, rerank, k)], rel=1e-12)


@pytest.mark.parametrize("rerank", [1, 4, 9, 15, 40])
@pytest.mark.parametrize("k", [1, 5, 10])
def test_constant_scorers_in_both_stages_earn_chance(rerank: int, k: int) -> None:
    rng = np.random.default_rng(rerank)
    right = rng.random((9, 15)) < 0.2
    right[:, 0] = True
    shortlist = Shortlist.of(np.zeros((9, 15)), right, rerank)
    hits = reranked_hits_at(shortlist, np.ones((9, 15)), right, k)
    assert hits.mean() == pytest.approx(recall_chance(k, right.sum(1), 15), rel=1e-12)


def test_one_opinion_is_enough() -> None:
    """A first stage without an opinion and a second that knows: found where it was chosen. The
    other way round: found where it is among the shortlist's first.
    """
    flat, right = np.zeros((8, 8)), np.eye(8, dtype=bool)
    knows = right.astype(float)
    shortlist = Shortlist.of(flat, right, 3)
    assert shortlist.surplus == 8 * 5
    assert reranked_hits_at(shortlist, knows, right, 1) == pytest.approx(3 / 8)
    shortlist = Shortlist.of(knows, right, 2)
    assert reranked_hits_at(shortlist, flat, right, 1) == pytest.approx(1 / 2)
    shortlist = Shortlist.of(knows, right, 1)
    assert shortlist.surplus == 0
    assert reranked_hits_at(shortlist, flat, right, 1).tolist() == [1.0] * 8


def test_nan_helps_in_neither_stage() -> None:
    right, knows = np.eye(4, dtype=bool), np.eye(4)
    nothing = np.full((4, 4), np.nan)
    shortlist = Shortlist.of(nothing, right, 2)
    assert reranked_hits_at(shortlist, knows, right, 2).tolist() == [0.0] * 4
    for first in (knows, np.zeros((4, 4))):
        shortlist = Shortlist.of(first, right, 2)
        assert reranked_hits_at(shortlist, nothing, right, 2).tolist() == [0.0] * 4


def drawn_by(seed: int, scores: np.ndarray, right: np.ndarray) -> Shortlist:
    return Shortlist.of(scores, right, 2).drawn(lambda query: stream(seed, "ties", query))


def test_ties_drawn_by_lot_fill_the_shortlist_and_are_fair() -> None:
    scores = np.array([[3.0, 1, 1, 1, 0]])
    right = np.array([[False, True, False, False, False]])
    every = [drawn_by(seed, scores, right) for seed in range(3000)]
    assert all(each.surplus == 0 and each.scored_QC.sum() == 2 for each in every)
    counts = np.sum([each.scored_QC[0] for each in every], axis=0)
    assert counts[0] == 3000 and counts[4] == 0
    assert np.abs(counts[1:4] - 1000).max() < 120
    second = np.array([[0.0, 1, 1, 1, 9]])
    hits = [reranked_hits_at(each, second, right, 1)[0] for each in every]
    assert np.mean(hits) == pytest.approx(1 / 3, abs=0.04)


def test_a_level_pools_both_directions() -> None:
    """Two images and three texts; text 2 is of image 1 as text 1 is."""
    match = np.array([[True, False, False], [False, True, True]])
    hits = {"i2t_1": np.array([1.0, 0.5]), "t2i_1": np.array([1.0, 0.25, 0.2])}
    level = level_of(hits, match, 1)
    assert (level.name, level.successes, level.items) == ("r_at_1", 2, 5)
    assert level.chance == pytest.approx((1 / 3 + 2 / 3 + 3 * (1 / 2)) / 5)


def test_successes_that_add_up_to_a_whole_are_not_cut_by_rounding() -> None:
    match = np.ones((10, 1), dtype=bool)
    hits = {"i2t_1": np.full(10, 0.1), "t2i_1": np.zeros(1)}
    assert sum([0.1] * 10) < 1 and level_of(hits, match, 1).successes == 1
