"""The figure shows scores against compute: FLOPs of a pair forward and of a training sample."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from reports.drawing import in_words, legend_below

TABLE = "runs"
NEEDS = (
    "cell", "role", "score", "score_name", "colour", "is_control", "ledger.forward_flops",
    "ledger.flops_per_sample",
)  # fmt: skip
ORDER = 3
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
        "rows. The control has a black edge; squares are floors."
    )


def draw(table: pd.DataFrame) -> Figure:
    """Draws two panels over one score axis."""
    figure = Figure(figsize=(7.2, 3.9), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (column, label) in zip(axes, PANELS.items(), strict=True):
        _panel(ax, table, column)
        ax.set_xlabel(label)
    axes[0].set_ylabel(in_words(table["score_name"].iloc[0]))
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
        ax.vlines(cost, score.min(), score.max(), color=first["colour"], linewidth=1.6, zorder=2)
        ax.scatter(
            [cost], [score.mean()], s=48, marker="s" if first["role"] == "floor" else "o",
            color=first["colour"], edgecolor="black" if first["is_control"] else "white",
            linewidth=1.2, zorder=3, label=str(cell),
        )  # fmt: skip
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.margins(0.1)
