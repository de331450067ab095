"""Chance levels: the score of a model that has learnt nothing, shown beside every score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

import numpy as np
import numpy.typing as npt
from scipy import stats


def recall_chance(k: int, gold_counts: npt.ArrayLike, candidates: int) -> float:
    """Returns R@k of a random ranking, a share in [0, 1], the mean over queries.

    `gold_counts` (queries,) says how many of the `candidates` are right for each query. A query is
    a hit when any of them is among the first k, with the chance 1 - C(N - g, k) / C(N, k); with k
    of N or more every query is. Raises ValueError where there is no query, where a count is not in
    1 ... N, and where k is below 1.
    """
    gold_Q = np.asarray(gold_counts)
    if gold_Q.size == 0 or np.any((gold_Q < 1) | (gold_Q > candidates)):
        raise ValueError(
            f"every query needs between 1 and {candidates} right candidates, got {gold_Q}"
        )
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    counts, queries = np.unique(gold_Q, return_counts=True)
    hits = stats.hypergeom.sf(0, candidates, counts, min(k, candidates))
    return float(np.average(hits, weights=queries))


def majority_level(labels: Iterable[Hashable]) -> float:
    """Returns the accuracy of always giving the most common label, a share in [0, 1].

    Raises ValueError without labels.
    """
    counts = Counter(labels)
    if not counts:
        raise ValueError("the majority level needs at least one label")
    return max(counts.values()) / counts.total()
