"""Hits among the k best of a ranking; ties count as their expectation over random orders."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from harness.training.scoring.chance import recall_chance


def hits_at(scores_QC: np.ndarray, right_QC: np.ndarray, k: int) -> np.ndarray:
    """Q expected hits in [0, 1]: a right candidate among the k best, ties in random order. A right
    one whose score is NaN is behind all wrong ones, a wrong one ahead of all right ones.
    """
    scores_QC = np.where(np.isnan(scores_QC), np.where(right_QC, -np.inf, np.inf), scores_QC)
    best_Q1 = np.where(right_QC, scores_QC, -np.inf).max(axis=1, keepdims=True)
    ahead_Q = ((scores_QC > best_Q1) & ~right_QC).sum(axis=1)
    tied_Q = (scores_QC == best_Q1).sum(axis=1)
    right_tied_Q = ((scores_QC == best_Q1) & right_QC).sum(axis=1)
    return np.array(
        [
            _found(right, tied, k - ahead)
            for right, tied, ahead in zip(right_tied_Q, tied_Q, ahead_Q, strict=True)
        ]
    )


def _found(right: int, tied: int, places: int) -> float:
    """The chance that one of the right ones among the tied comes in the places that are left."""
    if places < 1:
        return 0.0
    return 1.0 if right == tied else recall_chance(places, [right], tied)


def mean_percent(hits: dict[str, np.ndarray]) -> float:
    return 100 * float(np.mean([found.mean() for found in hits.values()]))


def level_of(hits: dict[str, np.ndarray], match_IT: Tensor, k: int) -> dict[str, Any]:
    match = match_IT.cpu().numpy()
    pooled = np.concatenate([hits[f"i2t_{k}"], hits[f"t2i_{k}"]])
    images, texts = match.shape
    chance = (
        images * recall_chance(k, match.sum(1), texts)
        + texts * recall_chance(k, match.sum(0), images)
    ) / (images + texts)
    return {"successes": int(pooled.sum()), "items": len(pooled), "chance": float(chance)}
