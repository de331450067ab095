"""Heat maps over pictures: where a design looks for what an expression names.

Drawn from arrays alone: those that the task `grounding` keeps of a few items, or one of `fuselab
look`.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from reports.gallery import STYLE, saved

COLUMNS = 2
LETTERS = 50
NAMES = ("shown_image", "shown_map", "shown_box", "shown_text")
"""What the task keeps of each item that `kept` reads."""
HOW_TO_READ = "Brighter: speaks more for the words. Each map from 0 to its own highest value."

_SIDE, _WORDS, _TITLE, _EDGE = 1.8, 0.45, 0.55, 0.1
"""Inches: of a picture, of the words above it, of the title, and between things."""

_HEAT = ListedColormap(
    [(*to_rgb(matplotlib.colormaps["inferno"](x)), 0.85 * x) for x in np.linspace(0, 1, 256)]
)
"""Clear where a map is 0, so that the picture shows."""


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """A picture and its map for one expression."""

    image_HWC: np.ndarray
    """uint8 (H, W, C), C 1 or 3."""
    map_hw: np.ndarray
    """(h, w), 0 or more: one value a patch, top row first."""
    text: str
    box: tuple[float, float, float, float] | None = None
    """Left, top, right and bottom edge of the thing, as shares of the side."""
    point: tuple[float, float] | None = None
    """Where the map points, from the left and from the top, as shares of the side."""


def kept(predictions: Mapping[str, np.ndarray]) -> list[HeatMap]:
    """Returns the items that the task `grounding` kept whole; none where it kept none."""
    if not all(name in predictions for name in NAMES):
        return []
    return [
        HeatMap(image_HWC=image, map_hw=map_hw, box=tuple(box.tolist()), text=str(text))
        for image, map_hw, box, text in zip(*(predictions[name] for name in NAMES), strict=True)
    ]


def heat_maps(rows: Sequence[HeatMap], title: str) -> Figure:
    """Draws each picture plain and, beside it, under its map; with its box where it is known."""
    columns = min(len(rows), COLUMNS)
    lines = -(-len(rows) // columns)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        wide, high = 2 * columns * _SIDE + _EDGE, lines * (_SIDE + _WORDS) + _TITLE
        figure = Figure(figsize=(wide, high))
        _write(figure, _EDGE / wide, 1 - 0.06 / high, title, size=9).set_fontweight("bold")
        _write(figure, _EDGE / wide, 1 - 0.28 / high, HOW_TO_READ, size=7).set_color("#555555")
        for place, row in enumerate(rows):
            line, column = divmod(place, columns)
            top = high - _TITLE - line * (_SIDE + _WORDS)
            left = 2 * column * _SIDE + _EDGE
            folded = textwrap.wrap(row.text, LETTERS, max_lines=2, placeholder=" ...")
            _write(figure, left / wide, top / high, "\n".join(folded), size=8)
            for part in range(2):
                x, y = left + part * (_SIDE - _EDGE / 2), top - _WORDS - _SIDE + 2 * _EDGE
                side = _SIDE - _EDGE
                ax = figure.add_axes((x / wide, y / high, side / wide, side / high))
                _paint(ax, row, with_map=bool(part))
    return figure


def _write(figure: Figure, x: float, y: float, text: str, *, size: int) -> Text:
    place = {"ha": "left", "va": "top"}
    return figure.text(x, y, text, place, fontsize=size, parse_math=False)


def _paint(ax: Axes, row: HeatMap, *, with_map: bool) -> None:
    extent = (0, 1, 1, 0)
    image = row.image_HWC[..., 0] if row.image_HWC.shape[2] == 1 else row.image_HWC
    ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=extent)
    if with_map:
        most = float(row.map_hw.max()) or 1.0
        ax.imshow(
            row.map_hw,
            extent=extent,
            cmap=_HEAT,
            vmin=0,
            vmax=most,
            interpolation="bicubic",
        )
    if row.box is not None:
        left, top, right, bottom = row.box
        size = (right - left, bottom - top)
        ax.add_patch(Rectangle((left, top), *size, fill=False, edgecolor="white", linewidth=2.5))
        ax.add_patch(Rectangle((left, top), *size, fill=False, edgecolor="black", linewidth=1))
    if row.point is not None and with_map:
        for wide, colour in ((3.0, "white"), (1.5, "black")):
            ax.plot(*row.point, marker="x", color=colour, markersize=7, markeredgewidth=wide)
        ax.set(xlim=(0, 1), ylim=(1, 0))
    ax.set_axis_off()


def drawn(rows: Sequence[HeatMap], title: str, kind: Literal["png", "svg"]) -> bytes:
    """Draws the pictures as a file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box is drawn for it
        return saved(heat_maps(rows, title), kind)
