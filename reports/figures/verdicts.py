"""The figure shows verdicts at a glance: a row per cell, a column per endpoint."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reports.drawing import (
    SIGNS,
    NothingToDraw,
    blank,
    in_words,
    legend_below,
    mark,
    signed,
    signs,
    wide,
    wrapped,
)

TABLE = "contrasts"
OPTIONAL = True
NEEDS = (
    "endpoint", "order", "cell", "control", "delta", "region", "verdict", "higher_is_better",
)  # fmt: skip
ORDER = 3
TITLE = "Verdicts by endpoint"

MOST = 4.0
"""Regions of equivalence from which the colour no longer grows."""


def caption(table: pd.DataFrame) -> str:
    """Says how to read it."""
    return (
        f"Differences to {table['control'].iloc[0]} in units of their endpoints, with the sign of "
        "their verdicts. Colour counts them in regions of equivalence: blue is better, orange "
        "worse, whichever way the score points; what is undecided is pale."
    )


def draw(table: pd.DataFrame) -> Figure:
    """Draws the map; raises NothingToDraw for a single endpoint, which the forest plot shows."""
    endpoints = list(table.sort_values("order")["endpoint"].unique())
    cells = list(dict.fromkeys(table["cell"]))
    if len(endpoints) < 2:
        raise NothingToDraw("one endpoint makes no map")
    names = [wrapped(str(cell), 26) for cell in cells]
    tall = np.cumsum([0.0, *(1 + 0.45 * name.count("\n") for name in names)])
    titles = [
        wrapped(in_words(name), max(10, int(9 * wide() / len(endpoints)))) for name in endpoints
    ]
    figure = blank(0.3 * tall[-1] + 0.5 + 0.14 * max(title.count("\n") for title in titles))
    ax = figure.subplots()
    colour = _colours(table)
    for (_, row), rgb in zip(table.iterrows(), colour, strict=True):
        x, y = endpoints.index(row["endpoint"]), cells.index(row["cell"])
        edges = ([x - 0.5, x + 0.5], tall[y], tall[y + 1])
        tile = ax.fill_between(*edges, facecolor=rgb, edgecolor="white", linewidth=1.5)
        shown = signed(row["delta"]) if math.isfinite(row["delta"]) else "–"
        words = f"{shown} {SIGNS.get(row['verdict'], '')}"
        text = ax.text(
            x,
            (tall[y] + tall[y + 1]) / 2,
            words,
            color=_ink(rgb),
            ha="center",
            va="center",
            fontsize="small",
        )
        for artist in (tile, text):
            mark(artist, row["cell"], f"{row['cell']}, {in_words(row['endpoint'])}: {words}")
    ax.set_xlim(-0.5, len(endpoints) - 0.5)
    ax.set_ylim(tall[-1], 0)
    ax.set_xticks(range(len(endpoints)), titles)
    ax.set_yticks((tall[:-1] + tall[1:]) / 2, names)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.set_xlabel(wrapped(f"difference to {table['control'].iloc[0]}", int(9 * wide())))
    legend_below(figure, [], signs(table["verdict"]))
    return figure


def _colours(table: pd.DataFrame) -> list[tuple[float, float, float]]:
    """Gives each row's colour: white where nothing differs, blue better, orange worse."""
    sign = np.where(table["higher_is_better"], 1.0, -1.0)
    steps = np.clip(sign * table["delta"] / table["region"] / MOST, -1, 1).fillna(0.0)
    ends = np.where(steps.to_numpy()[:, None] > 0, (0.12, 0.36, 0.62), (0.85, 0.45, 0.05))
    sure = np.where(table["verdict"] == "undecided", 0.5, 0.9)
    strength = (np.abs(steps.to_numpy()) * sure)[:, None]
    return [tuple(rgb) for rgb in 0.96 * (1 - strength) + strength * ends]


def _ink(rgb: tuple[float, float, float]) -> str:
    """Gives black or white, whichever is read on a colour."""
    return "black" if 0.2 * rgb[0] + 0.7 * rgb[1] + 0.1 * rgb[2] > 0.5 else "white"
