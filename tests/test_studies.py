"""Every study that comes with fuselab: documented, plannable, and its numbers hold together."""

import ast
from pathlib import Path

import pytest

import studies
from harness.planning.plan import plan
from harness.planning.shelf import load, names

SHELF = Path(studies.__file__).parent


@pytest.mark.parametrize("name", names(SHELF))
def test_every_study(name: str, tmp_path: Path) -> None:
    study = load(name, SHELF)
    assert (study.name, study.file) == (name, "")
    said = ast.get_docstring(ast.parse((SHELF / f"{name}.py").read_text())) or ""
    for part in ("Guess:", "Cost:", "Command:"):
        assert part in said, f"studies/{name}.py: its docstring lacks '{part}'"
    planned = plan(study, tmp_path)
    assert len(planned.rows) == len(study.cells) * len(study.seeds)
    assert any(row.cell.name == study.control for row in planned.rows)
    batches = {
        (row.spec.train.data, row.spec.train.batch_size, row.spec.asked.data)
        for row in planned.rows
    }
    assert len(batches) == 1, f"study {name}: cells differ in their batches"
