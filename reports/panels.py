"""Curves are drawn as small multiples: a panel per measure, means and bands over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from reports.drawing import DASHES, across, blank, in_words, legend_below, look, mark, number

NEEDS = (
    "cell", "role", "seed", "samples", "name", "value", "status", "colour", "marker",
)  # fmt: skip
MANY = 6
"""Bands of more cells than this hide each other."""
AGAINST = {
    "samples": "samples seen",
    "flops": "training FLOPs",
    "seconds": "training seconds",
}
"""What curves can be drawn against; each a column of the curves."""
MARKS = 5
"""Markers along a curve."""


def how_to_read(table: pd.DataFrame) -> str:
    """Says what bands, dots and dashes mean in panels of this table."""
    legend = ""
    if table["cell"].nunique() <= MANY:
        legend += "Bands reach from the lowest to the highest seed. "
    if (table["status"] != "done").any():
        legend += "Dotted: single runs that did not finish. "
    return legend + "Dashed: floors."


def of_validation(table: pd.DataFrame) -> list[str]:
    """Gives the names of what was measured on held-out data, tasks that are learnt among them."""
    return [
        name
        for name in table["name"].unique()
        if name.startswith(("val/", "pairs/", "words/")) or "/val/" in name
    ]


def panels(
    table: pd.DataFrame, names: Sequence[str], nothing: str, against: str = "samples"
) -> Figure:
    """Draws a panel for each of the names that the table has; `nothing` is written without any.

    `against`: a key of AGAINST. Means are over seeds at the same samples seen, and over what these
    took.
    """
    table = table[table["name"].isin(names) & np.isfinite(table["value"])]
    measured = [name for name in names if (table["name"] == name).any()]

    def panel(ax: Axes, name: str) -> None:
        _panel(ax, table[table["name"] == name], against)

    return multiples(measured, panel, nothing, AGAINST[against])


def multiples(
    names: Sequence[str], panel: Callable[[Axes, str], None], nothing: str, x_label: str
) -> Figure:
    """Draws one panel for each name by `panel(ax, name)`, over one x axis of large numbers."""
    columns = across(max(1, len(names)), 2.2)
    rows = max(1, math.ceil(len(names) / columns))
    figure = blank(2.1 * rows + 0.5)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for ax, name in zip(axes, names, strict=False):
        panel(ax, name)
        ax.set_title(in_words(name), loc="left")
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.locator_params(axis="x", nbins=4)
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    for ax in axes[: len(names)][-columns:]:
        ax.tick_params(labelbottom=True)
    for ax in axes[(rows - 1) * columns : len(names)]:
        ax.set_xlabel(x_label)
    if not len(names):
        figure.text(0.5, 0.5, nothing, ha="center")
    legend_below(figure, axes)
    return figure


def along(points: int, place: int) -> slice:
    """Says at which points of a curve markers stand, elsewhere for the curve of each place."""
    step = max(1, points // MARKS)
    return slice(place % step, None, step)


def _panel(ax: Axes, table: pd.DataFrame, against: str) -> None:
    done, others = table[table["status"] == "done"], table[table["status"] != "done"]
    bands = table["cell"].nunique() <= MANY
    for place, (cell, runs) in enumerate(done.groupby("cell", sort=False, observed=True)):
        # Points that all its seeds reached, so that a mean is always over the same seeds.
        curve = runs.pivot_table(index="seed", columns="samples", values="value").dropna(axis=1)
        if curve.empty:
            continue
        first, mean = runs.iloc[0], curve.mean()
        x = runs.groupby("samples")[against].mean()[curve.columns]
        (line,) = ax.plot(
            x, mean, linestyle=DASHES[first["role"]], linewidth=1.4, label=str(cell),
            markevery=along(len(x), place), **look(first, 4.0),
        )  # fmt: skip
        mark(line, cell, f"{cell}: {number(mean.iloc[-1])} in the end, mean of {len(curve)} seeds")
        if bands:
            around = {"color": first["colour"], "alpha": 0.16, "linewidth": 0}
            mark(ax.fill_between(x, curve.min(), curve.max(), **around), cell)
    limits = ax.get_ylim()
    for _, run in others.groupby(["cell", "seed"], sort=False, observed=True):
        run, first = run.sort_values("samples"), run.iloc[0]
        (line,) = ax.plot(run[against], run["value"], ":", color=first["colour"], linewidth=1.2)
        mark(line, first["cell"], f"{first['cell']}, seed {first['seed']}: {first['status']}")
    if len(done):  # a diverging run must not flatten the others
        ax.set_ylim(limits)
