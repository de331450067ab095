"""Lays wires between the parts of a diagram, and sets the x of its columns to leave room for them.

Within a column a wire goes straight up. Between columns it runs in the gutter, as a trunk where it
has several targets or a long way, so that none crosses a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.diagrams.parts import ROW, SLAB, Edge, PlacedPart

GUTTER, STRAIGHT, TRACK, BESIDE = 0.46, 0.2, 0.09, 0.52
"""Widths of a gutter, and what it has more for straight wires, each further trunk, heads in it."""


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A wire is a line of straight pieces, with an arrow at its end."""

    start: str
    end: str
    kind: str
    """`input`, `reads` or `head`."""
    points: tuple[tuple[float, float], ...]


@dataclass
class Net:
    """A net is what leaves one part for one gutter: a trunk with a branch to each target."""

    source: PlacedPart
    kind: str
    gutter: int
    """Between this column and the next."""
    targets: list[PlacedPart]
    track: float | None = None
    """x of the trunk; None: a straight line."""


def nets_of(parts: Mapping[str, PlacedPart], edges: Sequence[Edge]) -> list[Net]:
    nets: dict[tuple[str, str, int], Net] = {}
    last = max(part.column for part in parts.values())
    for a, b, kind in edges:
        source, target = parts[a], parts[b]
        if _upright(source, target, parts):
            continue
        rightwards = target.column > source.column or (
            target.column == source.column and source.column < last
        )
        gutter = source.column if rightwards else source.column - 1
        net = nets.setdefault((a, kind, gutter), Net(source, kind, gutter, []))
        net.targets.append(target)
    return list(nets.values())


def _upright(source: PlacedPart, target: PlacedPart, parts: Mapping[str, PlacedPart]) -> bool:
    """Says whether nothing stands between two parts of one column."""
    levels = (source.level, target.level)
    return source.column == target.column and not any(
        part.column == source.column and min(levels) < part.level < max(levels)
        for part in parts.values()
    )


def _is_straight(net: Net) -> bool:
    (target, *others) = net.targets
    near = abs(target.level - net.source.level) <= 1
    return not others and near and abs(target.column - net.source.column) == 1


def across(parts: Mapping[str, PlacedPart], nets: Sequence[Net], pills_at: set[int]) -> None:
    """Sets the x of columns and trunks. A lower source's trunk runs farther out, so that trunks of
    one side do not cross.
    """
    last = max(part.column for part in parts.values())
    edge = 0.0
    for column in range(last + 1):
        own = [part for part in parts.values() if part.column == column]
        for part in own:
            part.x = 0.0
        inwards = max([SLAB[0] / 2, *(-part.left for part in own)])
        for part in own:
            part.x = edge + inwards
        edge = max(part.right for part in own)
        trunks = [net for net in nets if net.gutter == column and not _is_straight(net)]
        trunks.sort(key=lambda n: (n.source.column > column, _outwards(n, column), n.kind))
        room = BESIDE if 0 < column < last and column in pills_at else 0.0
        for place, net in enumerate(trunks):
            net.track = edge + room + GUTTER / 2 + TRACK * place
        edge += room + GUTTER + TRACK * max(len(trunks) - 1, 0)
        if any(net.gutter == column and _is_straight(net) for net in nets):
            edge += STRAIGHT


def _outwards(net: Net, gutter: int) -> float:
    return net.source.level if net.source.column > gutter else -net.source.level


def wires_of(
    parts: Mapping[str, PlacedPart], edges: Sequence[Edge], nets: Sequence[Net]
) -> list[Wire]:
    wires = list[Wire]()
    for a, b, kind in edges:
        if _upright(parts[a], parts[b], parts):
            upright = (parts[a].x, parts[a].top), (parts[b].x, parts[b].bottom)
            wires.append(Wire(start=a, end=b, kind=kind, points=upright))
    ends = [(net.source.name, _side(net.source, net.gutter), "out") for net in nets]
    ends += [(t.name, _side(t, _entry(net, t)), "in") for net in nets for t in net.targets]
    for net in nets:
        for target in net.targets:
            points = _path(net, target, set(ends))
            wires.append(Wire(start=net.source.name, end=target.name, kind=net.kind, points=points))
    return wires


def _entry(net: Net, target: PlacedPart) -> int:
    """Returns the gutter from which a wire comes to its target."""
    if net.gutter in (target.column - 1, target.column):
        return net.gutter
    return target.column - 1 if target.column > net.gutter else target.column


def _side(part: PlacedPart, gutter: int) -> str:
    return "right" if gutter == part.column else "left"


def _path(
    net: Net, target: PlacedPart, ends: set[tuple[str, str, str]]
) -> tuple[tuple[float, float], ...]:
    """Returns the corners from the source to a target. Where wires leave and enter one side of a
    part, they leave above and enter below.
    """

    def at(part: PlacedPart, gutter: int, way: str) -> tuple[float, float]:
        side = _side(part, gutter)
        both = {(part.name, side, "in"), (part.name, side, "out")} <= ends
        shift = 0.25 * part.size[1] * (1 if way == "out" else -1) if both else 0.0
        return (part.right if side == "right" else part.left), part.y + shift

    start, entry = at(net.source, net.gutter, "out"), _entry(net, target)
    end = at(target, entry, "in")
    if net.track is None:
        return start, end
    if entry == net.gutter:
        return start, (net.track, start[1]), (net.track, end[1]), end
    # Across columns: between the rows, then up beside the target.
    between = target.bottom - (ROW - SLAB[1]) / 2
    beside = end[0] + (0.12 if _side(target, entry) == "right" else -0.12)
    corners = (net.track, start[1]), (net.track, between), (beside, between), (beside, end[1])
    return start, *corners, end
