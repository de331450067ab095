"""The figure shows when cells part: curves of a cell minus the control, seed by seed the same."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.statistics.intervals import Band, paired_difference_band
from reports import panels
from reports.drawing import ZERO, NothingToDraw, look, mark, number

TABLE = "curves"
OPTIONAL = True
NEEDS = (
    "cell", "role", "seed", "samples", "name", "value", "status", "colour", "marker", "is_control",
)  # fmt: skip
ORDER = 5
TITLE = "Differences to the control over training"

SIDE_BY_SIDE = 4
"""Bands of more cells than this hide each other."""


def caption(table: pd.DataFrame) -> str:
    """Says how to read it."""
    text = (
        "Mean over seeds of a cell's value minus the control's in the same seed, at the same "
        "samples seen. "
    )
    if _others(table) <= SIDE_BY_SIDE:
        text += "Bands hold over the whole curve with 95%, for one cell and one measure. "
    return text + "They describe; verdicts are made from final scores."


def draw(table: pd.DataFrame, against: str = "samples") -> Figure:
    """Draws a panel for each measure of the control that another cell has too, against samples
    seen; from Python also against the control's "flops" or "seconds".

    Raises NothingToDraw where no seed of a compared cell is done beside the control's.
    """
    done = table[(table["status"] == "done") & (table["role"] == "compared")]
    done = done[np.isfinite(done["value"])]
    bands = {name: _bands(done[done["name"] == name]) for name in panels.of_validation(done)}
    bands = {name: own for name, own in bands.items() if own}
    if not bands:
        raise NothingToDraw("no cell has curves beside the control's")
    control = done[done["is_control"].astype(bool)]
    took = control.groupby("samples")[against].mean()
    looks = done.drop_duplicates("cell").set_index("cell", drop=False)
    with_bands = _others(table) <= SIDE_BY_SIDE

    def panel(ax: Axes, name: str) -> None:
        ax.axhline(0, color=ZERO, linewidth=0.8, zorder=1)
        for place, (cell, (samples, band)) in enumerate(bands[name].items()):
            x, first = took[samples], looks.loc[cell]
            (line,) = ax.plot(
                x, band.mean, linewidth=1.4, label=str(cell),
                markevery=panels.along(len(x), place), **look(first, 4.0),
            )  # fmt: skip
            end = f"{number(band.mean[-1])} in the end, {band.seeds} seeds"
            mark(line, cell, f"{cell} minus control: {end}")
            if with_bands:
                around = {"color": first["colour"], "alpha": 0.16, "linewidth": 0}
                edges = (band.lower_simultaneous, band.upper_simultaneous)
                mark(ax.fill_between(x, *edges, **around), cell)

    return panels.multiples(list(bands), panel, "", panels.AGAINST[against])


def _others(table: pd.DataFrame) -> int:
    compared = table[(table["role"] == "compared") & ~table["is_control"].astype(bool)]
    return int(compared["cell"].nunique())


def _bands(table: pd.DataFrame) -> dict[str, tuple[pd.Index, Band]]:
    """Gives cell -> samples, (T,), and the band of its difference; cells without a shared seed or
    point have none."""
    curves = table.pivot_table(
        index=["cell", "seed"], columns="samples", values="value", observed=True
    )
    own = table["is_control"].astype(bool)
    names = table["cell"].astype(str)
    control = names[own].unique()
    if not len(control):
        return {}
    control_ST = curves.loc[control[0]]
    bands = {}
    for cell in names[~own].unique():
        curve_ST = curves.loc[cell]
        seeds = curve_ST.index.intersection(control_ST.index)
        both = (curve_ST.loc[seeds].notna() & control_ST.loc[seeds].notna()).all()
        samples = both.index[both]
        if len(seeds) and len(samples):
            pair = (frame.loc[seeds, samples].to_numpy() for frame in (curve_ST, control_ST))
            bands[cell] = (samples, paired_difference_band(*pair))
    return bands
