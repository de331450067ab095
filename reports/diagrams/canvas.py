"""A diagram is painted on this sheet: boxes, wires and words in inches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.transforms import Affine2D

from reports.gallery import STYLE

SMALL_TEXT, TEXT, TITLE = 6.5, 7.5, 10.0
"""Points."""

Point = tuple[float, float]

Look = tuple[str, str, float, str]
"""Fill, edge, width and style of a line; the fill of what is not closed is `none`."""


class Canvas:
    """Collects shapes by their look and paints each look at once, which is quick and small."""

    def __init__(self, corner: Point, size: Point) -> None:
        """Takes, in inches, the lower left corner of the picture, its width and height."""
        self.corner, self.size = corner, size
        self.shapes: dict[tuple[int, Look], list[Outline]] = {}
        self.texts: list[dict[str, Any]] = []

    def box(self, x: float, y: float, size: Point, look: Look) -> None:
        """Draws a box with round corners around a point."""
        self._add(4 if look[0] == "none" else 3, look, rounded(x, y, *size))

    def line(self, points: Sequence[Point], colour: str, width: float) -> None:
        self._add(1, ("none", colour, width, "-"), Outline(points))

    def arrow(self, points: Sequence[Point], colour: str, width: float) -> None:
        """Draws a line with a head at its end."""
        start, end = np.array(points[-2]), np.array(points[-1])
        along = (end - start) / np.hypot(*(end - start))
        length = 0.03 + 0.03 * width
        neck, across = end - length * along, 0.4 * length * np.array([-along[1], along[0]])
        self.line([*points[:-1], tuple(neck)], colour, width)
        corners = [end, neck + across, neck - across, end]
        self._add(2, (colour, "none", 0.0, "-"), Outline(corners, closed=True))

    def write(
        self, x: float, y: float, text: str, *, size: float = TEXT, bold: bool = False,
        align: str = "center",
    ) -> None:  # fmt: skip
        """Writes a line of text, `y` its middle."""
        weight = "bold" if bold else "normal"
        more = {"x": x, "y": y, "s": text, "fontsize": size, "weight": weight, "ha": align}
        self.texts.append(more | {"va": "center_baseline", "zorder": 5})

    def _add(self, depth: int, look: Look, outline: Outline) -> None:
        self.shapes.setdefault((depth, look), []).append(outline)

    def figure(self) -> Figure:
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=self.size)
            inches = Affine2D().translate(-self.corner[0], -self.corner[1]) + figure.dpi_scale_trans
            for (depth, (fill, edge, width, style)), outlines in self.shapes.items():
                shape = PathPatch(Outline.make_compound_path(*outlines), transform=inches)
                shape.set(
                    facecolor=fill,
                    edgecolor=edge,
                    linewidth=width,
                    linestyle=style,
                    zorder=depth,
                    capstyle="projecting",
                )
                figure.add_artist(shape)
            for text in self.texts:
                figure.text(**text, transform=inches)
        return figure


def rounded(x: float, y: float, width: float, height: float, radius: float = 0.04) -> Outline:
    corners = [(1, 1), (-1, 1), (-1, -1), (1, -1)]
    points, codes = [], []
    for i, (a, b) in enumerate(corners):
        corner = np.array([x + a * width / 2, y + b * height / 2])
        upright, level = np.array([0, -b * radius]), np.array([-a * radius, 0])
        before, after = (upright, level) if i % 2 == 0 else (level, upright)
        points += [corner + before, corner, corner + after]
        codes += [Outline.LINETO, Outline.CURVE3, Outline.CURVE3]
    codes[0] = Outline.MOVETO
    return Outline([*points, points[0]], [*codes, Outline.CLOSEPOLY])
