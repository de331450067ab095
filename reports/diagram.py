"""A design's graph (`architectures/graph.py`) as a picture: who stands on whom, and who reads whom.

A slab is a layer; its fill says which model's weights it would start from, its number which layer
of that. A heavy edge says that image and text meet in it; heavy arrows are reads of the other
modality. Objectives stand beside what they read.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.transforms import Affine2D

from reports.gallery import STYLE, saved
from reports.parts import EXPERT, SLAB, Graph, Node, Part
from reports.placement import LINE, PILL, Placement, place
from reports.wires import Wire

# Tints that colour-blind readers tell apart, and the report's vermilion, darker.
FILLS = {"image": "#f7d38b", "text": "#a8d8f5", "other": "#cc8fb5", "fresh": "#ffffff"}
MEETS, PLAIN, HEAD = "#c24d00", "#555555", "#ececec"
NAMES = {"heads.itc": "ITC", "heads.itm": "ITM", "heads.mlm": "MLM"}
MARGIN, ENTRY, ENTRY_WIDTH, NARROWEST = 0.1, 0.17, 2.0, 4.0
"""Inches: around the picture; height and width of an entry of the legend; of the whole."""
SMALL_TEXT, TEXT, TITLE = 6.5, 7.5, 10.0
"""Points."""
FONTS = b"'DejaVu Sans', Verdana, sans-serif"
"""Verdana is as wide."""
Point = tuple[float, float]
Look = tuple[str, str, float]
"""Fill, edge and width of a line; the fill of what is not closed is `none`."""


def diagram(graph: Graph, *, title: bool = True) -> Figure:
    """The picture of a design; `title`: name it and the fields that were changed."""
    placed = place(graph)
    left, right, low, high = placed.box
    width = max(right - left, NARROWEST)
    left -= (width - (right - left)) / 2
    legend, columns = _legend(placed), int(width / ENTRY_WIDTH)
    words = _changed(graph, width) if title else []
    bottom = low - 0.15 - ENTRY * (1 - -len(legend) // columns)
    top = high + (0.3 + LINE * len(words) if title else 0.0)
    canvas = _Canvas(
        (left - MARGIN, bottom - MARGIN), (width + 2 * MARGIN, top - bottom + 2 * MARGIN)
    )
    _paint(canvas, placed)
    if title:
        canvas.write(left, top - 0.09, graph["design"], size=TITLE, bold=True, align="left")
        for i, line in enumerate(words):
            canvas.write(left, top - 0.27 - LINE * i, line, align="left")
    canvas.write(left, low - 0.22, _legend_title(graph), align="left")
    for i, (key, said) in enumerate(legend):
        at = left + ENTRY_WIDTH * (i % columns), low - 0.22 - ENTRY * (1 + i // columns)
        _entry(canvas, at, key, said)
    return canvas.figure()


def drawn(graph: Graph, kind: Literal["png", "svg"], *, title: bool = True) -> bytes:
    """The file of the picture; the same bytes for the same graph. An SVG holds its words as text,
    which is a third of the size of their outlines.
    """
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        file = saved(diagram(graph, title=title), kind)
    return file.replace(b"'DejaVu Sans'", FONTS) if kind == "svg" else file


def shape(graph: Graph) -> str:
    """What a picture depends on, its title aside: graphs that share it look the same."""
    return json.dumps({"nodes": graph["nodes"], "edges": graph["edges"]}, sort_keys=True)


class _Canvas:
    """Collects shapes by their look and paints each look at once, which is quick and small."""

    def __init__(self, corner: Point, size: Point) -> None:
        """In inches: the lower left corner of the picture, its width and height."""
        self.corner, self.size = corner, size
        self.shapes: dict[tuple[int, Look], list[Outline]] = {}
        self.texts: list[dict[str, Any]] = []

    def box(self, x: float, y: float, size: Point, look: Look) -> None:
        """A box with round corners around a point."""
        self._add(4 if look[0] == "none" else 3, look, _rounded(x, y, *size))

    def line(self, points: Sequence[Point], colour: str, width: float) -> None:
        self._add(1, ("none", colour, width), Outline(points))

    def arrow(self, points: Sequence[Point], colour: str, width: float) -> None:
        """A line with a head at its end."""
        start, end = np.array(points[-2]), np.array(points[-1])
        along = (end - start) / np.hypot(*(end - start))
        length = 0.03 + 0.03 * width
        neck, across = end - length * along, 0.4 * length * np.array([-along[1], along[0]])
        self.line([*points[:-1], tuple(neck)], colour, width)
        corners = [end, neck + across, neck - across, end]
        self._add(2, (colour, "none", 0.0), Outline(corners, closed=True))

    def write(
        self, x: float, y: float, text: str, *, size: float = TEXT, bold: bool = False,
        align: str = "center",
    ) -> None:  # fmt: skip
        """A line of text, `y` its middle."""
        weight = "bold" if bold else "normal"
        more = {"x": x, "y": y, "s": text, "fontsize": size, "weight": weight, "ha": align}
        self.texts.append(more | {"va": "center_baseline", "zorder": 5})

    def _add(self, depth: int, look: Look, outline: Outline) -> None:
        self.shapes.setdefault((depth, look), []).append(outline)

    def figure(self) -> Figure:
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=self.size)
            inches = Affine2D().translate(-self.corner[0], -self.corner[1]) + figure.dpi_scale_trans
            for (depth, (fill, edge, width)), outlines in self.shapes.items():
                shape = PathPatch(Outline.make_compound_path(*outlines), transform=inches)
                shape.set(
                    facecolor=fill,
                    edgecolor=edge,
                    linewidth=width,
                    zorder=depth,
                    capstyle="projecting",
                )
                figure.add_artist(shape)
            for text in self.texts:
                figure.text(**text, transform=inches)
        return figure


def _rounded(x: float, y: float, width: float, height: float, radius: float = 0.04) -> Outline:
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


# -- painting


def _paint(canvas: _Canvas, placed: Placement) -> None:
    for part in placed.parts.values():
        canvas.box(part.x, part.y, part.size, _look(part.node))
        canvas.write(part.x, part.y, label(part), size=SMALL_TEXT if part.small else TEXT)
        if part.meets:
            row = (part.right - part.left, part.size[1])
            canvas.box((part.left + part.right) / 2, part.y, row, ("none", MEETS, 1.5))
        for i, expert in enumerate(part.experts):
            x = part.x + SLAB[0] / 2 + (i + 0.5) * EXPERT[0]
            canvas.box(x, part.y, EXPERT, _look(expert))
            canvas.write(x, part.y, _stack_name(expert["id"]))
    for wire, points in _branches(placed.wires):
        canvas.arrow(points, *((MEETS, 1.2) if wire.kind == "reads" else (PLAIN, 0.8)))
    for pill in placed.pills:
        canvas.box(pill.x, pill.y, PILL, (HEAD, PLAIN, 0.7))
        name = NAMES.get(pill.head, pill.head.rpartition(".")[2])
        canvas.write(pill.x, pill.y, name, size=SMALL_TEXT)
    for caption in placed.captions:
        fusion = caption.lines[0] == "fusion"
        if caption.span:
            x, low, high = caption.span
            canvas.line([(x, low), (x, high)], *((MEETS, 1.5) if fusion else (PLAIN, 0.8)))
        for i, line in enumerate(caption.lines):
            y = caption.top - LINE * (i + 0.5)
            canvas.write(caption.x, y, line, bold=i == 0, align=caption.align)


def _branches(wires: Sequence[Wire]) -> Iterator[tuple[Wire, Sequence[Point]]]:
    """Every wire without the piece of trunk that a longer one from the same part shows already."""
    trunks: dict[tuple[str, str], list[tuple[Point, Point]]] = {}
    for wire in sorted(wires, key=lambda wire: -_length(wire.points)):
        shown = trunks.setdefault((wire.start, wire.kind), [])
        points = list(wire.points)
        while len(points) > 2 and any(_within(points[:2], trunk) for trunk in shown):
            del points[0]
        shown += itertools.pairwise(points)
        yield wire, points


def _length(points: Sequence[Point]) -> float:
    return sum(math.dist(a, b) for a, b in itertools.pairwise(points))


def _within(piece: Sequence[Point], trunk: tuple[Point, Point]) -> bool:
    """Whether an upright or level piece lies on another."""
    spans = [sorted(ends) for ends in zip(*trunk, strict=True)]
    level = any(low == high for low, high in spans)
    return level and all(
        low <= v <= high for p in piece for v, (low, high) in zip(p, spans, strict=True)
    )


def _look(node: Node) -> Look:
    return FILLS[origin(node)], PLAIN, 0.7


def _entry(canvas: _Canvas, at: Point, key: str, said: str) -> None:
    x, y = at
    if key == "reads":
        canvas.arrow([(x, y), (x + 0.24, y)], MEETS, 1.2)
    elif key == "number":
        canvas.write(x + 0.12, y, "← 3")
    else:
        look = ("#ffffff", MEETS, 1.5) if key == "meets" else (FILLS[key], PLAIN, 0.7)
        canvas.box(x + 0.12, y, (0.24, 0.11), look)
    canvas.write(x + 0.32, y, said, align="left")


# -- what is written on and below it


def label(part: Part) -> str:
    """What stands on a slab."""
    node, (name, again) = part.node, part.name.partition("#")[::2]
    if node["kind"] == "bridge":
        return "bridge" if part.inputs > 1 else "norm"
    if node["kind"] != "layer":
        words = {"embeddings": "words", "mlp": "MLP"}
        return words.get(node["kind"], str(node["kind"]))
    own, source = _number(name), _number(node["slot"])
    if again:
        return f"layer {own}, tied"
    given = node["slot"] == name or (":" in node["slot"] and own == source)
    return f"layer {own}" + (f" ← {source}" if source and not given else "")


def origin(node: Node) -> str:
    """Whose weights a node would start from: image, text, other (a second text model) or fresh."""
    if node["slot"] == "fresh":
        return "fresh"
    if node["id"].startswith("image."):
        return "image"
    return "other" if ":" in node["slot"] else "text"


def _number(name: str) -> str:
    found = re.search(r"\.(\d+)$", name)
    return found.group(1) if found else ""


def _stack_name(name: str) -> str:
    """`text_experts.3` is a "text expert"."""
    return name.rpartition(".")[0].removesuffix("s").replace("_", " ")


def _changed(graph: Graph, width: float) -> list[str]:
    """The fields that differ from their defaults, in lines that fit."""
    changed: Mapping[str, Any] = graph.get("changed", {})
    said = [f"{k} = {v if isinstance(v, str) else json.dumps(v)}" for k, v in changed.items()]
    return textwrap.wrap(", ".join(said), int(width / 0.064))


def _legend(placed: Placement) -> list[tuple[str, str]]:
    """Key and what it means, of those that are there."""
    nodes = [node for part in placed.parts.values() for node in (part.node, *part.experts)]
    there = {origin(node) for node in nodes}
    other = next((n["slot"].partition(":")[0] for n in nodes if origin(n) == "other"), "")
    words = {"image": "the image model", "text": "the text model", "other": other}
    words["fresh"] = "none, always fresh"
    found = [(key, said) for key, said in words.items() if key in there]
    if any("←" in label(part) for part in placed.parts.values()):
        found.append(("number", "from layer 3 of that model"))
    if any(part.meets for part in placed.parts.values()):
        found.append(("meets", "image and text meet"))
    if any(wire.kind == "reads" for wire in placed.wires):
        found.append(("reads", "reads the other modality"))
    return found


def _legend_title(graph: Graph) -> str:
    if any(node["source"] != "fresh" for node in graph["nodes"]):
        return "Pretrained weights come from"
    return "Pretrained weights would come from (here there are none)"
