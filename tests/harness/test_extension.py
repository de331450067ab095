"""A study that stands gets more seeds and cells: what was run is kept, and all of it is paired."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from architectures.frozen import SettingError
from harness.commands.main import app
from harness.commands.until import run_until_decided
from harness.lab import Lab
from harness.outputs.files import State
from harness.outputs.folder import study_file
from harness.outputs.records import StudyRecord
from harness.planning import extension
from harness.planning.extension import Extension, extended, extension_file, looks_of, seeds_of
from harness.results.folders import states_of
from harness.results.pairing import pairing
from harness.statistics.blocked import analyse
from harness.statistics.verdicts import verdict
from harness.study import Cell, Study, Tuning, Variant, WarmStart


@pytest.fixture
def lab(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A copy of a finished study, without its store."""
    lab = Lab(Path(shutil.copytree(ran, tmp_path / "there", symlinks=True)))
    monkeypatch.setattr(Lab, "_tracker", lambda *_: None)
    return lab


def test_more_seeds_are_run_and_paired(lab: Lab, tiny: Study) -> None:
    before = StudyRecord.read(study_file(lab.outputs, "tiny"))
    planned = lab.extend(tiny, seeds=seeds_of(tiny, "+1"))
    assert planned.study.seeds == (0, 1, 2) and len(planned.specs) == 9
    waiting = [row.seed for row, status in states_of(lab.outputs, "tiny") if not status.steps]
    assert waiting == [2, 2, 2]  # status has them at once
    states = lab.run(tiny, local=True)  # the study's file is as before
    assert list(states.values()) == ["done"] * 9
    record = StudyRecord.read(study_file(lab.outputs, "tiny"))
    assert set(before.keys) < set(record.keys) and record.left_over == ()
    findings = pairing(lab.results("tiny"))
    assert all(finding.ok for finding in findings)
    assert sum("3 cells have the same batches" in finding.text for finding in findings) == 3
    assert any("when 6 of its 6 runs were done: look 2 of 1 declared; 5% holds" in note
               for note in record.notes)  # fmt: skip


def test_declared_looks_are_counted_and_not_blamed(lab: Lab, tiny: Study) -> None:
    study = tiny.model_copy(update={"looks": 2})
    lab.extend(study, seeds=(5,))
    lab.extend(study, seeds=(7,))  # of the nine runs three are not done, but six could be seen
    first, second = extension.notes(extended(study, lab.outputs), lab.outputs)
    assert first.endswith("look 2 of 2 declared") and "look 3 of 2 declared; 5%" in second
    assert extended(study, lab.outputs).seeds == (0, 1, 5, 7)
    assert extended(extended(study, lab.outputs), lab.outputs).seeds == (0, 1, 5, 7)


def test_seeds_added_before_any_run_are_no_look(tiny: Study, outputs: Path) -> None:
    Lab(outputs).extend(tiny, seeds=(2, 3))
    (line,) = extension.notes(tiny, outputs)
    assert "0 of its 6 runs were done" in line and "look" not in line
    assert not study_file(outputs, "tiny").exists()


def test_a_cell_more_has_the_same_batches(lab: Lab, tiny: Study) -> None:
    added = Cell(variant=Variant("split_bert", text_layers=0))
    planned = lab.extend(tiny, cells=(added,))
    assert [cell.name for cell in planned.study.cells][-1] == "split_bert text_layers=0"
    states = lab.run(tiny, local=True, only="split_bert*")
    assert list(states.values()) == ["done"] * 2
    assert all(finding.ok for finding in pairing(lab.results("tiny")))
    assert [spec.train_key() for spec in lab.plan(tiny).specs] == [
        spec.train_key() for spec in planned.specs
    ]


def test_seeds_of_others_are_not_taken(tiny: Study) -> None:
    study = tiny.model_copy(update={"tuning": Tuning(seed=3), "warm_start": WarmStart(seed=2)})
    assert seeds_of(study, "+2") == (4, 5)
    assert seeds_of(study, "7, 9") == (7, 9)
    for words in ("2x", "+0", "", "-1", "+"):
        with pytest.raises(SettingError, match=r"as \+2, or which, as 5,7"):
            seeds_of(study, words)
    with pytest.raises(SettingError, match="has the seed 1 already"):
        seeds_of(study, "1,8")


def test_what_does_not_fit_changes_nothing(lab: Lab, tiny: Study) -> None:
    file = study_file(lab.outputs, "tiny")
    before = file.read_bytes()
    for study, more, text in (
        (tiny, {"cells": (Cell(variant=Variant("split_bret")),)}, "did you mean 'split_bert'"),
        (tiny, {"cells": tiny.cells[:1]}, "has a cell 'k1' already"),
        (tiny, {"seeds": (tiny.tuning.seed,)}, "is also a reporting seed"),
        (tiny.with_field("budget", {"steps": 8}), {"seeds": (2,)}, "under other settings"),
    ):
        with pytest.raises(SettingError, match=text):
            lab.extend(study, **more)
    assert file.read_bytes() == before and not extension_file(lab.outputs, "tiny").exists()


