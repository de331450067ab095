"""Every figure of the report: found by file, checked for its columns, drawn in one style.

A figure is one file in `figures/` with

    TABLE     "runs" (a row per cell and seed) or "curves" (a row per measured value)
    NEEDS     columns of that table that it reads
    ORDER     where it stands on the page
    TITLE     a few words
    caption   `caption(table) -> str`: how to read it
    draw      `draw(table) -> matplotlib.figure.Figure`
"""

from __future__ import annotations

import importlib
import io
import pkgutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from reports import figures
from reports.analysis import need

STYLE = {
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.hashsalt": "fuselab",
    "text.parse_math": False,  # names are shown as written, dollars too
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure's file, loaded."""

    name: str
    table: Literal["runs", "curves"]
    needs: tuple[str, ...]
    order: int
    title: str
    caption: Callable[[pd.DataFrame], str]
    draw: Callable[[pd.DataFrame], Figure]
    file: str
    """Path of its source."""

    def drawn(self, table: pd.DataFrame) -> Figure:
        """The figure in the report's style. Raises ValueError where a column is missing."""
        need(table, self.needs, f"the {self.table} table for figure {self.name!r}")
        with matplotlib.rc_context(STYLE):
            figure = self.draw(table)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, not again for every file
        return figure

    def failure(self, error: Exception) -> str:
        """Says in a line why the figure is not drawn, with file and line where it raised."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f":{frame.lineno}" for frame in frames if frame.filename == self.file]
        where = f"{self.file}{''.join(lines[-1:])}"
        return f"figure {self.name!r} is not drawn: {where}: {type(error).__name__}: {error}"


def pictures() -> tuple[Picture, ...]:
    """All figures, in the order of the page."""
    loaded = []
    for entry in pkgutil.iter_modules(figures.__path__):
        file = importlib.import_module(f"{figures.__name__}.{entry.name}")
        loaded.append(
            Picture(
                name=entry.name,
                table=file.TABLE,
                needs=file.NEEDS,
                order=file.ORDER,
                title=file.TITLE,
                caption=file.caption,
                draw=file.draw,
                file=str(file.__file__),
            )
        )
    return tuple(sorted(loaded, key=lambda picture: (picture.order, picture.name)))


def saved(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """The figure's file; the same bytes for the same figure, so no date and no version in it."""
    nothing = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[kind]
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=200, metadata=nothing)
    return buffer.getvalue()


FONTS = b"'DejaVu Sans', Verdana, sans-serif"
"""Verdana is as wide."""


def with_words(figure: Figure) -> bytes:
    """The figure as SVG that holds its words as text, which can be found, read aloud and coloured,
    and is a third of the size of their outlines."""
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        return saved(figure, "svg").replace(b"'DejaVu Sans'", FONTS)
