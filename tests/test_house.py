"""The house: no circle of imports, every room above what it stands on, files of a size to read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from docs.rooms import Floor, circles, drawn_arrows, floors, imports, modules, picture
from harness.outputs.code import training_files
from harness.planning.plan import plan
from harness.study import Study
from tests.harness.conftest import TINY

ROOT = Path(__file__).parent.parent
PER_FILE = 300
LONG = ("architectures/designs/", "harness/training/loop/")
"""A design is told in one file, and the loop is the one long read."""
OWN = {"endpoint.py", "lab.py", "study.py", "words.py"}
"""Files that harness/ holds besides its rooms."""
WRITES = ("harness.outputs.", "harness.endpoint")
"""What a training run imports and shapes no trained bit: it writes its folder, or a study's."""


# -- imports


def test_imports_inside_functions_are_walked_and_those_for_types_are_not(tmp_path: Path) -> None:
    files = {
        "harness/a.py": "import typing\nif typing.TYPE_CHECKING:\n    import harness.b\n"
        "else:\n    from harness.room import d\n",
        "harness/b.py": "def late():\n    if True:\n        from harness import c\n",
        "harness/c.py": "import harness.b as again, json\n",
        "harness/room/d.py": "from harness.c import anything\n",
        "harness/__init__.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    graph = imports(tmp_path)
    assert graph == {
        "harness.a": {"harness.room.d"},
        "harness.b": {"harness.c"},
        "harness.c": {"harness.b"},
        "harness.room.d": {"harness.c"},
    }
    assert circles(graph) == [["harness.b", "harness.c"]]


def test_circles_of_any_length_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"a"}, "b": set()}) == [["a"]]
    ring = {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}, "e": {"a", "d"}}
    assert circles(ring) == [["b", "c", "d"]]


def test_no_circle_between_modules() -> None:
    assert circles(imports()) == [], "modules that import each other, functions included"


@pytest.mark.parametrize("floor", floors(), ids=lambda floor: floor.inside or "house")
def test_every_room_stands_on_those_below_it(floor: Floor) -> None:
    upwards = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if (room := floor.room_of(module))
        and (below := floor.room_of(other))
        and room != below
        and floor.row_of(room) >= floor.row_of(below)
    ]
    assert not upwards, "against the layers of .importlinter"
    assert circles(floor.arrows(imports())) == []


def test_every_module_has_a_room() -> None:
    house, *inner = floors()
    homeless = [name for name in modules() if not house.room_of(name)]
    homeless += [
        name
        for floor in inner
        for name in modules()
        if name.startswith(f"{floor.inside}.") and not floor.room_of(name)
    ]
    assert not homeless, "name its room in a layers contract of .importlinter"


# -- sizes


def test_the_harness_keeps_its_files_in_rooms() -> None:
    own = {file.name for file in (ROOT / "harness").glob("*.py")} - {"__init__.py"}
    assert len(own) <= 4, f"harness/ holds {sorted(own)}: give a file a room"
    assert own >= OWN


def test_no_file_is_too_long_to_read() -> None:
    long = {
        name: lines
        for file in modules().values()
        if (lines := len(file.read_text().splitlines())) > PER_FILE
        and not (name := file.relative_to(ROOT).as_posix()).startswith(LONG)
    }
    assert not long, f"more than {PER_FILE} lines"


def test_init_files_are_empty() -> None:
    full = [
        file.relative_to(ROOT).as_posix()
        for package in ("architectures", "harness", "studies", "reports")
        for file in (ROOT / package).rglob("__init__.py")
        if file.read_text().strip()
    ]
    assert not full


# -- the sources that train

CHILD = """
import json, sys
from pathlib import Path
from harness.training.settings.spec import RunSpec
from harness.runs.run import execute
state = execute(RunSpec.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
ours = ("architectures", "harness", "studies", "reports")
files = {n: m.__file__ for n, m in sys.modules.items() if n.partition(".")[0] in ours}
print(json.dumps([state, {n: f for n, f in files.items() if f and f[-11:] != "__init__.py"}]))
"""


def imported_by_a_run(study: Study, tmp_path: Path) -> dict[str, Path]:
    """Every project module that a process has imported once it has trained and scored a run."""
    spec = tmp_path / "spec.json"
    spec.write_text(plan(study, tmp_path).specs[0].model_dump_json())
    answer = subprocess.run(
        [sys.executable, "-c", CHILD, str(spec), str(tmp_path / "out")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    state, files = json.loads(answer.stdout.splitlines()[-1])
    assert state == "done", answer.stderr
    return {name: Path(file) for name, file in files.items()}


def test_the_digest_holds_every_source_that_trains(tmp_path: Path) -> None:
    imported, digested = imported_by_a_run(TINY, tmp_path), set(training_files())
    assert "harness.training.loop.trainer" in imported and len(imported) > 60
    outside = {name for name, file in imported.items() if file not in digested}
    others = {name for name in outside if not name.startswith(WRITES)}
    assert not others, "add its folder to TRAINS of harness/outputs/code.py, or say why not"
    assert any(name.startswith(WRITES) for name in outside), "an exception that is none"


# -- the picture


def test_arrows_that_a_longer_way_implies_are_left_out() -> None:
    arrows = {"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}
    assert drawn_arrows(arrows) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}


def test_the_drawn_arrows_lead_where_all_arrows_lead() -> None:
    def reached(room: str, arrows: dict[str, set[str]]) -> set[str]:
        return set().union(*({other} | reached(other, arrows) for other in arrows[room]))

    for floor in floors():
        arrows = floor.arrows(imports())
        drawn = drawn_arrows(arrows)
        assert all(reached(room, drawn) == reached(room, arrows) for room in arrows)
        assert sum(map(len, drawn.values())) < sum(map(len, arrows.values()))


def test_the_picture_of_the_rooms_is_that_of_the_tree() -> None:
    assert (ROOT / "docs" / "rooms.svg").read_text() == picture(), "say `make rooms`"
