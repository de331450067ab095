"""Curves are drawn as small multiples: a panel per measure, means and ranges over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from reports.drawing import in_words, legend_below

NEEDS = ("cell", "role", "seed", "samples", "name", "value", "status", "colour")
MANY = 6
"""Bands of more cells than this hide each other."""


def how_to_read(table: pd.DataFrame) -> str:
    """Says what bands, dots and dashes mean in panels of this table."""
    legend = ""
    if table["cell"].nunique() <= MANY:
        legend += "Bands reach from the lowest to the highest seed. "
    if (table["status"] != "done").any():
        legend += "Dotted: single runs that did not finish. "
    return legend + "Dashed: floors."


def panels(table: pd.DataFrame, names: Sequence[str], nothing: str) -> Figure:
    """Draws a panel for each of the names that the table has; `nothing` is written without any."""
    table = table[table["name"].isin(names) & np.isfinite(table["value"])]
    measured = [name for name in names if (table["name"] == name).any()]
    columns = min(3, max(1, len(measured)))
    rows = max(1, math.ceil(len(measured) / columns))
    figure = Figure(figsize=(7.2, 2.3 * rows + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for ax, name in zip(axes, measured, strict=False):
        _panel(ax, table[table["name"] == name])
        ax.set_title(in_words(name), loc="left")
    for ax in axes[len(measured) :]:
        ax.set_visible(False)
    for ax in axes[: len(measured)][-columns:]:
        ax.set_xlabel("samples seen")
        ax.tick_params(labelbottom=True)
    if not measured:
        figure.text(0.5, 0.5, nothing, ha="center")
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
