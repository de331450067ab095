"""Validation curves, a panel per measure, over samples seen."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from reports.drawing import in_words, legend_below

TABLE = "curves"
NEEDS = ("cell", "role", "seed", "samples", "name", "value", "status", "colour")
ORDER = 2
TITLE = "Validation curves"

MANY = 6
"""Bands of more cells than this hide each other."""


def caption(table: pd.DataFrame) -> str:
    """How to read it."""
    said = "Means over finished runs at the same samples seen, on fixed batches and masks. "
    if table["cell"].nunique() <= MANY:
        said += "Bands reach from the lowest to the highest seed. "
    if (table["status"] != "done").any():
        said += "Dotted: single runs that did not finish. "
    return said + "Dashed: floors."


def draw(table: pd.DataFrame) -> Figure:
    """Small multiples over the names that start with `val/`."""
    table = table[table["name"].str.startswith("val/") & np.isfinite(table["value"])]
    names = list(table["name"].unique())
    columns = min(3, max(1, len(names)))
    rows = max(1, math.ceil(len(names) / columns))
    figure = Figure(figsize=(7.2, 2.3 * rows + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for ax, name in zip(axes, names, strict=False):
        _panel(ax, table[table["name"] == name])
        ax.set_title(in_words(name), loc="left")
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    for ax in axes[: len(names)][-columns:]:
        ax.set_xlabel("samples seen")
        ax.tick_params(labelbottom=True)
    if not names:
        figure.text(0.5, 0.5, "no validation curves yet", ha="center")
    legend_below(figure, axes)
    return figure


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    done, others = table[table["status"] == "done"], table[table["status"] != "done"]
    bands = table["cell"].nunique() <= MANY
    for cell, runs in done.groupby("cell", sort=False):
        # Points that all its seeds reached, so that a mean is always over the same seeds.
        curve = runs.pivot_table(index="seed", columns="samples", values="value").dropna(axis=1)
        if curve.empty:
            continue
        samples, colour = curve.columns, runs["colour"].iloc[0]
        style = "--" if runs["role"].iloc[0] == "floor" else "-"
        ax.plot(samples, curve.mean(), style, color=colour, linewidth=1.4, label=str(cell))
        if bands:
            around = {"color": colour, "alpha": 0.16, "linewidth": 0}
            ax.fill_between(samples, curve.min(), curve.max(), **around)
    limits = ax.get_ylim()
    for _, run in others.groupby(["cell", "seed"], sort=False):
        run = run.sort_values("samples")
        ax.plot(run["samples"], run["value"], ":", color=run["colour"].iloc[0], linewidth=1.2)
    if len(done):  # a diverging run must not flatten the others
        ax.set_ylim(limits)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.locator_params(axis="x", nbins=4)
