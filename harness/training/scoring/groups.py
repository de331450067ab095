"""Scores of groups of k pictures and l captions, of which some belong together.

A comparison says that the score of a right pair is above that of a wrong one. Equal scores stand in
random order, all of a group at once, and what counts is the share of these orders that fits: so a
constant scorer earns exactly chance, which is the share of all orders. Some published evaluations
count a tie as wrong (SugarCrepe's and Winoground's do): ours is higher than theirs where scores
tie, and the same where none do.

Letters: k pictures, l captions of one group, C comparisons, N items (groups, pictures or
statements).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

Comparisons = frozenset[tuple[int, int]]
"""Places of a right pair and of a wrong one, which it must be above, in the flat table."""

TEXT = "text_score"
"""Every picture: its right captions above its wrong ones (Winoground's text score; What's Up calls
it the set of a group of four). Chance 1/4 with two pictures and two captions."""
PICTURE = "picture_score"
"""Every caption: its right picture above the wrong ones (Winoground's image score). Chance 1/4."""
GROUP = "group_score"
"""Both (Winoground's group score). Chance 1/6 with two, (k - 1)! / (2k - 1)! with k."""
MATCH = "group_match"
"""The best one-to-one assignment of captions to pictures is the right one. Chance 1 / k!."""
CAPTION = "caption"
"""One picture: its right captions above its wrong ones, counted by picture. Chance 1/2 with one of
each, 1/3 with two right and one wrong (SugarCrepe++), 1/4 with one of four (What's Up)."""
STATEMENT = "statement"
"""Groups of one caption: called right or wrong, as many right as there are (VSR)."""
RULES = (MATCH, TEXT, PICTURE, GROUP, CAPTION, STATEMENT)
"""In the order of importance: a set's main score is the first that it has."""


def rules_of(k: int, captions: int) -> tuple[str, ...]:
    """Lists the rules that score a group of k pictures and so many captions."""
    if k > 1:
        return (MATCH, TEXT, PICTURE, GROUP, CAPTION)
    return (CAPTION,) if captions > 1 else (STATEMENT,)


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What one rule gives for N items."""

    share_N: np.ndarray
    """float64, in [0, 1]: the share of the orders of ties in which the item is right."""
    chance_N: np.ndarray
    """float64, in [0, 1]: the same of a constant scorer."""
    group_N: np.ndarray
    """int64: which group the item is of."""

    def take(self, wanted_N: np.ndarray) -> Shares:
        """Takes the items where the bool (N,) is True."""
        return Shares(
            share_N=self.share_N[wanted_N],
            chance_N=self.chance_N[wanted_N],
            group_N=self.group_N[wanted_N],
        )


def shares_of(tables: Sequence[np.ndarray], matches: Sequence[np.ndarray]) -> dict[str, Shares]:
    """Returns rule of `RULES` -> what it gives, for the rules that some group has.

    tables:  of each group its scores (k, l), float, higher is better; NaN is never right, nor is
             the assignment of a group with an infinite one
    matches: of each group bool (k, l): the caption is right for the picture
    """
    rows: dict[str, list[tuple[float, float, int]]] = {rule: [] for rule in RULES}
    for group, (score_kl, match_kl) in enumerate(zip(tables, matches, strict=True)):
        k, captions = match_kl.shape
        if k == captions == 1:
            continue
        if k > 1:  # right pairs in the diagonal: which comparisons there are depends on k alone
            order = match_kl.argmax(axis=1)
            score_kl, match_kl = score_kl[:, order], match_kl[:, order]
        for picture in range(k):
            own = compared(match_kl, rows=(picture,), columns=())
            rows[CAPTION].append((kept(score_kl, own), orders(own), group))
        if k > 1:
            every = tuple(range(k))
            for rule, wanted in (
                (TEXT, compared(match_kl, rows=every, columns=())),
                (PICTURE, compared(match_kl, rows=(), columns=every)),
                (GROUP, compared(match_kl, rows=every, columns=every)),
            ):
                rows[rule].append((kept(score_kl, wanted), orders(wanted), group))
            rows[MATCH].append((matched(score_kl, match_kl), 1 / math.factorial(k), group))
    counted = {rule: _shares(its) for rule, its in rows.items() if its}
    single = [group for group, match_kl in enumerate(matches) if match_kl.size == 1]
    if single:
        score_N = np.array([tables[group][0, 0] for group in single])
        counted[STATEMENT] = statements(score_N, np.array([matches[g][0, 0] for g in single]))
        counted[STATEMENT].group_N[:] = single
    return counted


def _shares(rows: Sequence[tuple[float, float, int]]) -> Shares:
    share, chance, group = zip(*rows, strict=True)
    return Shares(
        share_N=np.array(share), chance_N=np.array(chance), group_N=np.array(group, dtype=np.int64)
    )


def compared(match_kl: np.ndarray, *, rows: Sequence[int], columns: Sequence[int]) -> Comparisons:
    """Returns every right pair with every wrong one of its row, in the rows named, and of its
    column, in the columns named.
    """
    place_kl = np.arange(match_kl.size).reshape(match_kl.shape)
    lines = [(place_kl[row], match_kl[row]) for row in rows]
    lines += [(place_kl[:, column], match_kl[:, column]) for column in columns]
    return frozenset(
        (int(right), int(wrong))
        for place, match in lines
        for right in place[match]
        for wrong in place[~match]
    )


def kept(score_kl: np.ndarray, wanted: Comparisons) -> float:
    """Returns the share of the orders of equal scores in which all comparisons hold."""
    flat = score_kl.ravel()
    tied = set()
    for right, wrong in wanted:
        if not flat[right] >= flat[wrong]:  # NaN neither
            return 0.0
        if flat[right] == flat[wrong]:
            tied.add((right, wrong))
    return orders(frozenset(tied))


@functools.lru_cache(maxsize=4096)
def orders(wanted: Comparisons) -> float:
    """Returns the share of all orders of the places in which every first one of a comparison
    stands above its second one; 1 without comparisons.

    With values drawn uniformly from [0, 1] it is the integral over the first ones, in each of their
    orders, of the lowest first one above each second one to the power of how many it holds down.

    >>> orders(frozenset({(0, 1)})), round(orders(frozenset({(0, 2), (1, 2)})), 4)
    (0.5, 0.3333)
    """
    above: dict[int, set[int]] = {}
    for right, wrong in wanted:
        above.setdefault(wrong, set()).add(right)
    rights = sorted({right for right, _ in wanted})
    total = 0.0
    for ascending in itertools.permutations(rights):
        place = {right: rank for rank, right in enumerate(ascending)}
        held = [0] * len(ascending)
        for its in above.values():
            held[min(place[right] for right in its)] += 1
        total += 1 / math.prod(itertools.accumulate(count + 1 for count in held))
    return total


def matched(score_kk: np.ndarray, match_kk: np.ndarray) -> float:
    """Returns the chance that the right assignment is drawn among the best ones; sums closer than
    rounding of the scores can make them are equal. 0 where a score is NaN or infinite.
    """
    if not np.isfinite(score_kk).all():
        return 0.0
    sums = {
        order: math.fsum(score_kk[row, column] for row, column in enumerate(order))
        for order in _assignments(len(score_kk))
    }
    right = sums[tuple(match_kk.argmax(axis=1).tolist())]
    near = _rounding(score_kk)
    best = max(sums.values())
    if best - right > near:
        return 0.0
    return 1 / sum(best - value <= near for value in sums.values())


def margin(score_kk: np.ndarray, match_kk: np.ndarray) -> float:
    """Returns s00 + s11 - s01 - s10 of two pictures and two captions, the right pairs first.

    A scorer f(picture) + g(caption) has margin 0 to the last bit: the sum is exact, and what
    rounding its four scores can make counts as 0. NaN where a score is NaN or infinite.
    """
    if not np.isfinite(score_kk).all():
        return math.nan
    signed = np.where(match_kk, score_kk, -score_kk)
    value = math.fsum(signed.ravel().tolist())
    return 0.0 if abs(value) <= _rounding(score_kk) else value


def _rounding(score_kk: np.ndarray) -> float:
    """Returns the most by which two sums of k scores differ because each score was rounded, half a
    unit in its last place.
    """
    return len(score_kk) * float(np.finfo(score_kk.dtype).eps) * float(np.abs(score_kk).max())


@functools.cache
def _assignments(k: int) -> tuple[tuple[int, ...], ...]:
    return tuple(itertools.permutations(range(k)))


def margins(
    tables: Sequence[np.ndarray], matches: Sequence[np.ndarray]
) -> Iterator[tuple[int, float]]:
    """Yields number and margin of every group of two pictures and two captions."""
    for group, (score_kl, match_kl) in enumerate(zip(tables, matches, strict=True)):
        if match_kl.shape == (2, 2):
            yield group, margin(score_kl, match_kl)


def statements(score_N: np.ndarray, right_N: np.ndarray) -> Shares:
    """Calls as many of N statements right as are right, those of the highest scores, and returns
    the chance that each is called what it is; which of equal scores are called right is drawn.

    A scorer without an opinion is right on p p + (1 - p) (1 - p), p the share of right ones. A
    threshold of its own, which a set of one caption a picture would else need, has no say here.
    """
    score_N = np.where(np.isnan(score_N), -np.inf, score_N.astype(np.float64))
    wanted, total = int(right_N.sum()), len(right_N)
    last = np.sort(score_N)[-wanted]
    above_N, tied_N = score_N > last, score_N == last
    called_N = np.where(above_N, 1.0, 0.0)
    called_N[tied_N] = (wanted - above_N.sum()) / tied_N.sum()
    p = wanted / total
    return Shares(
        share_N=np.where(right_N, called_N, 1 - called_N),
        chance_N=np.where(right_N, p, 1 - p),
        group_N=np.arange(total),
    )


def paired(one_N: np.ndarray, other_N: np.ndarray) -> tuple[float, float, float]:
    """Compares two scorers on the same N items: the share of items on which the first alone is
    better, the second alone, and the two-sided p of the exact sign test over those that differ,
    which is McNemar's without ties. p is 1 where none differs.
    """
    more, less = int((one_N > other_N).sum()), int((one_N < other_N).sum())
    p = stats.binomtest(more, more + less).pvalue if more + less else 1.0
    return more / len(one_N), less / len(one_N), float(p)
