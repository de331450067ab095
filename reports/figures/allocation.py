"""The figure shows scores against the study's axis, and below them contrasts with the control."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from reports.drawing import axis_of_cells, in_words

TABLE = "runs"
NEEDS = (
    "cell", "role", "seed", "score", "score_name", "axis", "axis_name", "colour", "is_control",
    "delta", "lower", "upper", "verdict", "region",
)  # fmt: skip
ORDER = 1
TITLE = "Score and difference to the control"

REGION = "#f4e9cf"
MARKERS = {"better": "^", "worse": "v", "equal": "s", "undecided": "o"}
CLOSE = 0.04
"""Numbers closer than this share of the axis would print over each other."""
CHARACTERS = 75
"""Of labels that fit side by side under the axis."""


def caption(table: pd.DataFrame) -> str:
    """Says how to read it."""
    region = f"{table['region'].iloc[0]:g}" if len(table) else "r"
    return (
        "Above: dots are runs, thin lines join the runs of one seed, bars are means over seeds. "
        "Below: the difference to the control with its simultaneous interval. An interval wholly "
        f"inside the band (±{region}) means equal, otherwise one wholly above zero better and one "
        "wholly below it worse; a hollow circle is undecided."
    )


def draw(table: pd.DataFrame) -> Figure:
    """Draws two panels over one axis; floors are horizontal lines in the upper one."""
    place = _places(table)
    labels, turned = _labels(table, place)
    height = 5.6 + (0.07 * max(map(len, labels)) if turned else 0)
    figure = Figure(figsize=(7.2, height), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _scores(above, table, place)
    _contrasts(below, table, place)
    below.set_xticks(list(place.values()), labels, rotation=90 if turned else 0)
    _margins(below, list(place.values()))
    above.tick_params(labelbottom=False)
    above.set_ylabel(in_words(table["score_name"].iloc[0]))
    below.set_ylabel("difference to control")
    below.set_xlabel(in_words(table["axis_name"].iloc[0]))
    figure.align_ylabels()
    figure.legend(handles=_legend(table), loc="outside lower center", ncols=4)
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


def _scores(ax: Axes, table: pd.DataFrame, place: dict[str, float]) -> None:
    """Draws every run, the mean of every cell, and floors as lines."""
    compared = table[table["role"] == "compared"].assign(x=lambda t: t["cell"].map(place))
    for _, seed in compared.sort_values("x").dropna(subset="score").groupby("seed"):
        ax.plot(seed["x"], seed["score"], color="#c8c8c8", linewidth=0.7, zorder=1)
    for _, runs in compared.groupby("cell", sort=False):
        x, mean, colour = runs["x"].iloc[0], runs["score"].mean(), runs["colour"].iloc[0]
        ax.scatter(runs["x"], runs["score"], s=16, color=colour, alpha=0.75, linewidth=0, zorder=3)
        ax.scatter([x], [mean], s=230, marker="_", color=colour, linewidth=2.2, zorder=2)
        if runs["is_control"].iloc[0] and np.isfinite(mean):
            _band(ax, mean, runs["region"].iloc[0])
    for _, runs in table[table["role"] == "floor"].groupby("cell", sort=False):
        colour, mean = runs["colour"].iloc[0], runs["score"].mean()
        if np.isfinite(mean):
            ax.axhline(mean, color=colour, linewidth=1.2, linestyle="--")
    ax.margins(y=0.12)


def _contrasts(ax: Axes, table: pd.DataFrame, place: dict[str, float]) -> None:
    """Draws each contrast with its interval, and the control at 0."""
    _band(ax, 0, table["region"].iloc[0])
    for cell, runs in table[table["role"] == "compared"].groupby("cell", sort=False):
        run, x = runs.iloc[0], place[str(cell)]
        if run["is_control"]:
            ax.scatter([x], [0], s=52, marker="D", color=run["colour"], edgecolor="black", zorder=3)
        elif np.isfinite(run["delta"]):
            ax.vlines(x, run["lower"], run["upper"], color=run["colour"], linewidth=2, zorder=2)
            face = "white" if run["verdict"] == "undecided" else run["colour"]
            ax.scatter(
                [x], [run["delta"]], s=42, marker=MARKERS.get(run["verdict"], "o"),
                facecolor=face, edgecolor=run["colour"], linewidth=1.4, zorder=3,
            )  # fmt: skip
    ax.margins(y=0.12)


def _band(ax: Axes, centre: float, region: float) -> None:
    """Draws the control's line and the region of practical equivalence round it."""
    ax.axhspan(centre - region, centre + region, color=REGION, linewidth=0, zorder=0)
    ax.axhline(centre, color="#8a7440", linewidth=0.8, zorder=1)


def _labels(table: pd.DataFrame, place: dict[str, float]) -> tuple[list[str], bool]:
    """Gives the labels of the places, and whether they only fit when turned."""
    axis = axis_of_cells(table)
    labels = [f"{axis[cell]:g}" if axis else cell for cell in place]
    return labels, max(map(len, labels), default=0) * len(labels) > CHARACTERS


def _margins(ax: Axes, places: list[float]) -> None:
    edge = 0.06 * (max(places, default=0) - min(places, default=0)) or 1.0
    ax.set_xlim(min(places, default=0) - edge, max(places, default=0) + edge)
    ax.grid(visible=False, axis="x")


def _legend(table: pd.DataFrame) -> list[Artist]:
    """Makes the entries of the legend: marks, control, region, verdicts that occur, floors."""
    grey = "#444444"

    def mark(
        marker: str, label: str, face: str = grey, edge: str = grey, size: float = 6
    ) -> Line2D:
        return Line2D(
            [],
            [],
            marker=marker,
            linestyle="",
            label=label,
            markerfacecolor=face,
            markeredgecolor=edge,
            markersize=size,
        )

    control = table.loc[table["is_control"], "cell"].unique()
    floors = table[table["role"] == "floor"].drop_duplicates("cell")
    return [
        mark("o", "run", size=3.5),
        Line2D([], [], color=grey, linewidth=2.2, label="mean"),
        *(mark("D", f"control: {cell}", "white", "black") for cell in control),
        Patch(color=REGION, label=f"equal: ±{table['region'].iloc[0]:g}"),
        *(
            mark(marker, kind, "white" if kind == "undecided" else grey)
            for kind, marker in MARKERS.items()
            if kind in set(table["verdict"])
        ),
        *(
            Line2D([], [], color=colour, linestyle="--", label=f"floor: {cell}")
            for cell, colour in zip(floors["cell"], floors["colour"], strict=True)
        ),
    ]
