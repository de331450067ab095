"""The figure shows what tuning bought: the best of k trials that may be expected, cell by cell."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.drawing import DASHES, blank, legend_below, look, mark, number

TABLE = "best_of_k"
OPTIONAL = True
NEEDS = ("cell", "k", "score", "colour", "marker", "role")
ORDER = 11
TITLE = "Best of k trials"


def caption(table: pd.DataFrame) -> str:
    """Says how to read it."""
    return (
        "Expected lowest validation score of k trials drawn from those that were made (unbiased, "
        "without replacement). A line that still falls at its end would gain from more trials."
    )


def draw(table: pd.DataFrame) -> Figure:
    """Draws a line per cell over the number of trials."""
    figure = blank(2.8)
    ax = figure.subplots()
    table = table[np.isfinite(table["score"])]
    for cell, rows in table.groupby("cell", sort=False):
        rows, first = rows.sort_values("k"), rows.iloc[0]
        (line,) = ax.plot(
            rows["k"], rows["score"], linestyle=DASHES[first["role"]], linewidth=1.5,
            label=str(cell), **look(first, 4.5),
        )  # fmt: skip
        last = rows.iloc[-1]
        mark(line, str(cell), f"{cell}: {number(last['score'])}, best of {last['k']:g}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("trials")
    ax.set_ylabel("expected best validation score")
    legend_below(figure, [ax])
    return figure
