"""The graph of rooms, read from the imports, and its picture: `make rooms` writes docs/rooms.svg.

A module's imports are all of them, those inside functions too; only what stands under
`if TYPE_CHECKING:` is left out, because it never runs. Rooms and their order come from the `layers`
contracts of `.importlinter`. The SVG is written by hand, so that the same tree gives the same bytes
on every machine.
"""

from __future__ import annotations

import ast
import configparser
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("architectures", "harness", "studies", "reports")
Graph = Mapping[str, set[str]]
"""What imports -> what it imports."""


# -- what imports what


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Dotted name of every module of the four packages -> its file; packages are left out, because
    their `__init__.py` files are empty.
    """
    files = (file for package in PACKAGES for file in sorted((root / package).rglob("*.py")))
    return {
        ".".join(file.relative_to(root).with_suffix("").parts): file
        for file in files
        if file.name != "__init__.py"
    }


def imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Every module -> the modules of the four packages that it imports, anywhere in its file."""
    files = modules(root)
    return {
        name: {found for found in _imported(ast.parse(file.read_text())) if found in files}
        for name, file in files.items()
    }


def _imported(node: ast.AST) -> Iterator[str]:
    """Names that may be modules, of every import below a node that can run."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, "imports name the whole path"
        yield str(node.module)
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        for child in node.orelse:
            yield from _imported(child)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _imported(child)


def circles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that reach each other, by Tarjan's algorithm ("Depth-first search and linear
    graph algorithms", 1972).
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            start = stack.index(node)
            groups.append(sorted(stack[start:]))
            del stack[start:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return [group for group in groups if len(group) > 1 or group[0] in graph[group[0]]]


# -- rooms and their order


@dataclasses.dataclass(frozen=True, kw_only=True)
class Floor:
    """One `layers` contract: rows of rooms, each row standing on those below it."""

    inside: str
    """The package whose rooms they are; empty: the whole house."""
    rows: tuple[tuple[str, ...], ...]
    """Full names of rooms, the top row first."""

    def room_of(self, module: str) -> str:
        """The room of a module; empty where none of this floor holds it."""
        fitting = [room for row in self.rows for room in row if f"{module}.".startswith(f"{room}.")]
        return max(fitting, key=len, default="")

    def row_of(self, room: str) -> int:
        """The row of a room, counted from the top."""
        return next(place for place, row in enumerate(self.rows) if room in row)

    def arrows(self, graph: Graph) -> dict[str, set[str]]:
        """Every room of this floor -> the other rooms of it that its modules import."""
        arrows: dict[str, set[str]] = {room: set() for row in self.rows for room in row}
        for module, imported in graph.items():
            room = self.room_of(module)
            if room:
                arrows[room] |= {self.room_of(other) for other in imported} - {room, ""}
        return arrows


def floors(root: Path = ROOT) -> list[Floor]:
    """The `layers` contracts of `.importlinter`, in the order in which they stand there."""
    parser = configparser.ConfigParser()
    parser.read(root / ".importlinter")
    contracts = (parser[name] for name in parser.sections() if ":contract:" in name)
    return [
        _floor(contract.get("containers", "").strip(), contract["layers"])
        for contract in contracts
        if contract["type"] == "layers"
    ]


def _floor(inside: str, layers: str) -> Floor:
    prefix = f"{inside}." if inside else ""
    rows = (row.replace(":", "|").split("|") for row in layers.strip().splitlines())
    return Floor(inside=inside, rows=tuple(tuple(prefix + n.strip() for n in row) for row in rows))


def drawn_arrows(arrows: Graph) -> dict[str, set[str]]:
    """The arrows without those that a longer way implies (transitive reduction of a graph without
    circles), so that a picture of them can be read.
    """

    def reached(room: str) -> set[str]:
        return set().union(*({other} | reached(other) for other in arrows[room]))

    return {
        room: others - set().union(*(reached(other) for other in others))
        for room, others in arrows.items()
    }


# -- the picture

COLUMNS = {
    "harness.commands": 2, "reports": 0, "harness.lab": 3, "studies": 5, "harness.tuning": 3,
    "harness.checkup": 1, "harness.scheduling": 2, "harness.planning": 3, "harness.export": 4,
    "harness.runs": 3, "harness.warm_start": 3, "harness.results": 1, "harness.statistics": 0,
    "harness.outputs": 2, "harness.study": 5, "harness.words": 4, "harness.endpoint": 5,
    "harness.training": 3, "architectures": 3, "harness.training.tasks": 0,
    "harness.training.one_modality": 2, "harness.training.loop": 1,
    "harness.training.objectives": 1, "harness.training.data": 1, "harness.training.scoring": 0,
    "harness.training.settings": 1, "harness.training.randomness": 2, "architectures.views": 0,
    "architectures.exported": 2, "architectures.build": 1, "architectures.downstream": 2,
    "architectures.registry": 0, "architectures.freezing": 3, "architectures.facts": 3,
    "architectures.designs": 2, "architectures.stacks": 1, "architectures.weights": 1,
    "architectures.layers": 1, "architectures.contract": 1, "architectures.states": 2,
    "architectures.backbone": 1, "architectures.layout": 2, "architectures.frozen": 0,
    "architectures.problems": 0,
}  # fmt: skip
"""Room -> its column, by hand, so that an arrow has a column free of boxes to run down."""
WIDTH, HEIGHT, GAP, ROW = 112, 42, 16, 76
MARGIN = 24
INK, LINE, EDGE = "#222222", "#5f6b76", "#8a97a3"
FILLS = {
    "architectures": "#e3eef8", "harness": "#f7efdd", "studies": "#e6f2e4", "reports": "#f5e4ec",
}  # fmt: skip
STYLE = "font-family:'DejaVu Sans',Verdana,sans-serif"


def picture(root: Path = ROOT) -> str:
    """The SVG: a panel for every floor, a box for every room, its layers from top to bottom."""
    graph, (house, *inner) = imports(root), floors(root)
    body, right = _panel(house, graph, root, MARGIN, MARGIN), 2 * MARGIN + _size(house)[0]
    wide, tall, top = right, MARGIN + _size(house)[1], MARGIN
    for floor in inner:
        body += _panel(floor, graph, root, right, top)
        wide, top = max(wide, right + _size(floor)[0]), top + _size(floor)[1]
    wide, tall = wide + MARGIN, max(tall, top)
    note = "An arrow says who imports whom; those that a longer way implies are left out."
    body.append(_text(MARGIN, tall - 14, note, size=11, anchor="start"))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" width="{wide}" '
        f'height="{tall}" style="{STYLE}">'
    )
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0,0L8,4L0,8z" fill="{LINE}"/></marker></defs>'
    )
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return "\n".join([head, tip, ground, *body, "</svg>", ""])


def _size(floor: Floor) -> tuple[int, int]:
    """Width and height of a floor's panel."""
    columns = 1 + max(COLUMNS[room] for row in floor.rows for room in row)
    return columns * (WIDTH + GAP) - GAP, 34 + ROW * len(floor.rows)


