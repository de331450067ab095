"""What is finished stays: stores that break, folders that move, files that are damaged."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

from harness.commands.main import app
from harness.lab import Lab
from harness.outputs.files import Locked, exclusive
from harness.outputs.folder import RunFolder, study_file
from harness.outputs.reads import read_at
from harness.results.from_mlflow import load_from_mlflow, quiet_mlflow
from harness.results.store import default_uri
from harness.results.to_mlflow import Tracker
from harness.study import Study, Tuning
from harness.training.loop.trainer import Trainer
from harness.tuning.choice import folder_of


@pytest.fixture
def copied(ran: Path, tmp_path: Path) -> Path:
    """A copy of a finished study, elsewhere."""
    return shutil.copytree(ran, tmp_path / "copied")


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever trains a step fails."""

    def step(self: Trainer) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "one_step", step)


def said(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


# -- the store


def test_a_copy_reads_its_own_files_and_not_the_old_ones(ran: Path, copied: Path) -> None:
    for path in copied.glob("mlartifacts/tiny/*/artifacts/curves.parquet"):
        path.unlink()
    there = Lab(ran).results("tiny", from_tracking=True)
    here = Lab(copied).results("tiny", from_tracking=True)
    assert len(there.curves) and not len(here.curves)


def test_a_lost_store_is_built_again_from_the_folders(copied: Path) -> None:
    before = Lab(copied).results("tiny")
    (copied / "mlflow.db").unlink()
    shutil.rmtree(copied / "mlartifacts")
    assert said("publish", "tiny", "--outputs", str(copied))[0] == 0
    after = Lab(copied).results("tiny", from_tracking=True)
    assert_frame_equal(before.scores, after.scores)
    assert_frame_equal(before.curves, after.curves)


def test_curves_are_numbers_where_no_run_has_begun(copied: Path) -> None:
    shutil.rmtree(copied / "runs")
    curves = Lab(copied).results("tiny").curves
    assert curves.empty and curves["value"].dtype == curves["samples"].dtype == float


def test_the_store_knows_what_was_read(copied: Path) -> None:
    assert said("verdict", "tiny", "--outputs", str(copied))[0] == 3
    reads = read_at(copied, "tiny")
    assert reads and said("publish", "tiny", "--outputs", str(copied))[0] == 0
    study_file(copied, "tiny").with_name("reads.json").unlink()
    assert Lab(copied).results("tiny").read_at == ()
    assert Lab(copied).results("tiny", from_tracking=True).read_at == reads


def test_reading_makes_no_store(copied: Path) -> None:
    (copied / "mlflow.db").unlink()
    code, text = said("report", "tiny", "--from-tracking", "--outputs", str(copied))
    assert code == 2 and "fuselab publish" in text and not (copied / "mlflow.db").exists()


def test_a_half_made_store_costs_a_line_and_no_run(copied: Path, tiny: Study) -> None:
    (copied / "mlflow.db").write_bytes(b"SQLite format 3\0 and no more")
    (copied / "runs" / next(iter(Lab(copied).results("tiny").runs["run"])) / "status.json").unlink()
    assert set(Lab(copied).run(tiny, local=True).values()) == {"done"}
    code, text = said("publish", "--outputs", str(copied))
    assert code == 2 and "move" in text and "mlflow.db away" in " ".join(text.split())


def test_a_server_that_is_not_there_stops_no_run(copied: Path, tiny: Study) -> None:
    assert set(Lab(copied, "http://127.0.0.1:9").run(tiny, local=True).values()) == {"done"}


def test_an_experiment_deleted_on_the_page_comes_back(copied: Path) -> None:
    client = quiet_mlflow().MlflowClient(tracking_uri=default_uri(copied))
    client.delete_experiment(client.get_experiment_by_name("tiny").experiment_id)
    assert Lab(copied).publish("tiny") == ["tiny"]
    assert len(load_from_mlflow(default_uri(copied), "tiny").runs) == 6


@pytest.mark.usefixtures("without_figures")
def test_a_parent_ends_with_the_verdicts(copied: Path) -> None:
    assert said("report", "tiny", "--outputs", str(copied))[0] == 0
    client = quiet_mlflow().MlflowClient(tracking_uri=default_uri(copied))
    experiment = client.get_experiment_by_name("tiny").experiment_id
    (parent,) = client.search_runs([experiment], "tags.`fuselab.kind` = 'study'")
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["verdict.k2"] and "verdict.k1" not in parent.data.tags
    assert set(parent.data.metrics) == {"primary/k1", "primary/k2", "primary/dual_encoder"}
    (child, *_) = client.search_runs([experiment], "tags.`fuselab.kind` = 'run'")
    assert [given.dataset.name for given in child.inputs.dataset_inputs] == ["scenes"]


def test_a_report_is_written_below_the_outputs_only(copied: Path) -> None:
    code, text = said("report", "../studies/x", "--outputs", str(copied))
    assert code == 2 and "no name of a study" in text


# -- tuning


def test_two_that_tune_one_study_are_told(tiny: Study, outputs: Path) -> None:
    busy = pytest.raises(Locked, match="study tiny is being tuned by another process")
    with exclusive(folder_of("tiny", outputs) / "lock", "study tiny is being tuned"), busy:
        Lab(outputs).tune(tiny, local=True)


def test_a_journal_that_lies_changes_nothing(tiny: Study, outputs: Path) -> None:
    study = tiny.model_copy(update={"tuning": Tuning(trials=2), "cells": tiny.cells[:1]})
    first = Lab(outputs).tune(study, local=True)
    journal = folder_of("tiny", outputs) / "journal.log"
    journal.write_bytes(journal.read_bytes()[:-7])
    assert Lab(outputs).tune(study, local=True) == first
    client = quiet_mlflow().MlflowClient(tracking_uri=default_uri(outputs))
    experiment = client.get_experiment_by_name("tiny-tuning").experiment_id
    runs = client.search_runs([experiment], "tags.`fuselab.trial_of` = 'k1'")
    assert sorted(run.data.tags["fuselab.trial"] for run in runs) == ["0", "1"]
    assert sorted(run.data.tags["fuselab.chosen"] for run in runs) == ["no", "yes"]


# -- damaged files

DAMAGES = {
    "emptied": b"",
    "truncated": None,
    "another type": b"[1, 2]\n",
    "random bytes": bytes(range(256)),
    "a newer format": json.dumps({"format": 99}).encode(),
}
FILES = (
    "spec.json", "status.json", "metrics.jsonl", "ledger.json", "certificate.json", "graph.json",
    "environment.json", "scores/retrieval.json", "scores/validation.json",
)  # fmt: skip


def damage(path: Path, content: bytes | None) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)


