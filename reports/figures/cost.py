"""The figure shows scores against compute: FLOPs of a pair forward and of a training sample."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from reports.drawing import across, blank, in_words, legend_below, look, mark, number, wrapped

TABLE = "runs"
NEEDS = (
    "cell", "role", "score", "score_name", "colour", "marker", "is_control",
    "ledger.forward_flops", "ledger.flops_per_sample",
)  # fmt: skip
ORDER = 7
TITLE = "Score against compute"

PANELS = {
    "ledger.forward_flops": "forward FLOPs per pair",
    "ledger.flops_per_sample": "training FLOPs per sample",
}
WIDE = 10
"""Ratio of largest to smallest cost from which the axis is logarithmic."""


def caption(table: pd.DataFrame) -> str:
    """Says how to read it."""
    return (
        "Means over seeds; lines reach from the worst to the best seed. FLOPs are counted at "
        "padded length, two for a multiply-add; a training sample includes every objective's "
        "rows. The control has a black edge; hollow marks are floors."
    )


def draw(table: pd.DataFrame) -> Figure:
    """Draws two panels over one score axis."""
    columns = across(2, 2.2)
    figure = blank(2.9 * 2 / columns)
    axes = figure.subplots(2 // columns, columns, sharey=True, squeeze=False).ravel()
    for ax, (column, label) in zip(axes, PANELS.items(), strict=True):
        _panel(ax, table, column)
        ax.set_xlabel(label)
    for ax in axes[::columns]:
        ax.set_ylabel(wrapped(in_words(table["score_name"].iloc[0]), 30))
    legend_below(figure, axes[:1])
    return figure


def _panel(ax: Axes, table: pd.DataFrame, column: str) -> None:
    """Draws every cell at its mean cost, a line from its worst to its best seed."""
    costs = table[column].dropna()
    if len(costs) and costs.min() > 0 and costs.max() > WIDE * costs.min():
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.locator_params(axis="x", nbins=4)
    for cell, runs in table.groupby("cell", sort=False):
        runs = runs[np.isfinite(runs["score"]) & np.isfinite(runs[column])]
        if runs.empty:
            continue
        first, cost, score = runs.iloc[0], runs[column].mean(), runs["score"]
        line = ax.vlines(cost, score.min(), score.max(), color=first["colour"], linewidth=1.6)
        (dot,) = ax.plot(
            cost, score.mean(), linestyle="", zorder=3, label=str(cell), **look(first, 6.5)
        )
        words = f"{cell}: {number(score.mean())} ({number(score.min())} to {number(score.max())})"
        for artist in (line, dot):
            mark(artist, str(cell), words)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.margins(0.1)
