"""Figures share what stands here: a colour and a marker per cell, names in words, a legend below.

Colours differ for colour-blind readers and in grey: the eight of `DISTINCT` lie at least 30 apart
(CIE 1976) as seen with normal sight, protanopia and deuteranopia (Machado et al. 2009), and 8 in
lightness. The next eight are tints of them, and markers tell apart what colours do not.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict
from weakref import WeakKeyDictionary

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

DISTINCT = (
    "#104C89", "#EC970D", "#6A0203", "#0E8F7A", "#370B29", "#B773FE", "#88C9E6", "#BA3C12",
)  # fmt: skip
FLOORS = ("#767676", "#a0a0a0", "#555555")
SHAPES = ("o", "s", "D", "X", "P", "*", ">", "p", "<", "h")
"""None points up or down: that is what the signs of verdicts do."""
REGION, ZERO, QUIET = "#f4e9cf", "#8a7440", "#444444"
"""Of the region of equivalence, the control's line in it, and of marks that speak of all cells."""
SIGNS = {"better": "▲", "worse": "▼", "equal": "=", "undecided": "?"}
WIDTHS = {"column": 3.3, "page": 7.0}
"""Inches: of a figure in one column of a paper, and across the page."""
MEAN = "mean_over_training"
"""The group of scores that average a validation curve over training."""

ACRONYMS = re.compile(r"\b(itc|itm|mlm|lm|vqa|nlvr2|iou)\b")
"""Names that the field writes in capitals."""

DASHES = {"compared": "-", "floor": "--"}


class NothingToDraw(ValueError):
    """Says that a study has nothing that this figure could show; the report leaves it out."""


@dataclass(frozen=True)
class _Mark:
    cell: str
    words: str


_MARKS: WeakKeyDictionary[Artist, _Mark] = WeakKeyDictionary()


# -- a look for every cell


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
    cells, floors, ordered = _ranked(table)
    if ordered or len(cells) > 2 * len(DISTINCT):
        # Viridis without its palest end, which does not show on white.
        chosen = [to_hex(c) for c in colormaps["viridis"](np.linspace(0, 0.85, len(cells)))]
    else:
        tints = [to_hex(0.65 * np.array(to_rgb(colour)) + 0.35) for colour in DISTINCT]
        chosen = [*DISTINCT, *tints][: len(cells)]
    greys = [FLOORS[i % len(FLOORS)] for i in range(len(floors))]
    return dict(zip([*cells, *floors], [*chosen, *greys], strict=True))


def markers(table: pd.DataFrame) -> dict[str, str]:
    """Gives cell -> marker, in the order of the colours; floors come last.

    `table` has the columns cell, role and axis, cells in the study's order.
    """
    cells, floors, _ = _ranked(table)
    return {cell: SHAPES[i % len(SHAPES)] for i, cell in enumerate([*cells, *floors])}


def _ranked(table: pd.DataFrame) -> tuple[list[str], list[str], bool]:
    """Gives compared cells, floors, and whether the cells are ordered along an axis."""
    roles = table.drop_duplicates("cell").set_index("cell")["role"]
    cells, floors = list(roles.index[roles == "compared"]), list(roles.index[roles != "compared"])
    axis = axis_of_cells(table)
    if axis is None or len(cells) < 2:
        return cells, floors, False
    return sorted(cells, key=axis.__getitem__), floors, True


class Look(TypedDict):
    """How matplotlib draws the line and the markers of a cell."""

    marker: str
    color: str
    markersize: float
    markerfacecolor: str
    markeredgecolor: str
    markeredgewidth: float


def look(row: pd.Series, size: float = 5.0, *, hollow: bool = False) -> Look:
    """Gives the look of a cell: hollow for a floor, black-edged for the control.

    `row` has the columns role, colour and marker, and is_control where the figure shows it.
    """
    return {
        "marker": row["marker"],
        "color": row["colour"],
        "markersize": size + (row["marker"] in "*P"),  # these two have little area
        "markerfacecolor": "white" if hollow or row["role"] == "floor" else row["colour"],
        "markeredgecolor": "black" if row.get("is_control", False) else row["colour"],
        "markeredgewidth": 1.1,
    }


def _outline(sign: str) -> Path:
    """Gives a sign as a marker."""
    path = TextPath((0, 0), sign, prop=FontProperties(family="DejaVu Sans"))
    return path.transformed(Affine2D().translate(*-path.get_extents().get_points().mean(axis=0)))


