"""The parts of a design's graph (`architectures/views/graph.py`) get a column and a height here.

Image parts stand on the left, text parts on the right, layers that hold both between them. A stack
that takes up where a whole tower ends stands on that tower; one that begins beside it has a column
of its own. Heights follow who waits for whom. Lengths are inches; y is 0 at the lowest row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.results.tables import Graph

Node = Mapping[str, Any]
"""One part of a graph."""
Edge = tuple[str, str, str]
"""From, to, and as what: `input` or `reads`."""

SLAB, SMALL, PIECE = (1.0, 0.185), (0.52, 0.14), (0.86, 0.185)
"""Width and height of layers, of bridges, and of what stands in a layer's row."""
APART = 0.07
"""Between a layer and those of its experts that it does not fuse with."""
ROW, HALF_ROW, BREAK = 0.275, 0.235, 0.13
"""From row to row, to a row of bridges, and more where a new stack begins."""
IMAGE, IMAGE_STREAM, JOINT, TEXT_STREAM, TEXT = range(5)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece is what a layer has in its row beside its slab: an expert, or a crossing."""

    name: str
    node: Node
    """Whose colour it has: a part by itself, or the layer."""
    x: float
    """From the layer's middle to its own."""
    fuses: bool = True
    """Whether fusion goes through it, or one modality alone."""


@dataclass
class PlacedPart:
    """A part is a node with its place."""

    name: str
    node: Node
    sides: frozenset[str]
    """Which inputs it descends from, reads left aside: image, text or both."""
    inputs: int = 0
    """How many parts it works on."""
    meets: bool = False
    """Whether image and text meet in it."""
    guests: list[Node] = field(default_factory=list)
    """Parts that stand in its row."""
    pieces: list[Piece] = field(default_factory=list)
    """All that stands there beside the slab, from the inside out."""
    looks: int = 1
    """On which side it reads: -1 left, 1 right."""
    column: int = 0
    level: float = 0.0
    x: float = 0.0
    y: float = 0.0

    @property
    def small(self) -> bool:
        return bool(self.node["kind"] == "bridge")

    @property
    def follows(self) -> bool:
        """Says whether it stands where the layer that it feeds stands."""
        return self.node["kind"] in ("bridge", "queries")

    @property
    def size(self) -> tuple[float, float]:
        return SMALL if self.small else SLAB

    @property
    def stack(self) -> tuple[str, frozenset[str]]:
        """Names its stack: layers of one list that work on one modality."""
        return role(self.name).rpartition(".")[0], self.sides

    @property
    def number(self) -> int:
        """Returns its place in its stack; -1: it has none."""
        digits = role(self.name).rpartition(".")[2]
        return int(digits) if digits.isdigit() else -1

    @property
    def band(self) -> tuple[str, frozenset[str], bool]:
        """Says what is counted together: layers of a stack, before fusion or in it."""
        return (*self.stack, self.node["phase"] in ("fusion", "heads"))

    @property
    def left(self) -> float:
        return self.x + min([-self.size[0], *(2 * p.x - PIECE[0] for p in self.pieces)]) / 2

    @property
    def right(self) -> float:
        return self.x + max([self.size[0], *(2 * p.x + PIECE[0] for p in self.pieces)]) / 2

    @property
    def top(self) -> float:
        return self.y + self.size[1] / 2

    @property
    def bottom(self) -> float:
        return self.y - self.size[1] / 2


def stand(graph: Graph) -> tuple[dict[str, PlacedPart], list[Edge], list[Edge]]:
    """Returns parts in columns and rows, with edges between them and to heads; x comes later."""
    edges = [(edge["from"], edge["to"], edge["as"]) for edge in graph["edges"]]
    hosts = _hosts(graph["nodes"], edges)
    edges = list(dict.fromkeys((hosts.get(a, a), hosts.get(b, b), kind) for a, b, kind in edges))
    heads = [edge for edge in edges if edge[1].startswith("heads.")]
    # What a layer works on it need not be shown to read, too.
    edges = [e for e in edges if e[0] != e[1] and e not in heads and not _again(e, edges)]
    parts = _parts(graph["nodes"], edges, hosts)
    _columns(parts, edges)
    for part in parts.values():
        part.pieces = _pieces(part, parts, edges)
    _levels(parts, edges)
    _heights(parts)
    return parts, edges, heads