def damages() -> Iterator[object]:
    """Every damage of every file; by default each file once and each damage at least once."""
    for row, file in enumerate(FILES):
        for column, kind in enumerate(DAMAGES):
            marks = [] if row % len(DAMAGES) == column else [pytest.mark.slow]
            yield pytest.param(file, kind, id=f"{file}-{kind}", marks=marks)


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize(("file", "kind"), list(damages()))
def test_a_damaged_file_is_one_bad_row(
    file: str, kind: str, copied: Path, tiny: Study, untrained: None
) -> None:
    keys = list(Lab(copied).results("tiny").runs["run"])
    damage(RunFolder(copied, keys[0]).path / file, DAMAGES[kind])
    where = ("--outputs", str(copied))
    assert said("status", "tiny", *where)[0] == 0
    results = Lab(copied).results("tiny")
    bad = results.runs[results.runs["status"] == "damaged"]
    assert set(bad["run"]) <= {keys[0]} and (results.runs["status"] == "done").sum() >= 5
    for message in bad["message"]:
        assert file.rpartition("/")[2] in message and "delete" in message
    code, text = said("report", "tiny", *where)
    assert code == 0 and ("Left out: " in text) == bool(len(bad))
    assert said("publish", "tiny", *where)[0] == 0
    assert said("clean", *where)[0] == 0
    states = Lab(copied).run(tiny, local=True)
    assert [states[key] for key in keys[1:]] == ["done"] * 5 and states[keys[0]] == "done"


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_study_file_is_said_and_written_again(
    kind: str, copied: Path, tiny: Study, untrained: None
) -> None:
    damage(study_file(copied, "tiny"), DAMAGES[kind])
    code, text = said("status", "tiny", "--outputs", str(copied))
    assert code == 2 and "study.json" in text
    assert said("publish", "--outputs", str(copied))[0] == 0
    with contextlib.suppress(SystemExit):
        Lab(copied).run(tiny, local=True)
    assert said("status", "tiny", "--outputs", str(copied))[0] == 0


def test_tracker_is_made_once_for_two(outputs: Path) -> None:
    Tracker(outputs)
    assert not list(outputs.glob(".mlflow.db.*")) and (outputs / "mlflow.db").exists()
