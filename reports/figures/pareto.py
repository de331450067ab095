"""The figure shows what a score costs: a panel per cost, with the front that nothing beats."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, NullFormatter

from reports.drawing import (
    QUIET,
    across,
    blank,
    in_words,
    legend_below,
    look,
    mark,
    number,
    wrapped,
)

TABLE = "pareto"
OPTIONAL = True
NEEDS = (
    "endpoint", "cell", "cost_name", "cost", "score", "on_front", "colour", "marker", "role",
)  # fmt: skip
ORDER = 8
TITLE = "Score against what it costs"

WIDE = 10
"""Ratio of largest to smallest cost from which the axis is logarithmic."""


def caption(table: pd.DataFrame) -> str:
    """Says how to read it."""
    return (
        "Mean scores over seeds of the first endpoint. Cells on the line are the front: no other "
        "cell is at least as good for at most that cost. Means decide it here, not verdicts."
    )


def draw(table: pd.DataFrame) -> Figure:
    """Draws the first endpoint of the table, a panel for each cost."""
    table = table[table["endpoint"] == table["endpoint"].iloc[0]]
    table = table[np.isfinite(table["score"]) & np.isfinite(table["cost"])]
    costs = list(table["cost_name"].unique())
    columns = across(max(1, len(costs)), 2.2)
    rows = max(1, -(-len(costs) // columns))
    figure = blank(2.4 * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for ax, cost in zip(axes, costs, strict=False):
        _panel(ax, table[table["cost_name"] == cost])
        ax.set_xlabel(in_words(str(cost).removeprefix("ledger.")).replace("flops", "FLOPs"))
    for ax in axes[len(costs) :]:
        ax.set_visible(False)
    for ax in axes[::columns]:
        ax.set_ylabel(wrapped(in_words(table["endpoint"].iloc[0]), 24))
    front = Line2D([], [], color=QUIET, linewidth=1.0, label="front")
    legend_below(figure, axes[:1], [front])
    return figure


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    """Draws every cell at its cost, and steps along the front."""
    front = table[table["on_front"].astype(bool)].sort_values("cost")
    ax.step(front["cost"], front["score"], where="post", color=QUIET, linewidth=1.0, zorder=1)
    if table["cost"].min() > 0 and table["cost"].max() > WIDE * table["cost"].min():
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.locator_params(axis="x", nbins=4)
    for _, row in table.iterrows():
        (dot,) = ax.plot(
            row["cost"], row["score"], linestyle="", zorder=3, label=str(row["cell"]),
            **look(row, 6.5),
        )  # fmt: skip
        mark(dot, row["cell"], f"{row['cell']}: {number(row['score'])} for {number(row['cost'])}")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.margins(0.12)
