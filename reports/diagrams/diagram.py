"""Draws a design as a picture, from its graph (`architectures/views/graph.py`): who reads whom.

A slab is a layer; its fill says which model's weights it would start from, its number which layer
of that, the strip at its end where the rest of it would. Experts and crossings stand in its row. A
heavy edge says that image and text meet there; heavy arrows are reads of the other modality.
Objectives stand beside what they read.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from matplotlib.figure import Figure

from reports.diagrams.canvas import SMALL_TEXT, TEXT, TITLE, Canvas, Look, Point
from reports.diagrams.parts import PIECE, Graph, Node, PlacedPart
from reports.diagrams.placement import LINE, PILL, Placement, place
from reports.diagrams.wires import Wire
from reports.gallery import saved

# Tints that colour-blind readers tell apart, and the report's vermilion, darker.
FILLS = {
    "image": "#f7d38b", "text": "#a8d8f5", "other": "#cc8fb5", "whole": "#5fb58c",
    "fresh": "#ffffff",
}  # fmt: skip
MEETS, PLAIN, HEAD = "#c24d00", "#555555", "#ececec"
NAMES = {"heads.itc": "ITC", "heads.itm": "ITM", "heads.mlm": "MLM"}
LEGEND = {
    "slot": "Pretrained weights would come from (here there are none)",
    "source": "Pretrained weights come from",
}
FRESH = {"slot": "none, always fresh", "source": "none, drawn fresh"}
MARGIN, ENTRY, ENTRY_WIDTH, NARROWEST = 0.1, 0.17, 2.0, 4.0
"""Inches: around the picture; height and width of an entry of the legend; of the whole."""
STRIP = 0.12
"""Inches: of a slab, what shows that a part of the layer starts elsewhere."""


def diagram(graph: Graph, *, title: bool = True) -> Figure:
    """Draws the picture of a design; `title`: name it and the fields that were changed."""
    placed = place(graph)
    left, right, low, high = placed.box
    width = max(right - left, NARROWEST)
    left -= (width - (right - left)) / 2
    legend, columns = _legend(placed), int(width / ENTRY_WIDTH)
    words = _changed(graph, width) if title else []
    lacks = _wrapped(f"whole_weights lack {', '.join(graph.get('lacks', ()))}", width)
    lacks = lacks if graph.get("lacks") else []
    rows = 1 - -len(legend) // columns
    bottom = low - 0.15 - ENTRY * (rows + len(lacks))
    top = high + (0.3 + LINE * len(words) if title else 0.0)
    canvas = Canvas(
        (left - MARGIN, bottom - MARGIN), (width + 2 * MARGIN, top - bottom + 2 * MARGIN)
    )
    _paint(canvas, placed)
    if title:
        canvas.write(left, top - 0.09, graph["design"], size=TITLE, bold=True, align="left")
        for i, line in enumerate(words):
            canvas.write(left, top - 0.27 - LINE * i, line, align="left")
    canvas.write(left, low - 0.22, LEGEND[placed.field], align="left")
    for i, (key, text) in enumerate(legend):
        at = left + ENTRY_WIDTH * (i % columns), low - 0.22 - ENTRY * (1 + i // columns)
        _entry(canvas, at, key, text)
    for i, line in enumerate(lacks):
        canvas.write(left, low - 0.22 - ENTRY * (rows + i), line, align="left")
    return canvas.figure()


def drawn(graph: Graph, kind: Literal["png", "svg"], *, title: bool = True) -> bytes:
    """Returns the file of the picture; the same bytes for the same graph."""
    return saved(diagram(graph, title=title), kind)


def shape(graph: Graph) -> str:
    """Returns what a picture depends on, its title aside: graphs that share it look the same."""
    drawn = {key: graph.get(key) for key in ("nodes", "edges", "lacks")}
    return json.dumps(drawn, sort_keys=True)


# -- painting


def _paint(canvas: Canvas, placed: Placement) -> None:
    for part in placed.parts.values():
        _paint_row(canvas, part, placed.field)
    for wire, points in _branches(placed.wires):
        canvas.arrow(points, *((MEETS, 1.2) if wire.kind == "reads" else (PLAIN, 0.8)))
    for pill in placed.pills:
        fill = FILLS[origin(pill.node, placed.field)] if placed.whole else HEAD
        canvas.box(pill.x, pill.y, PILL, (fill, PLAIN, 0.7, "-"))
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


def _paint_row(canvas: Canvas, part: PlacedPart, field: str) -> None:
    """Paints a part, and what stands beside it."""
    rest, (width, height) = origin(part.node, f"{field}_rest"), part.size
    canvas.box(part.x, part.y, part.size, _look(part.node, field))
    shift = STRIP / 2 * part.looks if rest else 0.0
    if rest:
        x = part.x + (width - STRIP) / 2 * part.looks
        canvas.box(x, part.y, (STRIP, height), (FILLS[rest], PLAIN, 0.7, "-"))
    text = label(part, field)
    canvas.write(part.x - shift, part.y, text, size=SMALL_TEXT if part.small else TEXT)
    for piece in part.pieces:
        x, style = part.x + piece.x, "-" if piece.fuses else ":"
        canvas.box(x, part.y, PIECE, (*_look(piece.node, field)[:3], style))
        canvas.write(x, part.y, piece.name)
    if part.meets:
        ends = [way * width / 2 for way in (-1, 1)]
        ends += [p.x + way * PIECE[0] / 2 for p in part.pieces if p.fuses for way in (-1, 1)]
        low, high = min(ends), max(ends)
        row = (high - low, height)
        canvas.box(part.x + (low + high) / 2, part.y, row, ("none", MEETS, 1.5, "-"))


def _branches(wires: Sequence[Wire]) -> Iterator[tuple[Wire, Sequence[Point]]]:
    """Yields each wire without the piece of trunk that a longer one of the same part shows."""
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
    """Says whether an upright or level piece lies on another."""
    spans = [sorted(ends) for ends in zip(*trunk, strict=True)]
    level = any(low == high for low, high in spans)
    return level and all(
        low <= v <= high for p in piece for v, (low, high) in zip(p, spans, strict=True)
    )


def _look(node: Node, field: str) -> Look:
    return FILLS[origin(node, field)], PLAIN, 0.7, "-"


def _entry(canvas: Canvas, at: Point, key: str, text: str) -> None:
    x, y = at
    if key == "reads":
        canvas.arrow([(x, y), (x + 0.24, y)], MEETS, 1.2)
    elif key == "number":
        canvas.write(x + 0.12, y, "← 3")
    else:
        looks = {"meets": ("#ffffff", MEETS, 1.5, "-"), "alone": ("#ffffff", PLAIN, 0.7, ":")}
        look = looks.get(key) or (FILLS[key], PLAIN, 0.7, "-")
        canvas.box(x + 0.12, y, (0.24, 0.11), look)
    canvas.write(x + 0.32, y, text, align="left")


# -- what is written on and below it


def label(part: PlacedPart, field: str = "slot") -> str:
    """Returns what stands on a slab; `field`: see `origin`."""
    node, (name, again) = part.node, part.name.partition("#")[::2]
    if node["kind"] == "bridge":
        return "bridge" if part.inputs > 1 else "norm"
    if node["kind"] != "layer":
        words = {"embeddings": "words", "mlp": "MLP"}
        return words.get(node["kind"], str(node["kind"]))
    own, source = _number(name), _number(node[field])
    # Where experts stand beside it, only attention is left of a layer.
    what = "attention" if any(guest["kind"] == "expert" for guest in part.guests) else "layer"
    if again:
        return f"{what} {own}, tied"
    same = node[field] == name or (":" in node[field] and own == source)
    return f"{what} {own}" + (f" ← {source}" if source and not same else "")


def origin(node: Node, field: str = "slot") -> str:
    """Says whose weights a node has: image, text, other (a second text model), whole (a checkpoint
    of the whole design) or fresh. `field`: `slot`, where it would start, `source`, where it does,
    or of either with `_rest` those of its weights that start elsewhere; empty: none do.
    """
    start = node.get(field, "")
    if start in ("", "fresh", "whole"):
        return str(start)
    if node["id"].startswith("image."):
        return "image"
    return "other" if ":" in start else "text"


def _number(name: str) -> str:
    match = re.search(r"\.(\d+)$", name)
    return match.group(1) if match else ""


def _changed(graph: Graph, width: float) -> list[str]:
    """Returns the fields that differ from their defaults, in lines that fit."""
    changed: Mapping[str, object] = graph.get("changed", {})
    fields = [f"{k} = {v if isinstance(v, str) else json.dumps(v)}" for k, v in changed.items()]
    return _wrapped(", ".join(fields), width)


def _wrapped(text: str, width: float) -> list[str]:
    return textwrap.wrap(text, int(width / 0.064))


def _legend(placed: Placement) -> list[tuple[str, str]]:
    """Returns each key and what it means, of those that are there."""
    parts, field = placed.parts.values(), placed.field
    nodes = [node for part in parts for node in (part.node, *part.guests)]
    nodes += [pill.node for pill in placed.pills if placed.whole]
    there = {origin(node, f) for node in nodes for f in (field, f"{field}_rest")}
    other = next((n[field].partition(":")[0] for n in nodes if origin(n, field) == "other"), "")
    words = {"image": "the image model", "text": "the text model", "other": other}
    words |= {"whole": "whole_weights", "fresh": FRESH[field]}
    entries = [(key, text) for key, text in words.items() if key in there]
    if any("←" in label(part, field) for part in parts):
        entries.append(("number", "from layer 3 of that model"))
    if any(part.meets for part in parts):
        entries.append(("meets", "image and text meet"))
    if any(not piece.fuses for part in parts for piece in part.pieces):
        entries.append(("alone", "one modality alone (ITC)"))
    if any(wire.kind == "reads" for wire in placed.wires):
        entries.append(("reads", "reads the other modality"))
    return entries
