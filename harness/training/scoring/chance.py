"""What a model that knows nothing would score: printed beside every score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

import numpy as np
import numpy.typing as npt
from scipy import stats


def recall_chance(k: int, gold_counts: npt.ArrayLike, candidates: int) -> float:
    """R@k of a random ranking, in [0, 1], the mean over queries.

    `gold_counts` [queries] is how many of the `candidates` are right for each query; a query is
    found when any of them is among the first k: 1 - C(N - g, k) / C(N, k). With k of N or more
    every query is found. Raises ValueError when there is no query, or a count is not in 1 ... N.
    """
    gold_Q = np.asarray(gold_counts)
    if gold_Q.size == 0 or np.any((gold_Q < 1) | (gold_Q > candidates)):
        raise ValueError(
            f"every query needs between 1 and {candidates} right candidates, got {gold_Q}"
        )
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    counts, queries = np.unique(gold_Q, return_counts=True)
    found = stats.hypergeom.sf(0, candidates, counts, min(k, candidates))
    return float(np.average(found, weights=queries))


def majority_level(labels: Iterable[Hashable]) -> float:
    """Accuracy of always giving the most common label, in [0, 1].

    Raises ValueError without labels.
    """
    counts = Counter(labels)
    if not counts:
        raise ValueError("the majority level needs at least one label")
    return max(counts.values()) / counts.total()
