"""Figures share what stands here: a colour per cell, names in words, a legend below the panels.

Colours are safe for colour-blind readers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

# Okabe and Ito's palette ("Color Universal Design", 2008), yellow left out: too pale on white;
# then wine, olive and sand of Paul Tol's "muted" scheme, so that ten families have a colour each.
DISTINCT = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255",
    "#999933", "#DDCC77",
)  # fmt: skip
FLOORS = ("#767676", "#a0a0a0", "#555555")


def axis_of_cells(table: pd.DataFrame) -> dict[str, float] | None:
    """Gives compared cell -> its number on the axis; None unless all have one and no two share it.

    `table` has the columns cell, role and axis.
    """
    compared = table[table["role"] == "compared"].drop_duplicates("cell")
    numbers = pd.to_numeric(compared["axis"], errors="coerce")
    if compared.empty or not np.isfinite(numbers).all() or numbers.duplicated().any():
        return None
    return dict(zip(compared["cell"], numbers.astype(float), strict=True))


def colours(table: pd.DataFrame) -> dict[str, str]:
    """Gives cell -> colour: ordered along a numeric axis, else distinct; floors are grey.

    `table` has the columns cell, role and axis, cells in the study's order.
    """
    roles = table.drop_duplicates("cell").set_index("cell")["role"]
    cells = list(roles.index[roles == "compared"])
    floors = list(roles.index[roles != "compared"])
    axis = axis_of_cells(table)
    if axis and len(cells) > 1:
        cells.sort(key=axis.__getitem__)
    if (axis and len(cells) > 1) or len(cells) > len(DISTINCT):
        # Viridis without its palest end, which does not show on white.
        chosen = [to_hex(c) for c in colormaps["viridis"](np.linspace(0, 0.85, len(cells)))]
    else:
        chosen = list(DISTINCT[: len(cells)])
    greys = [FLOORS[i % len(FLOORS)] for i in range(len(floors))]
    return dict(zip([*cells, *floors], [*chosen, *greys], strict=True))


def in_words(column: str) -> str:
    """Writes a column as a label: `retrieval/mean_recall` is "retrieval mean recall"."""
    plain = column.removeprefix("set.").removeprefix("config.").removeprefix("val/")
    return plain.replace("_", " ").replace("/", " ")


def counted(column: str) -> list[str | int]:
    """Gives a sorting key under which `r_at_5` comes before `r_at_10`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", column)]


def legend_below(figure: Figure, axes: Iterable[Axes]) -> None:
    """Puts one legend under all panels; a label that appears in several appears once."""
    handles: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        columns = max(1, min(5, 100 // (max(map(len, handles)) + 6)))
        where = {"loc": "outside lower center", "ncols": columns}
        figure.legend(handles.values(), handles.keys(), **where)