def _panel(floor: Floor, graph: Graph, root: Path, left: int, top: int) -> list[str]:
    """One floor: its title, its arrows, and above them its boxes."""
    title = f"inside {floor.inside.replace('.', '/')}/" if floor.inside else "the house"
    parts = [_text(left, top + 12, title, size=13, anchor="start", weight="bold")]
    cells = {room: (COLUMNS[room], number) for number, row in enumerate(floor.rows) for room in row}

    def corner(column: int, row: int) -> tuple[int, int]:
        return left + column * (WIDTH + GAP), top + 28 + row * ROW

    for room, others in drawn_arrows(floor.arrows(graph)).items():
        for other in sorted(others, key=cells.__getitem__):
            parts.append(_arrow(cells[room], cells[other], set(cells.values()), corner))
    for room, cell in cells.items():
        parts += _box(room, _files(room, root), *corner(*cell))
    return parts


def _arrow(
    start: tuple[int, int],
    end: tuple[int, int],
    taken: set[tuple[int, int]],
    corner: Callable[[int, int], tuple[int, int]],
) -> str:
    """A line from the foot of one box to the head of another: straight down the column that no box
    stands in, the other's or its own, and a bend where the columns differ.
    """
    (x0, y0), (x1, y1) = corner(*start), corner(*end)
    x0, x1, y0, y1 = x0 + WIDTH // 2, x1 + WIDTH // 2, y0 + HEIGHT, y1 - 1
    bend, half = ROW - HEIGHT - 10, (ROW - HEIGHT - 10) // 2
    if any((end[0], row) in taken for row in range(start[1] + 1, end[1])):
        foot = y1 - 9
        path = f"L{x0},{foot - bend}C{x0},{foot - half} {x1},{foot - half} {x1},{foot}L{x1},{y1}"
    else:
        path = f"C{x0},{y0 + half} {x1},{y0 + half} {x1},{y0 + bend}L{x1},{y1}"
    tip = 'marker-end="url(#tip)"'
    return f'<path d="M{x0},{y0}{path}" fill="none" stroke="{LINE}" {tip}/>'


def _box(room: str, files: int, x: int, y: int) -> list[str]:
    fill = FILLS[room.partition(".")[0]]
    name = room.rpartition(".")[2]
    shape = f'width="{WIDTH}" height="{HEIGHT}" rx="{7 if files else 0}"'
    count = f"{files} file{'s' * (files > 1)}" if files else f"{name}.py"
    return [
        f'<rect x="{x}" y="{y}" {shape} fill="{fill}" stroke="{EDGE}"/>',
        _text(x + WIDTH // 2, y + 18, name, size=13, weight="bold"),
        _text(x + WIDTH // 2, y + 34, count, size=10),
    ]


def _files(room: str, root: Path) -> int:
    """How many files a room has, those of the rooms inside it too; 0 where it is a file itself."""
    return sum(name.startswith(f"{room}.") for name in modules(root))


def _text(
    x: int, y: int, words: str, *, size: int, anchor: str = "middle", weight: str = "normal"
) -> str:
    look = f'font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{INK}"'
    return f'<text x="{x}" y="{y}" {look}>{escape(words)}</text>'


if __name__ == "__main__":
    target = ROOT / "docs" / "rooms.svg"
    target.write_text(picture())
    print(f"wrote {target.relative_to(ROOT)}")
