"""The figure shows what each cell cost: time of a run by part, compute of training and of use."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter

from reports.drawing import QUIET, NothingToDraw, across, blank, legend_below, mark, number, wrapped

TABLE = "runs"
OPTIONAL = True
NEEDS = (
    "cell", "status", "colour", "ledger.train_seconds", "ledger.device_seconds",
    "ledger.tuning_seconds", "ledger.flops_per_sample", "ledger.forward_flops",
    "ledger.parameters",
)  # fmt: skip
ORDER = 9
TITLE = "What a cell costs"

PARTS = {"training": 1.0, "starting, measuring, scoring": 0.5, "tuning, shared by its runs": 0.2}
"""Parts of a run's time -> how strong their colour is."""
SINGLE = {
    "ledger.flops_per_sample": "training FLOPs a sample",
    "ledger.forward_flops": "inference: FLOPs a pair",
    "ledger.parameters": "parameters",
}


def caption(table: pd.DataFrame) -> str:
    """Says how to read it."""
    return (
        "Means over finished runs. Device time of a run by part; FLOPs of a training sample with "
        "every objective's rows; FLOPs of one image-text pair forward through towers and fusion, "
        "which is what using the model costs; parameters."
    )


def draw(table: pd.DataFrame) -> Figure:
    """Draws a bar per cell in each of four panels; raises NothingToDraw where no run is done."""
    done = table[table["status"] == "done"]
    means = done.groupby("cell", sort=False).mean(numeric_only=True)
    if not np.isfinite(means["ledger.device_seconds"]).any():
        raise NothingToDraw("no run is done")
    runs = done.groupby("cell", sort=False).size()
    colour = done.groupby("cell", sort=False)["colour"].first()
    names = [wrapped(str(cell), 26) for cell in means.index]
    tall = np.cumsum([0.0, *(1 + 0.6 * name.count("\n") for name in names)])
    y = -(tall[:-1] + tall[1:]) / 2
    columns = across(4, 1.6)
    rows = -(-4 // columns)
    figure = blank(rows * (0.65 + 0.22 * tall[-1]))
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    occur = _times(axes[0], means, runs, y, colour)
    axes[0].set_xlabel("device-seconds\na run")
    for ax, (column, label) in zip(axes[1:], SINGLE.items(), strict=True):
        for place, cell, value in zip(y, means.index, means[column], strict=True):
            bars = ax.barh(place, value, height=0.7, color=colour[cell])
            mark(bars[0], cell, f"{cell}: {number(value)} {label}")
        ax.set_xlabel(wrapped(label, 14))
    for ax in axes:
        ax.set_yticks(y, names)
        ax.set_ylim(-tall[-1], 0)
        ax.tick_params(axis="y", length=0)
        ax.grid(visible=False, axis="y")
        ax.locator_params(axis="x", nbins=3)
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    parts = [
        Patch(color=QUIET, alpha=strength, label=part)
        for part, strength in PARTS.items()
        if part in occur
    ]
    legend_below(figure, [], parts)
    return figure


def _times(
    ax: Axes, means: pd.DataFrame, runs: pd.Series, y: np.ndarray, colour: pd.Series
) -> set[str]:
    """Draws a run's time in parts, one after another, and gives the parts that occur."""
    occur = set()
    training = means["ledger.train_seconds"]
    parts = (
        training,
        (means["ledger.device_seconds"] - training).clip(lower=0),
        means["ledger.tuning_seconds"] / runs,
    )
    for place, cell, *own in zip(y, means.index, *parts, strict=True):
        left = 0.0
        for seconds, (part, strength) in zip(own, PARTS.items(), strict=True):
            if not seconds > 0:
                continue
            style = {"left": left, "height": 0.7, "color": colour[cell], "alpha": strength}
            mark(ax.barh(place, seconds, **style)[0], cell, f"{cell}, {part}: {number(seconds)} s")
            left += seconds
            occur.add(part)
    return occur