def _again(edge: Edge, edges: Sequence[Edge]) -> bool:
    return edge[2] == "reads" and (*edge[:2], "input") in edges


def layers_of(parts: Mapping[str, PlacedPart]) -> list[PlacedPart]:
    """Returns the layers among them."""
    return [part for part in parts.values() if part.node["kind"] == "layer"]


def role(name: str) -> str:
    """Returns the part itself, whichever of its calls: `fusion.1` of `fusion.1#2`."""
    return name.partition("#")[0]


def _hosts(nodes: Iterable[Node], edges: Sequence[Edge]) -> dict[str, str]:
    """Returns expert or crossing -> the layer in whose row it stands."""
    nodes = list(nodes)
    experts = {node["id"] for node in nodes if node["kind"] == "expert"}
    inside = {node["id"]: node["inside"] for node in nodes if node.get("inside")}
    return {b: a for a, b, _ in edges if b in experts and a not in experts} | inside


def _pieces(
    part: PlacedPart, parts: Mapping[str, PlacedPart], edges: Sequence[Edge]
) -> list[Piece]:
    """Returns what stands beside a part's slab: on the side where it reads the crossing, else
    experts, of which the layer's own MLP is one where there are others; those of fusion come first.
    """
    read = [parts[a] for a, b, kind in edges if b == part.name and kind == "reads"]
    part.looks = -1 if any(other.column < part.column for other in read) else 1
    of = "".join(sorted(frozenset[str]().union(*(other.sides for other in read))))
    crossings = [node for node in part.guests if node["kind"] == "crossing"]
    step = (SLAB[0] + PIECE[0]) / 2
    if crossings:
        name, (crossing, *_) = f"reads {of}", crossings
        return [Piece(name=name, node=crossing, x=part.looks * step)]
    experts = [(_of_role(node["id"]), node, node["phase"]) for node in part.guests]
    if experts and part.node.get("mlp"):
        own = "image expert" if part.name.startswith("image.") else "text expert"
        experts.insert(0, (own, part.node, part.node["mlp"]))
    pieces = list[Piece]()
    for name, node, phase in sorted(experts, key=lambda expert: expert[2] != "fusion"):
        fuses = phase == "fusion"
        x = step + PIECE[0] * len(pieces) + (0.0 if fuses else APART)
        pieces.append(Piece(name=name, node=node, x=x, fuses=fuses))
    return pieces


def _of_role(name: str) -> str:
    """Names an expert by its role: `text_experts.3` is a "text expert"; that of fusion has both
    modalities (VLMo's words).
    """
    words = name.rpartition(".")[0].removesuffix("s").replace("_", " ")
    return words.replace("fusion", "VL")


def _parts(
    nodes: Iterable[Node], edges: Sequence[Edge], hosts: Mapping[str, str]
) -> dict[str, PlacedPart]:
    """Returns the parts by name, each after all that it depends on."""
    nodes = [node for node in nodes if node["kind"] != "head"]
    shown = {node["id"]: node for node in nodes if node["id"] not in hosts}
    parts: dict[str, PlacedPart] = {}
    waiting = {name: {a for a, b, _ in edges if b == name} for name in shown}
    while len(parts) < len(shown):
        ready = [n for n in shown if n not in parts and waiting[n] <= parts.keys()]
        # A circle, as where a part is used in two ways, is cut at the part named first.
        for name in ready or [next(name for name in shown if name not in parts)]:
            node, before = shown[name], [(a, as_) for a, b, as_ in edges if b == name]
            inputs = [parts[a].sides for a, as_ in before if as_ == "input" and a in parts]
            looks = name.startswith("image.") or node["kind"] == "queries"
            sides = frozenset().union(*inputs) or frozenset(["image" if looks else "text"])
            meets = len(sides) > 1 or any(as_ == "reads" for _, as_ in before)
            meets &= node["kind"] != "bridge"  # which brings a stream its own tower
            parts[name] = PlacedPart(name, node, sides, len(inputs), meets)
    for node in nodes:
        if node["id"] in hosts:
            parts[hosts[node["id"]]].guests.append(node)
    return parts


