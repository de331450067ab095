"""Main effects and interactions are tested where cells cross two or three factors.

A factor is a setting that varies between cells. Seeds stay blocks. None of this gives a verdict.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from harness.statistics.additive import Fit, Scores, fit
from harness.statistics.linear import Combination, FTest, combination, f_test

FloatArray = npt.NDArray[np.float64]
Levels = tuple[str, ...]

DROPPED = 0.25
"""The largest share of cells that may be left out to make a crossing complete."""


class NotCrossed(ValueError):
    """The cells do not cross factors; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A crossing has one cell for every combination of its factors' levels."""

    factors: Mapping[str, Levels]
    """Two or three factors, each with its levels."""
    cells: Mapping[Levels, str]
    """A level of each factor -> the cell."""
    notes: tuple[str, ...] = ()
    """What was left out, and what cannot be told apart, in words."""


def crossing(levels: Mapping[str, Mapping[str, str]]) -> Crossing:
    """Makes a crossing of cell -> factor -> level.

    A factor that another one settles is no factor of its own. A level that lacks combinations is
    left out where at most a quarter of the cells go with it. Raises NotCrossed, with the reason.
    """
    columns = {
        factor: {cell: own[factor] for cell, own in levels.items()}
        for factor in next(iter(levels.values()), {})
    }
    columns = {name: c for name, c in columns.items() if len(set(c.values())) > 1}
    kept: dict[str, dict[str, str]] = {}
    notes = []
    for factor, column in columns.items():
        finer = [
            other
            for other, own in columns.items()
            if other != factor and _settles(own, column) and (
                other in kept or not _settles(column, own)
            )
        ]  # fmt: skip
        if finer:
            notes.append(f"{factor} changes with {finer[0]}: their effects cannot be told apart")
        else:
            kept[factor] = column
    if not 2 <= len(kept) <= 3:
        names = f" ({', '.join(kept)})" if kept else ""
        raise NotCrossed(f"two or three factors make a crossing, and {len(kept)} vary{names}")
    places: dict[Levels, str] = {}
    for cell in levels:
        place = tuple(column[cell] for column in kept.values())
        if place in places:
            raise NotCrossed(f"{places[place]} and {cell} have the same {' and '.join(kept)}")
        places[place] = cell
    return _complete(tuple(kept), places, tuple(notes))


def _settles(finer: Mapping[str, str], coarser: Mapping[str, str]) -> bool:
    """Says whether cells alike in one factor are always alike in the other."""
    return len({(finer[cell], coarser[cell]) for cell in finer}) == len(set(finer.values()))


def _complete(factors: Levels, places: dict[Levels, str], notes: Levels) -> Crossing:
    cells = dict(places)
    while True:
        levels = [tuple(dict.fromkeys(p[i] for p in cells)) for i in range(len(factors))]
        lacking = [p for p in itertools.product(*levels) if p not in cells]
        if not lacking:
            break
        share = {
            (i, level): sum(p[i] == level for p in lacking) * len(own)
            for i, own in enumerate(levels)
            for level in own
            if len(own) > 2
        }
        i, level = max(reversed(share), key=share.__getitem__, default=(0, ""))
        cells = {place: cell for place, cell in cells.items() if place[i] != level}
        if not share or len(places) - len(cells) > DROPPED * len(places):
            first = ", ".join(f"{f} {level}" for f, level in zip(factors, lacking[0], strict=True))
            raise NotCrossed(
                f"{' × '.join(factors)} is not complete: {len(lacking)} combinations have no cell "
                f"with scores, as {first}"
            )
        notes += (f"left out: {factors[i]} {level}, which lacks combinations",)
    return Crossing(factors=dict(zip(factors, levels, strict=True)), cells=cells, notes=notes)


@dataclass(frozen=True, kw_only=True)
class Effect:
    """An effect is the test of a main effect (one factor) or an interaction (several)."""

    factors: Levels
    test: FTest


@dataclass(frozen=True, kw_only=True)
class AdjustedMean:
    """An adjusted mean is that of a level, or a combination of two, averaged over the others."""

    levels: Mapping[str, str]
    """One or two factors, each at a level."""
    mean: Combination


def effects(scores: Scores, crossed: Crossing) -> tuple[list[Effect], list[AdjustedMean]]:
    """Tests all main effects and interactions, and gives the means that show them.

    Every combination counts alike, whichever runs are missing (Type III). Intervals of the means
    leave out what seeds do to all cells alike. `scores`: design -> seed -> score. Raises
    ValueError where cells do not share seeds or one has no score.
    """
    cells = list(crossed.cells.values())
    model = fit({cell: scores.get(cell, {}) for cell in cells})
    if len(model.designs) < len(cells):
        raise ValueError("; ".join(model.notes))
    names = tuple(crossed.factors)
    terms = [
        term for size in range(1, len(names) + 1) for term in itertools.combinations(names, size)
    ]
    return (
        [Effect(factors=term, test=f_test(model, _contrasts(crossed, term))) for term in terms],
        [mean for term in terms if len(term) < 3 for mean in _means(model, crossed, term)],
    )  # fmt: skip


def _contrasts(crossed: Crossing, term: Sequence[str]) -> FloatArray:
    """Returns the rows of weights (K, D) of a term; all zero where it has no effect."""
    differ = {
        name: np.diff(np.eye(len(levels)), axis=0)
        if name in term
        else np.full((1, len(levels)), 1 / len(levels))
        for name, levels in crossed.factors.items()
    }
    by_product = reduce(np.kron, differ.values())
    order = list(itertools.product(*crossed.factors.values()))
    return by_product[:, [order.index(place) for place in crossed.cells]]


def _means(model: Fit, crossed: Crossing, term: Sequence[str]) -> Iterator[AdjustedMean]:
    names = list(crossed.factors)
    for levels in itertools.product(*(crossed.factors[name] for name in term)):
        level = dict(zip(term, levels, strict=True))
        among_D = np.array(
            [all(place[names.index(n)] == v for n, v in level.items()) for place in crossed.cells]
        )
        yield AdjustedMean(levels=level, mean=combination(model, among_D / math.fsum(among_D)))
