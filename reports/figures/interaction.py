"""The figure shows a crossed study: does what one factor does depend on the level of another?"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.statistics.intervals import mean_interval
from reports.drawing import (
    DISTINCT,
    SHAPES,
    NothingToDraw,
    across,
    blank,
    in_words,
    legend_below,
    wrapped,
)

TABLE = "runs"
OPTIONAL = True
NEEDS = ("cell", "role", "seed", "score", "score_name")
ORDER = 10
TITLE = "Interaction of factors"

MOST = 6
"""Panels, and lines of a panel; of two factors the one with fewer levels makes the lines."""


def caption(table: pd.DataFrame) -> str:
    """Says how to read it."""
    return (
        "Means over seeds with Student's 95% intervals, which describe. Parallel lines: the two "
        "factors add up; lines that part or cross: the effect of one depends on the other."
    )


def draw(table: pd.DataFrame) -> Figure:
    """Draws a panel for each two factors that are wholly crossed.

    Factors are the design, columns `config.<field>` and `set.<path>` of the runs, where compared
    cells differ. Raises NothingToDraw where no two of them are crossed.
    """
    compared = table[(table["role"] == "compared") & np.isfinite(table["score"])]
    pairs = _crossed(compared)
    if not pairs:
        raise NothingToDraw("no two factors are crossed")
    columns = across(len(pairs), 3.2)
    rows = -(-len(pairs) // columns)
    figure = blank(2.9 * rows, width=1.0 if columns > 1 or len(pairs) > 1 else min(1.0, 4.6 / 7))
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for ax, (along, lines) in zip(axes, pairs, strict=False):
        _panel(ax, compared, along, lines)
    for ax in axes[::columns]:
        ax.set_ylabel(wrapped(in_words(table["score_name"].iloc[0]), 30))
    for ax in axes[len(pairs) :]:
        ax.set_visible(False)
    legend_below(figure, axes[: len(pairs)])
    return figure


def _crossed(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Gives pairs of factors, that with more levels first, of which every two levels occur together
    in equally many cells. Of factors that go together only the first counts."""
    cells = table.drop_duplicates("cell")
    factors: dict[str, pd.Series] = {}
    for name in map(str, table.columns):
        of_design = name == "design" or name.startswith("config.")
        if (of_design and cells[name].notna().all()) or name.startswith("set."):
            levels = cells[name].map(_level)
            codes = levels.factorize()[0].tolist()
            if codes not in [other.factorize()[0].tolist() for other in factors.values()]:
                factors |= {name: levels} if levels.nunique() > 1 else {}
    pairs = []
    for one, other in itertools.combinations(factors, 2):
        counts = pd.crosstab(factors[one], factors[other])
        more, fewer = sorted((one, other), key=lambda name: -factors[name].nunique())
        if counts.to_numpy().min() == counts.to_numpy().max() and min(counts.shape) <= MOST:
            pairs.append((more, fewer))
    return pairs[:MOST]


def _factor(name: str) -> str:
    return in_words(name).removeprefix("objectives.").replace(".", " ")


def _level(value: object) -> str:
    """Writes a level; what a cell leaves as the study has it is its default."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "default"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _panel(ax: Axes, table: pd.DataFrame, along: str, lines: str) -> None:
    """Draws a line for each level of one factor over the levels of another."""
    table = table.assign(x=table[along].map(_level), line=table[lines].map(_level))
    order = list(table.sort_values(along)["x"].unique())
    names = list(table.sort_values(lines)["line"].unique())
    numeric = pd.api.types.is_numeric_dtype(table[lines]) and len(names) > 2
    ramp = [colormaps["viridis"](at) for at in np.linspace(0, 0.85, len(names))]
    for place, name in enumerate(names):
        # Within a seed, over what other factors there are.
        own = table[table["line"] == name].groupby(["x", "seed"])["score"].mean()
        shown = [mean_interval(own.loc[level]) for level in order]
        mean = np.array([each.estimate for each in shown])
        reach = np.array([each.upper - each.estimate for each in shown])
        x = np.arange(len(order)) + 0.05 * (place - (len(names) - 1) / 2)
        ax.errorbar(
            x, mean, yerr=reach, marker=SHAPES[place], markersize=5, linewidth=1.4, capsize=2,
            color=ramp[place] if numeric else DISTINCT[place],
            label=f"{_factor(lines)} {name}",
        )  # fmt: skip
    ax.set_xticks(range(len(order)), order)
    ax.set_xlabel(_factor(along))
    ax.margins(0.1)