def _columns(parts: Mapping[str, PlacedPart], edges: Sequence[Edge]) -> None:
    """Sets columns: image tower, image stream, joint layers, text stream, text tower, if there."""
    below: dict[str, set[str]] = {}
    for name in parts:
        inputs = [a for a, b, kind in edges if b == name and kind == "input"]
        below[name] = set(inputs).union(*(below.get(a, ()) for a in inputs))
    towers = {
        part.stack
        for part in parts.values()
        if len(part.sides) == 1 and part.node["phase"] in ("image", "text")
    }
    first: dict[tuple[str, frozenset[str]], str] = {}
    for part in parts.values():
        first.setdefault(part.stack, part.name)

    def column(part: PlacedPart) -> int:
        if len(part.sides) > 1:
            return JOINT
        tower = {p.name for p in parts.values() if p.stack in towers and p.sides == part.sides}
        outer = part.stack in towers or tower <= below[first[part.stack]]
        if "image" in part.sides:
            return IMAGE if outer else IMAGE_STREAM
        return TEXT if outer else TEXT_STREAM

    columns = {name: column(part) for name, part in parts.items()}
    for part in parts.values():
        if part.follows:  # the layer that it feeds, or else the one that feeds it
            fed = [b for a, b, kind in edges if a == part.name and kind == "input"]
            fed += [a for a, b, _ in edges if b == part.name and parts[a].band[-1]]
            columns[part.name] = columns[fed[0]] if fed else columns[part.name]
    used = sorted(set(columns.values()))
    for name, part in parts.items():
        part.column = used.index(columns[name])


def _levels(parts: Mapping[str, PlacedPart], edges: Sequence[Edge]) -> None:
    """Puts a part as low as what it waits for allows; of fusion, right below what it feeds."""
    placed = set[str]()
    for part in parts.values():
        before = [(parts[a], kind) for a, b, kind in edges if b == part.name and a in placed]
        part.level = max((a.level + _step(a, part, kind) for a, kind in before), default=0)
        placed.add(part.name)
    for part in reversed(list(parts.values())):
        fed = [(parts[b], kind) for a, b, kind in edges if a == part.name]
        fed = [(b, kind) for b, kind in fed if b.level >= part.level]
        above = [b.level - _step(part, b, "input") for b, _ in fed if b.column == part.column]
        if (part.band[-1] or part.follows) and above:
            part.level = min(above + [b.level - _step(part, b, kind) for b, kind in fed])


def _step(below: PlacedPart, above: PlacedPart, kind: str) -> float:
    """Says how much higher a part stands than what it depends on."""
    if below.small or above.small:
        return 0.5
    # Two streams that read each other: the same layers of both in one row.
    streams = kind == "reads" and below.band[-1] and below.column != above.column
    return 0.0 if streams and below.number >= above.number else 1.0


def _heights(parts: Mapping[str, PlacedPart]) -> None:
    """Sets rows at even distances, more where a stack ends in some column."""
    levels = sorted({part.level for part in parts.values()})
    small = {part.level for part in parts.values() if part.small}
    breaks = set()
    for column in {part.column for part in parts.values()}:
        stacked = sorted((p for p in layers_of(parts) if p.column == column), key=lambda p: p.level)
        breaks |= {b.level for a, b in itertools.pairwise(stacked) if a.band != b.band}
    heights = {levels[0]: 0.0}
    for lower, upper in itertools.pairwise(levels):
        row = HALF_ROW if {lower, upper} & small else ROW
        heights[upper] = heights[lower] + row + (BREAK if upper in breaks else 0.0)
    for part in parts.values():
        part.y = heights[part.level]