OWN = "from tests.harness.conftest import TINY\nSTUDY = TINY\n"


def test_the_command_adds_and_plan_says_what_is_new(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    words = [str(tmp_path / "own.py"), "--outputs", str(lab.outputs)]

    def said(command: str, *more: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, [command, *words, *more])
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    text = said("extend", "--seeds", "+2", "--variants", "split_bert text_layers=0")
    assert "Seeds 2, 3 and cells split_bert text_layers=0 were added" in text
    assert "6 of its 16 runs are done, 10 are new" in text
    assert "10 are new" in said("plan")
    assert said("status").count("waiting") == 10
    (added,) = Extension.read(extension_file(lab.outputs, "tiny")).added
    assert (added.seeds, added.done, added.runs) == ((2, 3), 6, 6)
    assert "name --seeds" in said("extend", code=2)
    assert "as field=value" in said("extend", "--variants", "bridge deep", code=2)


# -- until decided


def answered(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> None:
    """Lets the looks of two endpoints find these verdicts of one contrast; the first endpoint is
    decided from the start."""
    looks = (
        (SimpleNamespace(kinds={"k2": "worse"}), SimpleNamespace(kinds={"k2": kind}))
        for kind in kinds
    )
    monkeypatch.setattr("reports.analysis.answers", lambda results: next(looks))
    monkeypatch.setattr("harness.commands.until.note_read", lambda outputs, results: 0)


def test_seeds_are_added_until_all_is_decided(
    lab: Lab, tiny: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny.model_copy(update={"looks": 4})
    answered(monkeypatch, "undecided", "undecided", "worse")
    ran: list[int] = []

    def run(asked: Study) -> dict[str, State]:
        ran.append(len(asked.seeds))
        return {"a": "done"}

    assert run_until_decided(lab, study, study, 8, run, tuned=False) == {"a": "done"}
    assert ran == [2, 4, 6]
    lines = list(extension.notes(study, lab.outputs))
    assert "look 2 of 4" in lines[0] and "look 3 of 4" in lines[1]


def test_it_goes_on_where_it_stopped_and_ends_at_most_there(
    lab: Lab, tiny: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny.model_copy(update={"looks": 4})
    answered(monkeypatch, "undecided", "undecided")
    more = lab.extend(study, seeds=(2, 3)).study
    ran: list[int] = []

    def run(asked: Study) -> dict[str, State]:
        ran.append(len(asked.seeds))
        return {"a": "done" if len(ran) < 3 else "failed"}

    run_until_decided(lab, study, more, 6, run, tuned=False)
    assert ran == [4, 6]
    assert run_until_decided(lab, study, more, 8, run, tuned=False) == {"a": "failed"}
    assert ran == [4, 6, 4]  # what did not end well is not looked at


def test_looks_that_were_not_declared_are_refused(tiny: Study) -> None:
    with pytest.raises(
        SettingError, match=r"set looks=\[2, 4, 6, 8\] before it runs, or lower --at-most"
    ):
        looks_of(tiny, 9)
    assert looks_of(tiny.model_copy(update={"looks": 4}), 9) == (2, 4, 6, 8)
    assert looks_of(tiny.model_copy(update={"looks": (2, 5, 7)}), 6) == (2, 5)
    with pytest.raises(SettingError, match="its first look is at 3: begin at the first look"):
        looks_of(tiny.model_copy(update={"looks": (3, 5)}), 5)
    with pytest.raises(SettingError, match="begins with 2 seeds"):
        looks_of(tiny, 1)


@pytest.mark.slow
def test_stopping_when_decided_keeps_the_error_rate() -> None:
    """Three designs that do not differ from the control: a false "better" or "worse" by any of them
    at the look that ends the study, in at most 5 % of studies."""
    rng, wrong, studies = np.random.default_rng(0), 0, 1_000
    for _ in range(studies):
        scores = rng.normal(size=(4, 9)) + rng.normal(size=9)
        for seeds in (3, 5, 7, 9):
            table = {str(d): dict(enumerate(scores[d, :seeds])) for d in range(4)}
            analysis = analyse(table, "0", alpha=0.05, looks=4)
            kinds = [verdict(analysis, str(d), 1.0, seed_cap=0).kind for d in range(1, 4)]
            if "undecided" not in kinds:
                break
        wrong += bool({"better", "worse"} & set(kinds))
    assert wrong / studies <= 0.05