def signs(verdicts: Iterable[str]) -> list[Line2D]:
    """Gives entries of a legend for the signs of the verdicts that occur."""
    occur = set(verdicts)
    return [
        Line2D(
            [], [], linestyle="", marker=_outline(sign), label=kind, color=QUIET, markersize=6.5,
            markeredgewidth=0,
        )
        for kind, sign in SIGNS.items()
        if kind in occur
    ]  # fmt: skip


# -- what the page can do with a figure


def mark(artist: Artist, cell: object, words: str = "") -> None:
    """Notes which cell an artist shows, and what it says when a reader points at it.

    In an SVG the artist is a group with the id `cell-<n>--<figure>-<k>`, n the cell's place in the
    study, k a count in the figure; the words are its `<title>`.
    """
    _MARKS[artist] = _Mark(str(cell), words)


def name_marks(figure: Figure, name: str, cells: Sequence[str]) -> None:
    """Gives the figure its name, and every artist that `mark` noted its id; `cells` in the study's
    order. An artist of no such cell gets none."""
    figure.set_gid(name)
    places = {str(cell): place for place, cell in enumerate(cells)}
    noted = [artist for artist in figure.findobj() if artist in _MARKS]
    for count, artist in enumerate(noted):
        place = places.get(_MARKS[artist].cell)
        artist.set_gid(None if place is None else f"cell-{place}--{name}-{count}")


def titles(figure: Figure) -> dict[str, str]:
    """Gives id -> the words of artists that have some."""
    noted = (artist for artist in figure.findobj() if artist in _MARKS)
    pairs = ((artist.get_gid(), _MARKS[artist].words) for artist in noted)
    return {gid: words for gid, words in pairs if gid and words}


# -- words and places


def in_words(column: str) -> str:
    """Writes a column as a label: `retrieval/mean_recall` is "retrieval mean recall", and
    `mean_over_training/itm_loss` is "ITM loss, mean over training"."""
    plain = column.removeprefix("set.").removeprefix("config.").removeprefix("val/")
    group, slash, score = plain.partition("/")
    if slash and group == MEAN:
        plain = f"{score}, {group}"
    return ACRONYMS.sub(lambda name: name[0].upper(), plain.replace("_", " ").replace("/", " "))


def counted(column: str) -> list[str | int]:
    """Gives a sorting key under which `r_at_5` comes before `r_at_10`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", column)]


def number(value: float) -> str:
    """Writes a value for a reader who points at it, by four digits."""
    return f"{value:.4g}"


def signed(value: float) -> str:
    """Writes a difference by three digits, with its sign."""
    return f"{value:+.3g}".replace("-", "−")


def wrapped(name: str, letters: int) -> str:
    """Breaks a name into lines of so many letters at most, at spaces where it has some."""
    return "\n".join(textwrap.wrap(name, letters)) or name


def blank(height: float, width: float = 1.0) -> Figure:
    """Gives an empty figure of so many inches height, as wide as was asked for or a share of it."""
    return Figure(figsize=(width * wide(), height), layout="constrained")


def wide() -> float:
    """Gives the width asked for, in inches."""
    return float(matplotlib.rcParams["figure.figsize"][0])


def across(panels: int, inches: float) -> int:
    """Says how many panels stand side by side, each so many inches wide at least."""
    return max(1, min(panels, int(wide() / inches)))


def legend_below(
    figure: Figure, axes: Iterable[Axes], more: Sequence[Artist] = (), most: int = 5
) -> None:
    """Puts one legend under all panels, in lines that the figure grows by; a label that appears in
    several panels appears once. `more`: entries that stand in no panel."""
    handles: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    handles |= {str(handle.get_label()): handle for handle in more}
    if not handles:
        return
    room = int(wide() / 0.071)  # letters of the legend's size in a line
    labels = [wrapped(label, max(24, room // 2 - 8)) for label in handles]
    longest = max(len(line) for label in labels for line in label.split("\n"))
    columns = max(1, min(most, len(labels), room // (longest + 6)))
    lines = sum(
        max(label.count("\n") + 1 for label in labels[row :: -(-len(labels) // columns)])
        for row in range(-(-len(labels) // columns))
    )
    figure.set_figheight(figure.get_figheight() + 0.165 * lines)
    where = {"loc": "outside lower center", "ncols": columns}
    legend = figure.legend(list(handles.values()), labels, **where)
    for shown, text, handle in zip(
        legend.legend_handles, legend.get_texts(), handles.values(), strict=True
    ):
        if handle in _MARKS:
            for artist in (shown, text):
                if artist is not None:
                    mark(artist, _MARKS[handle].cell)
