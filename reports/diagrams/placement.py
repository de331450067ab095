"""Places everything of a design's diagram before anything is painted: the parts, the wires between
them, heads beside what they read, and how many layers of what each column has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.diagrams.parts import Graph, Node, PlacedPart, layers_of, role, stand
from reports.diagrams.wires import Wire, across, nets_of, wires_of

PILL = (0.36, 0.16)
"""Width and height of a head."""
LINE, LETTER = 0.125, 0.066
"""Of a line of text, and of the widest letters in the mean."""


@dataclass(frozen=True, kw_only=True)
class Pill:
    """A pill is a head beside or above the part it reads; one that reads several stands at each."""

    head: str
    node: Node
    at: str
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Says how many layers of what, and how wide; `span`: the heights that it speaks of."""

    lines: tuple[str, ...]
    x: float
    top: float
    align: str
    """left, right or center."""
    span: tuple[float, float, float] | None = None
    """x, lowest and highest y of a bracket."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Places everything but the legend."""

    parts: Mapping[str, PlacedPart]
    wires: Sequence[Wire]
    pills: Sequence[Pill]
    captions: Sequence[Caption]
    field: str
    """Of a node, says where its weights start: `source` where some are given, else `slot`."""
    whole: bool
    """Whether a checkpoint of the whole design gives some."""
    box: tuple[float, float, float, float]
    """Left, right, lowest and highest."""


def place(graph: Graph) -> Placement:
    """Returns the places of all parts."""
    parts, edges, heads = stand(graph)
    nets = nets_of(parts, edges)
    beside = {parts[a].column for a, _, _ in heads if not _is_top(parts[a], parts)}
    across(parts, nets, beside)
    wires, pills = wires_of(parts, edges, nets), list[Pill]()
    nodes = {node["id"]: node for node in graph["nodes"]}
    for name in dict.fromkeys(a for a, _, _ in heads):
        own, more = _pills(parts, name, [nodes[b] for a, b, _ in heads if a == name])
        pills, wires = pills + own, wires + more
    captions = _captions(parts, pills)
    box = _box(parts, pills, captions)
    starts = {node.get("source", "fresh") for node in nodes.values()}
    return Placement(
        parts=parts,
        wires=wires,
        pills=pills,
        captions=captions,
        field="slot" if starts == {"fresh"} else "source",
        whole="whole" in starts,
        box=box,
    )


def _is_top(part: PlacedPart, parts: Mapping[str, PlacedPart]) -> bool:
    return not any(p.column == part.column and p.level > part.level for p in parts.values())


def _pills(
    parts: Mapping[str, PlacedPart], name: str, heads: Sequence[Node]
) -> tuple[list[Pill], list[Wire]]:
    """Places heads that read a part: above it where it is highest in its column, else outside."""
    part, (width, height), pills, wires = parts[name], PILL, list[Pill](), list[Wire]()
    for i, head in enumerate(heads):
        points: tuple[tuple[float, float], ...]
        if _is_top(part, parts):
            x, y = part.x + (i - (len(heads) - 1) / 2) * (width + 0.05), part.top + 0.26
            points = (x, part.top), (x, y - height / 2)
        else:
            way = -1 if part.column == 0 else 1
            edge = part.left if way < 0 else part.right
            x, y = edge + way * (0.14 + width / 2 + i * (width + 0.05)), part.y
            points = (edge, y), (x - way * width / 2, y)
        pills.append(Pill(head=head["id"], node=head, at=name, x=x, y=y))
        if not (wires and y == part.y):
            wires.append(Wire(start=name, end=head["id"], kind="head", points=points))
    return pills, wires


def _captions(parts: Mapping[str, PlacedPart], pills: Sequence[Pill]) -> list[Caption]:
    """Places words beside the outer columns with a bracket, below the inner ones."""
    captions = []
    last = max(part.column for part in parts.values())
    for column in range(last + 1):
        bands: dict[tuple[str, frozenset[str], bool], list[PlacedPart]] = {}
        for part in layers_of(parts):
            if part.column == column:
                bands.setdefault(part.band, []).append(part)
        own = [part for part in parts.values() if part.column == column]
        if 0 < column < last:
            lines = tuple(line for band in bands.values() for line in _counted(band))
            if not lines:
                continue
            lowest = min(own, key=lambda part: part.y)
            captions.append(
                Caption(lines=lines, x=lowest.x, top=lowest.bottom - 0.06, align="center")
            )
            continue
        way = -1 if column == 0 else 1
        beside = [
            p.x + way * PILL[0] / 2 for p in pills if parts[p.at] in own and p.y == parts[p.at].y
        ]
        edges = [part.left if way < 0 else part.right for part in own]
        edge = way * max(way * x for x in edges + beside) + way * 0.09
        for band in bands.values():
            span = (edge, min(p.bottom for p in band), max(p.top for p in band))
            lines = _counted(band)
            top = (span[1] + span[2] + LINE * len(lines)) / 2
            align = "right" if way < 0 else "left"
            captions.append(
                Caption(lines=lines, x=edge + way * 0.07, top=top, align=align, span=span)
            )
    return captions


def _counted(band: Sequence[PlacedPart]) -> tuple[str, ...]:
    """Says what a stack is, how many layers it has, and how wide it is."""
    node, count = band[0].node, len(band)
    what = "fusion" if band[0].band[-1] else node["phase"]
    lines = [what, f"{count} layer{'s' * (count > 1)}", f"{node['width']} wide"]
    tied = {other for part in band for other in part.node.get("tied", ())}
    # Those that are one with another part say so themselves.
    shares = any(role(part.name) not in map(role, tied) for part in band) and tied
    return (*lines, *(["tied in part"] if shares else []))


def _box(
    parts: Mapping[str, PlacedPart], pills: Sequence[Pill], captions: Sequence[Caption]
) -> tuple[float, float, float, float]:
    xs = [x for part in parts.values() for x in (part.left, part.right)]
    xs += [pill.x + way * PILL[0] / 2 for pill in pills for way in (-1, 1)]
    ys = [y for part in parts.values() for y in (part.bottom, part.top)]
    ys += [pill.y + PILL[1] / 2 for pill in pills]
    for caption in captions:
        ys += [caption.top, caption.top - LINE * len(caption.lines)]
        if caption.span:
            wide = LETTER * max(map(len, caption.lines))
            xs.append(caption.x + (wide if caption.align == "left" else -wide))
    return min(xs), max(xs), min(ys), max(ys)
