"""A sheet shows rows to look at: pictures as the model sees them, with captions and groups."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from reports.gallery import STYLE, saved

COLUMNS = 4
LETTERS, LINES = 42, 7
"""Of the captions of one picture; what is longer is cut, and says so."""

_HIGH, _WORDS, _TITLE = 3.35, 1.2, 0.4
"""Inches: of a row of the sheet, of its words alone, and of the title."""


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """A row is one picture and what is said of it."""

    image_HWC: np.ndarray
    """uint8 (H, W, C), C 1 or 3."""
    captions: Sequence[str]
    heading: str
    """A line above the picture: its row and group."""


def sheet(rows: Sequence[SheetRow], title: str) -> Figure:
    """Draws the rows, four beside each other."""
    lines = -(-len(rows) // COLUMNS)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(2.6 * COLUMNS, _HIGH * lines + _TITLE))
        figure.suptitle(title, x=0.02, y=0.99, ha="left", va="top", fontsize=10, weight="bold")
        axes = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
        high = figure.get_size_inches()[1]
        edges = {"left": 0.02, "right": 0.98, "top": 1 - (_TITLE + 0.2) / high}
        picture = _HIGH - _WORDS
        figure.subplots_adjust(**edges, bottom=_WORDS / high, hspace=_WORDS / picture, wspace=0.1)
        for ax, row in zip(axes, rows, strict=False):
            image = row.image_HWC
            image = image[..., 0] if image.shape[2] == 1 else image
            ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            ax.set_title(row.heading, loc="left", fontsize=7, color="#555555", pad=3)
            words = {"ha": "left", "va": "top", "fontsize": 7, "transform": ax.transAxes}
            ax.text(0, -0.04, _folded(row.captions), parse_math=False, **words)
        for ax in axes:
            ax.set_axis_off()
    return figure


def drawn(rows: Sequence[SheetRow], title: str, kind: Literal["png", "svg"]) -> bytes:
    """Draws the rows as a file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box is drawn for it
        return saved(sheet(rows, title), kind)


def _folded(captions: Sequence[str]) -> str:
    """Folds captions between words, a dash before each, to so many lines."""
    lines = [
        line
        for caption in captions
        for line in textwrap.wrap(
            _printable(caption), LETTERS, initial_indent="- ", subsequent_indent="  "
        )
    ]
    if len(lines) > LINES:
        left = len(captions) - sum(line.startswith("- ") for line in lines[: LINES - 1])
        more = f"(and {left} more)" if left > 0 else "(...)"
        lines = [*lines[: LINES - 1], more]
    return "\n".join(lines)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
