"""Every figure of the report: found by file, checked for its columns, drawn in one style.

A figure is one file in `figures/` with

    TABLE     what it is drawn from: "runs" (a row per cell and seed), "curves" (a row per measured
              value), "contrasts" (a row per endpoint and compared cell), or another analysis
    NEEDS     columns of that table that it reads
    BESIDE    other tables that `draw` takes by name where they are there; may be left out
    OPTIONAL  True: not drawn, without a word, where the table is absent or empty, or where `draw`
              raises `NothingToDraw`; may be left out
    ORDER     where it stands on the page
    TITLE     a few words
    caption   `caption(table) -> str`: how to read it
    draw      `draw(table) -> matplotlib.figure.Figure`

PDF and PNG hold their fonts. An SVG holds words as text, to be found, read aloud and changed, in
DejaVu Sans or in what is as wide; for print take the PDF.
"""

from __future__ import annotations

import importlib
import io
import pkgutil
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from reports import figures
from reports.analysis import need
from reports.drawing import WIDTHS, NothingToDraw, name_marks, titles

Size = Literal["column", "page"]
Kind = Literal["pdf", "png", "svg"]
FONTS = "'DejaVu Sans', Verdana, sans-serif"
"""Verdana is as wide."""
NOTHING: dict[Kind, dict[str, None]] = {
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}
"""What a file would say of its making: the same figure is to give the same bytes."""
STYLE = {
    "axes.axisbelow": True,
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
    "pdf.fonttype": 42,  # fonts as they are, which journals ask for
    "svg.fonttype": "none",
    "svg.hashsalt": "fuselab",
    "text.parse_math": False,  # names are shown as written, dollars too
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
SMALLER = {
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "font.size": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}
"""Of the style, in a column: as small as print allows."""


def style(size: Size = "page") -> dict[str, object]:
    """Gives matplotlib's settings for a figure of a size."""
    smaller = SMALLER if size == "column" else {}
    return {**STYLE, **smaller, "figure.figsize": (WIDTHS[size], 4.0)}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure's file, loaded."""

    name: str
    table: str
    beside: tuple[str, ...]
    optional: bool
    needs: tuple[str, ...]
    order: int
    title: str
    caption: Callable[[pd.DataFrame], str]
    draw: Callable[..., Figure]
    file: str
    """Path of its source."""

    def drawn(
        self,
        table: pd.DataFrame | None,
        beside: Mapping[str, pd.DataFrame] | None = None,
        *,
        size: Size = "page",
        cells: Sequence[str] = (),
        **choices: object,
    ) -> Figure:
        """The figure in the report's style, as wide as a column or a page of a paper.

        `beside`: other tables by name, of which it takes its own; `cells`: all of the study in
        order, else those of the table; `choices`: what `draw` takes besides. Raises
        NothingToDraw where it is optional and shows nothing, ValueError where the table or
        a column is missing.
        """
        if self.optional and (table is None or table.empty):
            raise NothingToDraw(f"no table {self.table!r} for figure {self.name!r}")
        if table is None:
            raise ValueError(f"figure {self.name!r} needs the table {self.table!r}")
        need(table, self.needs, f"the {self.table} table for figure {self.name!r}")
        more = {name: beside[name] for name in self.beside if beside and name in beside}
        with matplotlib.rc_context(style(size)):
            figure = self.draw(table, **more, **choices)
            name_marks(figure, self.name, cells or list(table["cell"].unique()))
            for ax in figure.axes:  # else their number depends on the style when it is saved
                ax.tick_params(labelsize=matplotlib.rcParams["xtick.labelsize"])
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
                beside=getattr(file, "BESIDE", ()),
                optional=getattr(file, "OPTIONAL", False),
                needs=file.NEEDS,
                order=file.ORDER,
                title=file.TITLE,
                caption=file.caption,
                draw=file.draw,
                file=str(file.__file__),
            )
        )
    return tuple(sorted(loaded, key=lambda picture: (picture.order, picture.name)))


def saved(figure: Figure, kind: Kind) -> bytes:
    """The figure's file; the same bytes for the same figure, so no date and no version in it."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=200, metadata=NOTHING[kind])
    if kind != "svg":
        return buffer.getvalue()
    return _for_page(buffer.getvalue().decode(), figure).encode()


def _for_page(svg: str, figure: Figure) -> str:
    """Gives an SVG its fonts, the words of marks as titles, and ids that no other figure has: a
    page may hold many."""
    svg = svg.replace("'DejaVu Sans'", FONTS)
    words = titles(figure)

    def titled(group: re.Match[str]) -> str:
        return (
            f"{group[0]}<title>{escape(words[group[1]])}</title>" if group[1] in words else group[0]
        )

    svg = re.sub(r'<g id="(cell-[^"]*)"[^>]*>', titled, svg)
    name = figure.get_gid()
    if not name:
        return svg
    svg = re.sub(rf'\bid="(?!cell-|{re.escape(name)}")', f'id="{name}-', svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
