"""The figure shows every difference to the control with its interval, a panel per endpoint."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from reports.drawing import (
    QUIET,
    REGION,
    SIGNS,
    ZERO,
    across,
    blank,
    in_words,
    legend_below,
    look,
    mark,
    signed,
    signs,
    wide,
    wrapped,
)

TABLE = "contrasts"
OPTIONAL = True
NEEDS = (
    "endpoint", "order", "cell", "control", "delta", "lower", "upper", "level", "region", "verdict",
    "higher_is_better", "unit", "colour", "marker", "role",
)  # fmt: skip
ORDER = 2
TITLE = "Differences to the control, by endpoint"

LETTERS = 26
"""Of a cell's name in a line."""


def caption(table: pd.DataFrame) -> str:
    """Says how to read it."""
    return (
        f"Least-squares differences with simultaneous {_levels(table)} intervals. The band is the "
        "region that counts as equal; hollow marks are undecided. Endpoints are judged together."
    )


def draw(table: pd.DataFrame) -> Figure:
    """Draws a row per cell, first on top; an arrow says where better lies."""
    cells = list(dict.fromkeys(table["cell"]))
    names = [wrapped(str(cell), LETTERS) for cell in cells]
    tall = np.cumsum([0.0, *(1 + 0.55 * name.count("\n") for name in names)])
    place = dict(zip(cells, -(tall[:-1] + tall[1:]) / 2, strict=True))
    endpoints = list(table.sort_values("order")["endpoint"].unique())
    columns = across(len(endpoints), 2.3)
    rows = math.ceil(len(endpoints) / columns)
    figure = blank(rows * (0.95 + 0.27 * tall[-1]) + 0.1)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for ax, endpoint in zip(axes, endpoints, strict=False):
        _panel(ax, table[table["endpoint"] == endpoint], place)
        ax.set_ylim(-tall[-1], 0)
        ax.set_yticks(list(place.values()), names)
        ax.set_title(wrapped(in_words(endpoint), int((wide() - 1.7) / columns / 0.075)), loc="left")
    for ax in axes[len(endpoints) :]:
        ax.set_visible(False)
    heading = wrapped(_what(table), int(13 * wide()))
    figure.suptitle(heading[:1].upper() + heading[1:], fontsize="medium", ha="left", x=0.01)
    legend_below(figure, [], _legend(table))
    return figure


def _levels(table: pd.DataFrame) -> str:
    return ", ".join(f"{100 * level:.4g}%" for level in sorted(table["level"].unique()))


def _what(table: pd.DataFrame) -> str:
    return f"difference to {table['control'].iloc[0]}, {_levels(table)} interval"


def _panel(ax: Axes, table: pd.DataFrame, place: dict[str, float]) -> None:
    region, unit = table["region"].iloc[0], str(table["unit"].iloc[0] or "")
    ax.axvspan(-region, region, color=REGION, linewidth=0, zorder=0)
    ax.axvline(0, color=ZERO, linewidth=0.8, zorder=1)
    for _, row in table.iterrows():
        cell, y, colour = str(row["cell"]), place[row["cell"]], row["colour"]
        if not math.isfinite(row["delta"]):
            continue
        words = (
            f"{cell}: {signed(row['delta'])} [{signed(row['lower'])}, {signed(row['upper'])}], "
            f"{row['verdict']}"
        )
        bar = ax.hlines(y, row["lower"], row["upper"], color=colour, linewidth=1.8, zorder=2)
        style = look(row, 6.0, hollow=row["verdict"] == "undecided")
        (dot,) = ax.plot(row["delta"], y, linestyle="", zorder=3, **style)
        sign = ax.text(
            1.06, y, SIGNS.get(row["verdict"], ""), color=QUIET, fontsize=8, ha="center",
            va="center", transform=ax.get_yaxis_transform(),
        )  # fmt: skip
        for artist in (bar, dot, sign):
            mark(artist, cell, words)
    better = "better →" if table["higher_is_better"].iloc[0] else "← better"
    ax.set_xlabel(f"{unit}   {better}".strip())
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.locator_params(axis="x", nbins=5)
    ax.margins(x=0.08)


def _legend(table: pd.DataFrame) -> list[Artist]:
    return [Patch(color=REGION, label="counts as equal"), *signs(table["verdict"])]
