"""A classifier of words alone: what a set of captions gives away without its pictures.

Letters: C captions, F features (words and pairs of neighbouring words).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Sequence

import numpy as np
from scipy import optimize, sparse

PENALTY = 1.0
"""Of the squared weights, beside the sum of the losses of all captions."""


def words_alone(
    captions: Sequence[str], right_C: np.ndarray, family_C: Sequence[Hashable], folds: int
) -> np.ndarray:
    """Returns the log odds (C,) that each caption is right, by a logistic regression on words and
    pairs of words that never saw the caption's family: it is trained on the other folds.

    right_C:  bool, the caption is right
    family_C: captions of equal values (of one picture) are in one fold, which depends on the
              families alone
    """
    named = [hashlib.blake2b(repr(family).encode()).digest() for family in family_C]
    rank = {family: place for place, family in enumerate(sorted(set(named)))}
    fold_C = np.array([rank[family] % folds for family in named])
    count_CF = _counts(captions)
    odds_C = np.zeros(len(captions))
    for fold in range(folds):
        held_C = fold_C == fold
        if held_C.any() and 0 < right_C[~held_C].sum() < (~held_C).sum():
            odds_C[held_C] = count_CF[held_C] @ _fitted(count_CF[~held_C], right_C[~held_C])
    return odds_C


def _counts(captions: Sequence[str]) -> sparse.csr_array:
    """Counts the features of every caption (C, F); the first is a constant."""
    column: dict[str, int] = {"": 0}
    rows, columns = [], []
    for row, caption in enumerate(captions):
        words = re.findall(r"\w+", caption.casefold())
        pairs = [f"{one} {other}" for one, other in zip(["^", *words], [*words, "$"], strict=True)]
        features = ["", *words, *pairs]
        rows += [row] * len(features)
        columns += [column.setdefault(feature, len(column)) for feature in features]
    shape = (len(captions), len(column))
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)


def _fitted(count_CF: sparse.csr_array, right_C: np.ndarray) -> np.ndarray:
    """Fits the weights (F,)."""
    sign_C = np.where(right_C, 1.0, -1.0)

    def loss(weight_F: np.ndarray) -> tuple[float, np.ndarray]:
        margin_C = sign_C * (count_CF @ weight_F)
        wrong_C = sign_C / (1 + np.exp(np.clip(margin_C, -500, 500)))
        value = np.logaddexp(0, -margin_C).sum() + PENALTY / 2 * weight_F @ weight_F
        return float(value), PENALTY * weight_F - count_CF.T @ wrong_C

    start = np.zeros(count_CF.shape[1])
    return optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x
