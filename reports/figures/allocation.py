"""The figure shows scores against the study's axis, and below them contrasts with the control."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from reports.drawing import (
    QUIET,
    REGION,
    SIGNS,
    ZERO,
    axis_of_cells,
    blank,
    in_words,
    legend_below,
    look,
    mark,
    number,
    signed,
    signs,
    wide,
    wrapped,
)

TABLE = "runs"
BESIDE = ("trend_curve",)
NEEDS = (
    "cell", "role", "seed", "score", "score_name", "axis", "axis_name", "colour", "marker",
    "is_control", "delta", "lower", "upper", "verdict", "region",
)  # fmt: skip
ORDER = 1
TITLE = "Score and difference to the control"

CLOSE = 0.04
"""Numbers closer than this share of the axis would print over each other."""
LETTER, LINE = 0.085, 0.14
"""Inches: of a letter and of a line of a label under the axis."""


def caption(table: pd.DataFrame) -> str:
    """Says how to read it."""
    region = f"{table['region'].iloc[0]:g}" if len(table) else "r"
    return (
        "Above: small dots are runs, thin lines join the runs of one seed, large marks are means "
        "over seeds; a curve, where there is one, is fitted over the axis, with its band. "
        "Below: the difference to the control with its simultaneous interval. An interval wholly "
        f"inside the band (±{region}) means equal, otherwise one wholly to one side of zero better "
        "or worse, as the sign between the panels says; a hollow mark is undecided."
    )


def draw(table: pd.DataFrame, trend_curve: pd.DataFrame | None = None) -> Figure:
    """Draws two panels over one axis; floors are horizontal lines in the upper one."""
    place = _places(table)
    labels, turned = _labels(table, place)
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    figure = blank(4.6 + (0.07 * longest if turned else 0))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    curve = _fitted(table, place, trend_curve)
    _fit(above, curve)
    _scores(above, table, place)
    _contrasts(below, table, place)
    below.set_xticks(list(place.values()), labels, rotation=90 if turned else 0)
    _margins(below, list(place.values()))
    above.tick_params(labelbottom=False)
    above.set_ylabel(wrapped(in_words(table["score_name"].iloc[0]), 30))
    below.set_ylabel("difference to control")
    below.set_xlabel(in_words(table["axis_name"].iloc[0]))
    figure.align_ylabels()
    legend_below(figure, [above], _legend(table), most=4)
    return figure


def _places(table: pd.DataFrame) -> dict[str, float]:
    """Gives compared cell -> x: its number where the axis is numeric and roomy, else its rank."""
    axis = axis_of_cells(table)
    if not axis:
        compared = table.loc[table["role"] == "compared", "cell"].unique()
        return {cell: float(i) for i, cell in enumerate(compared)}
    ordered = sorted(axis, key=axis.__getitem__)
    gaps = np.diff([axis[cell] for cell in ordered])
    if len(gaps) and gaps.min() < CLOSE * gaps.sum():
        return {cell: float(i) for i, cell in enumerate(ordered)}
    return {cell: axis[cell] for cell in ordered}


def _fitted(
    table: pd.DataFrame, place: dict[str, float], curve: pd.DataFrame | None
) -> pd.DataFrame | None:
    """Gives the fitted curve of this score, its axis as x; none where cells have no such place."""
    if curve is None or place != axis_of_cells(table):
        return None
    own = curve[curve["endpoint"] == table["score_name"].iloc[0]].sort_values("axis")
    return own[np.isfinite(own["fitted"])]


def _fit(ax: Axes, curve: pd.DataFrame | None) -> None:
    if curve is None or curve.empty:
        return
    ax.plot(curve["axis"], curve["fitted"], color=QUIET, linewidth=1.6, zorder=1, label="fitted")
    ax.fill_between(
        curve["axis"],
        curve["lower"],
        curve["upper"],
        color=QUIET,
        alpha=0.12,
        linewidth=0,
        zorder=0,
    )


def _scores(ax: Axes, table: pd.DataFrame, place: dict[str, float]) -> None:
    """Draws every run, the mean of every cell, and floors as lines."""
    compared = table[table["role"] == "compared"].assign(x=lambda t: t["cell"].map(place))
    for _, seed in compared.sort_values("x").dropna(subset="score").groupby("seed"):
        ax.plot(seed["x"], seed["score"], color="#c8c8c8", linewidth=0.7, zorder=1)
    for cell, runs in compared.groupby("cell", sort=False):
        first, mean = runs.iloc[0], runs["score"].mean()
        for _, run in runs.iterrows():
            style = {"s": 11, "color": run["colour"], "alpha": 0.75, "linewidth": 0, "zorder": 3}
            dot = ax.scatter([run["x"]], [run["score"]], **style)
            mark(dot, str(cell), f"{cell}, seed {run['seed']}: {number(run['score'])}")
        (middle,) = ax.plot(first["x"], mean, linestyle="", zorder=4, **look(first, 7.0))
        mark(middle, str(cell), f"{cell}: {number(mean)}, mean over seeds")
        if first["is_control"] and np.isfinite(mean):
            _band(ax, mean, first["region"])
    for cell, runs in table[table["role"] == "floor"].groupby("cell", sort=False):
        colour, mean = runs["colour"].iloc[0], runs["score"].mean()
        if np.isfinite(mean):
            line = ax.axhline(mean, color=colour, linewidth=1.2, linestyle="--")
            mark(line, str(cell), f"{cell}, a floor: {number(mean)}")
    ax.margins(y=0.12)


def _contrasts(ax: Axes, table: pd.DataFrame, place: dict[str, float]) -> None:
    """Draws each contrast with its interval and, above it, the sign of its verdict."""
    _band(ax, 0, table["region"].iloc[0])
    for cell, runs in table[table["role"] == "compared"].groupby("cell", sort=False):
        run, x = runs.iloc[0], place[str(cell)]
        if run["is_control"]:
            (dot,) = ax.plot(x, 0, linestyle="", zorder=3, **look(run, 6.0))
            mark(dot, str(cell), f"{cell}, the control")
        elif np.isfinite(run["delta"]):
            words = f"{cell}: {signed(run['delta'])}, {run['verdict']}"
            bar = ax.vlines(x, run["lower"], run["upper"], color=run["colour"], linewidth=1.8)
            style = look(run, 6.0, hollow=run["verdict"] == "undecided")
            (dot,) = ax.plot(x, run["delta"], linestyle="", zorder=3, **style)
            sign = ax.text(
                x, 1.01, SIGNS.get(run["verdict"], ""), color=QUIET, fontsize=8, ha="center",
                va="bottom", transform=ax.get_xaxis_transform(),
            )  # fmt: skip
            for artist in (bar, dot, sign):
                mark(artist, str(cell), words)
    ax.margins(y=0.12)


def _band(ax: Axes, centre: float, region: float) -> None:
    """Draws the control's line and the region of practical equivalence round it."""
    ax.axhspan(centre - region, centre + region, color=REGION, linewidth=0, zorder=-1)
    ax.axhline(centre, color=ZERO, linewidth=0.8, zorder=1)


