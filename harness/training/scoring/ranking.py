"""Hits among the k best of a ranking, where ties count as their expectation over random orders.

A ranking may have two stages: the first chooses a shortlist, which the second puts in order.

Letters: Q queries, C candidates.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np

from harness.training.scoring.chance import recall_chance
from harness.training.scoring.contract import Level

BEHIND = np.finfo(np.float64).min
"""The score of what the second stage did not score: behind every number, and alike for all."""


def hits_at(scores_QC: np.ndarray, right_QC: np.ndarray, k: int) -> np.ndarray:
    """Returns for every query (Q,) the chance that a right candidate is among the k best, where
    tied candidates stand in random order.

    scores_QC: (Q, C) float, higher is better; a right candidate whose score is NaN is put behind
               all others, a wrong one ahead of all others
    right_QC:  (Q, C) bool, at least one a query
    """
    scores_QC = _against_nan(scores_QC, right_QC)
    best_Q1 = np.where(right_QC, scores_QC, -np.inf).max(axis=1, keepdims=True)
    ahead_Q = ((scores_QC > best_Q1) & ~right_QC).sum(axis=1)
    tied_Q = (scores_QC == best_Q1).sum(axis=1)
    right_tied_Q = ((scores_QC == best_Q1) & right_QC).sum(axis=1)
    return np.array(
        [
            _among_first(right, tied, k - ahead)
            for right, tied, ahead in zip(right_tied_Q, tied_Q, ahead_Q, strict=True)
        ]
    )


def _against_nan(scores_QC: np.ndarray, right_QC: np.ndarray) -> np.ndarray:
    """Replaces NaN so that it never helps: -inf where the candidate is right, else inf."""
    return np.where(np.isnan(scores_QC), np.where(right_QC, -np.inf, np.inf), scores_QC)


def _among_first(right: int, tied: int, places: int) -> float:
    """Returns the chance that one of the `right` among `tied` candidates in random order comes in
    the first `places`.
    """
    if places < 1 or not right:
        return 0.0
    return 1.0 if right == tied else recall_chance(places, [right], tied)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shortlist:
    """The candidates of every query that a second stage scores.

    sure_QC:  (Q, C) bool, in the shortlist
    tied_QC:  (Q, C) bool, tied for its last places: `places_Q` of them, in random choice, are in it
    places_Q: (Q,) int, at least 1
    """

    sure_QC: np.ndarray
    tied_QC: np.ndarray
    places_Q: np.ndarray

    @staticmethod
    def of(scores_QC: np.ndarray, right_QC: np.ndarray, k: int) -> Shortlist:
        """Chooses the k best of every query, or all where there are fewer. `scores_QC` and
        `right_QC` are those of `hits_at`.
        """
        scores_QC = _against_nan(scores_QC, right_QC)
        k = min(k, scores_QC.shape[1])
        last_Q1 = np.partition(scores_QC, -k, axis=1)[:, -k, None]
        sure_QC = scores_QC > last_Q1
        return Shortlist(
            sure_QC=sure_QC, tied_QC=scores_QC == last_Q1, places_Q=k - sure_QC.sum(axis=1)
        )

    @property
    def scored_QC(self) -> np.ndarray:
        """(Q, C) bool: what the second stage has to score."""
        return self.sure_QC | self.tied_QC

    @property
    def surplus(self) -> int:
        """How many pairs more than k a query there are to score, because of ties."""
        return int(self.tied_QC.sum() - self.places_Q.sum())

    def drawn(self, stream: Callable[[int], np.random.Generator]) -> Shortlist:
        """Returns a shortlist without surplus: the last places are drawn among the tied, by the
        stream of each query.
        """
        sure_QC = self.sure_QC.copy()
        for query, places in enumerate(self.places_Q):
            tied = np.flatnonzero(self.tied_QC[query])
            sure_QC[query, stream(query).choice(tied, places, replace=False)] = True
        return Shortlist(
            sure_QC=sure_QC,
            tied_QC=np.zeros_like(sure_QC),
            places_Q=np.zeros_like(self.places_Q),
        )


def reranked_hits_at(
    shortlist: Shortlist, scores_QC: np.ndarray, right_QC: np.ndarray, k: int
) -> np.ndarray:
    """Returns for every query (Q,) the chance that a right candidate is among the k best, where the
    second stage orders the shortlist and all else stands behind it, tied. The chance is over the
    random order of ties in both stages, so that a scorer without any opinion earns exactly chance.

    `scores_QC`: (Q, C) scores of the second stage, read where `shortlist.scored_QC`; the rest as in
    `hits_at`.
    """
    scores_QC = np.where(shortlist.scored_QC, scores_QC.astype(np.float64), BEHIND)
    hits_Q = hits_at(scores_QC, right_QC, k)
    scores_QC = _against_nan(scores_QC, right_QC)
    for query in np.flatnonzero(shortlist.tied_QC.sum(axis=1) > shortlist.places_Q):
        hits_Q[query] = _over_choices(
            scores_QC[query],
            right_QC[query] & (scores_QC[query] > -np.inf),
            shortlist.tied_QC[query],
            shortlist.sure_QC[query],
            int(shortlist.places_Q[query]),
            k,
        )
    return hits_Q


def _over_choices(
    scores_C: np.ndarray,
    right_C: np.ndarray,
    tied_C: np.ndarray,
    sure_C: np.ndarray,
    places: int,
    k: int,
) -> float:
    """Returns the chance of a hit of one query, over all choices of `places` among the tied.

    It walks down the second stage's order, block by block, and keeps the probability of every
    number of tied candidates chosen so far without a right one.
    """
    hit = 0.0
    ahead, left = 0, int(tied_C.sum())
    chosen_before: dict[int, float] = {0: 1.0}
    for wrong_sure, wrong_tied, right_sure, right_tied in _blocks(
        scores_C, right_C, tied_C, sure_C
    ):
        chosen_after: dict[int, float] = defaultdict(float)
        for chosen, probability in chosen_before.items():
            free = places - chosen
            each = (range(min(count, free) + 1) for count in (wrong_tied, right_tied))
            for wrong, right in itertools.product(*each):
                rest, later = free - wrong - right, left - wrong_tied - right_tied
                if not 0 <= rest <= later:
                    continue
                ways = math.comb(wrong_tied, wrong) * math.comb(right_tied, right)
                share = probability * (ways * math.comb(later, rest) / math.comb(left, free))
                if rights := right_sure + right:
                    block = wrong_sure + wrong + rights
                    hit += share * _among_first(rights, block, k - ahead - chosen)
                else:
                    chosen_after[chosen + wrong] += share
        chosen_before = chosen_after
        ahead, left = ahead + wrong_sure, left - wrong_tied - right_tied
    if not chosen_before:
        return hit
    size = int(sure_C.sum()) + places
    behind = _among_first(int(right_C.sum()), len(scores_C) - size, k - size)
    return hit + sum(chosen_before.values()) * behind


def _blocks(
    scores_C: np.ndarray, right_C: np.ndarray, tied_C: np.ndarray, sure_C: np.ndarray
) -> Iterator[tuple[int, int, int, int]]:
    """Yields, from the best score down, how many candidates of the shortlist are wrong and sure,
    wrong and tied, right and sure, right and tied. A block holds those of one score; scores that no
    right one has are joined, because the order among wrong ones changes nothing.
    """
    listed_C = sure_C | tied_C
    above = np.inf
    for score in np.unique(scores_C[listed_C & right_C])[::-1]:
        yield _counts((scores_C > score) & (scores_C <= above) & ~right_C, right_C, tied_C, sure_C)
        yield _counts(scores_C == score, right_C, tied_C, sure_C)
        above = np.nextafter(score, -np.inf)
    yield _counts((scores_C <= above) & ~right_C, right_C, tied_C, sure_C)


def _counts(
    block_C: np.ndarray, right_C: np.ndarray, tied_C: np.ndarray, sure_C: np.ndarray
) -> tuple[int, int, int, int]:
    wrong_C, right_C = block_C & ~right_C, block_C & right_C
    kinds = (wrong_C & sure_C, wrong_C & tied_C, right_C & sure_C, right_C & tied_C)
    sure_wrong, tied_wrong, sure_right, tied_right = (int(kind.sum()) for kind in kinds)
    return sure_wrong, tied_wrong, sure_right, tied_right


def mean_percent(hits: dict[str, np.ndarray]) -> float:
    """Returns the mean over rankings of their mean hits, in percent."""
    return 100 * float(np.mean([of_queries.mean() for of_queries in hits.values()]))


def level_of(hits: dict[str, np.ndarray], match_IT: np.ndarray, k: int) -> Level:
    """Returns the level of recall at k, which pools the queries of both directions.

    hits:     `i2t_K` and `t2i_K` -> (I,) and (T,), as `hits_at` returns them
    match_IT: (I, T) bool, the text is right for the image
    """
    pooled = np.concatenate([hits[f"i2t_{k}"], hits[f"t2i_{k}"]])
    images, texts = match_IT.shape
    chance = (
        images * recall_chance(k, match_IT.sum(1), texts)
        + texts * recall_chance(k, match_IT.sum(0), images)
    ) / (images + texts)
    successes = math.floor(pooled.sum() + 1e-6)  # shares of ties may add up to just below a whole
    return Level(name=f"r_at_{k}", successes=successes, items=len(pooled), chance=float(chance))
