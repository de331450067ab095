"""Retrieval on hand-made scores; what a perfect, a constant and a tied scorer earn."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from harness.statistics.chance import recall_chance
from harness.tasks.retrieval import hits_at


def test_a_perfect_scorer_always_hits() -> None:
    right = np.eye(6, dtype=bool)
    assert hits_at(right.astype(float), right, 1).tolist() == [1.0] * 6


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
    found = []
    for _ in range(3000):
        order = np.lexsort((rng.random(6), -scores[0]))
        found.append(right[0, order[:k]].any())
    assert abs(hits_at(scores, right, k)[0] - np.mean(found)) < 0.05