def _labels(table: pd.DataFrame, place: dict[str, float]) -> tuple[list[str], bool]:
    """Gives the labels of the places, and whether they only fit when turned."""
    axis = axis_of_cells(table)
    labels = [f"{axis[cell]:g}" if axis else cell for cell in place]
    longest, room = max(map(len, labels), default=0), 0.85 * wide() / max(1, len(labels))
    if LETTER * longest <= room:
        return labels, False
    lines = max(1, int(room / LINE))
    return [wrapped(label, max(28, longest // lines + 8)) for label in labels], True


def _margins(ax: Axes, places: list[float]) -> None:
    edge = 0.06 * (max(places, default=0) - min(places, default=0)) or 1.0
    ax.set_xlim(min(places, default=0) - edge, max(places, default=0) + edge)
    ax.grid(visible=False, axis="x")


def _legend(table: pd.DataFrame) -> list[Artist]:
    """Makes the entries of the legend: control, region, signs that occur, floors; and, where the
    axis does not name cells, which mark is which."""
    compared = table[table["role"] == "compared"].drop_duplicates("cell")
    entries: list[Artist] = []
    for _, cell in compared[compared["is_control"]].iterrows():
        entries.append(Line2D([], [], linestyle="", label=f"control: {cell['cell']}", **look(cell)))
        mark(entries[-1], cell["cell"])
    entries.append(Patch(color=REGION, label=f"equal: ±{table['region'].iloc[0]:g}"))
    entries += signs(table["verdict"])
    for _, cell in table[table["role"] == "floor"].drop_duplicates("cell").iterrows():
        dashed = {"color": cell["colour"], "linestyle": "--"}
        entries.append(Line2D([], [], label=f"floor: {cell['cell']}", **dashed))
        mark(entries[-1], cell["cell"])
    return entries
