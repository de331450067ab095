"""A run learns tasks after training: in a folder of its own, resumed to the bit, once for all that
is scored by it, and without training again.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from architectures.frozen import SettingError
from harness.outputs.cleaning import clean
from harness.outputs.folder import RunFolder
from harness.outputs.records import LedgerRecord, ScoresRecord
from harness.planning.plan import plan
from harness.results.folders import load, record_of
from harness.runs.finetuning import finetuned
from harness.runs.run import execute
from harness.study import (
    VQA,
    Budget,
    Entailment,
    FineTune,
    Measure,
    Range,
    Retrieval,
    Scenes,
    Study,
    Text,
    Tuning,
)
from harness.training.loop.trainer import Trainer
from harness.training.settings.spec import RunSpec
from harness.training.settings.tasks import TaskSpec
from tests.harness.conftest import TINY

QUICK = FineTune(budget=Budget(steps=6), batch_size=8, measure=Measure(points=3, items=8))
SIZES = {"train_items": 72, "items": 36, "floors": False, "finetune": QUICK}
ENTAILMENT, VAL = Entailment(**SIZES), Entailment(label="on_val", split="val", **SIZES)


def asking(study: Study, *tasks: TaskSpec) -> Study:
    data = Scenes(train=96, val=24, test=24, objects=(2, 2), text=Text(max_tokens=20))
    return study.model_copy(update={"data": data, "tasks": tasks, "primary": "entailment/accuracy"})


def spec_of(study: Study, outputs: Path) -> RunSpec:
    return plan(study, outputs).rows[0].spec


@pytest.fixture(scope="module")
def learnt_once(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Path:
    outputs = tmp_path_factory.mktemp("learnt_once")
    (outputs / "cache").symlink_to(shared_cache)
    assert execute(spec_of(asking(TINY, ENTAILMENT), outputs), outputs) == "done"
    return outputs


@pytest.fixture
def learnt(learnt_once: Path, tmp_path: Path) -> Path:
    """Outputs of a run that has learnt entailment: a copy, the cache apart."""
    return Path(shutil.copytree(learnt_once, tmp_path / "learnt", symlinks=True))


def weights_in(folder: RunFolder) -> dict[str, torch.Tensor]:
    (its,) = folder.finetunings()
    return torch.load(its.weights, weights_only=True)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[r], other[r]) for r in one)


def test_a_task_is_learnt_in_a_folder_of_its_own(tiny: Study, outputs: Path) -> None:
    spec = spec_of(asking(tiny, ENTAILMENT, VAL), outputs)
    assert execute(spec, outputs) == "done"
    folder = RunFolder(outputs, spec.train_key())
    (its,) = folder.finetunings()  # one for what is scored on test and on val
    assert its.path.name == spec.finetune_key(ENTAILMENT) == spec.finetune_key(VAL)
    assert [line.step for line in its.metric_lines()] == [0, 2, 4, 6]
    spent = LedgerRecord.read(its.ledger).spent
    assert spent.samples == 48 and spent.flops == 48 * spent.flops_per_sample > 0
    weights = torch.load(its.weights, weights_only=True)
    stored = sum(weight.numel() for weight in weights.values())  # what is tied stands twice
    assert 0 < spent.trainable <= spent.parameters <= stored
    assert not its.checkpoint.exists() and its.weights_digest.exists()
    for task in (ENTAILMENT, VAL):
        record = ScoresRecord.read(folder.score_file(task.title))
        assert record.finetuning == its.path.name and not record.failure
        assert (folder.scores / f"{task.title}.npz").exists()
    curves = record_of(folder).curves
    learnt = curves[curves["name"] == "entailment/val/task_loss"]
    assert learnt["step"].tolist() == [0, 2, 4, 6]
    assert folder.status().state == "done" and not folder.status().message


def test_stopped_and_gone_on_equals_uninterrupted(tiny: Study, learnt: Path) -> None:
    outputs, spec = learnt, spec_of(asking(tiny, ENTAILMENT), learnt)
    folder = RunFolder(outputs, spec.train_key())
    whole, lines = weights_in(folder), folder.finetunings()[0].metric_lines()
    shutil.rmtree(folder.path / "finetune")
    folder.score_file("entailment").unlink()

    from harness.runs import scoring

    def stopping(*parts: object) -> torch.nn.Module | None:
        steps = iter([False] * 3 + [True])
        return finetuned(*parts[:-1], lambda: next(steps))  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "finetuned", stopping)
        assert execute(spec, outputs) == "interrupted"
    assert folder.status().state == "done" and "goes on" in folder.status().message
    assert folder.finetunings()[0].checkpoint.exists()
    clean(outputs)
    assert folder.finetunings()[0].checkpoint.exists(), "what goes on keeps its checkpoint"
    assert execute(spec, outputs) == "done"
    assert same(weights_in(folder), whole)
    again = folder.finetunings()[0].metric_lines()
    assert [(line.step, line.values, line.chain) for line in again] == [
        (line.step, line.values, line.chain) for line in lines
    ]


def test_a_task_that_is_added_trains_nothing_again(
    tiny: Study, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asking(tiny, Retrieval(rerank=4)).model_copy(
        update={"primary": "retrieval/mean_recall"}
    )
    spec = spec_of(before, outputs)
    execute(spec, outputs)

    def train(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "one_step", train)
    both = spec_of(asking(tiny, Retrieval(rerank=4), VQA(**SIZES)), outputs)
    assert both.train_key() == spec.train_key()
    assert execute(both, outputs) == "done"
    assert not ScoresRecord.read(RunFolder(outputs, both.train_key()).score_file("vqa")).failure


def test_retrieval_is_fine_tuned_by_its_own_losses(tiny: Study, outputs: Path) -> None:
    task = Retrieval(label="tuned", rerank=4, finetune=QUICK)
    spec = spec_of(asking(tiny, Retrieval(rerank=4), task, ENTAILMENT), outputs)
    assert execute(spec, outputs) == "done"
    folder = RunFolder(outputs, spec.train_key())
    values = folder.finetuning(spec.finetune_key(task)).metric_lines()[-1].values
    assert {"val/itc_loss", "val/itm_loss"} <= values.keys() and "val/mlm_loss" not in values
    scored = [ScoresRecord.read(folder.score_file(name)) for name in ("retrieval", "tuned")]
    assert scored[0].scores != scored[1].scores and not scored[1].failure


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    "damage", [lambda file: file.write_bytes(b"x"), lambda file: file.write_bytes(b"")]
)
def test_damaged_weights_name_their_folder(tiny: Study, learnt: Path, damage: Damage) -> None:
    outputs, spec = learnt, spec_of(asking(tiny, ENTAILMENT), learnt)
    folder = RunFolder(outputs, spec.train_key())
    (its,) = folder.finetunings()
    damage(its.weights)
    folder.score_file("entailment").unlink()
    assert execute(spec, outputs) == "done"
    failure = ScoresRecord.read(folder.score_file("entailment")).failure
    assert str(its.path) in failure and "delete that folder" in failure
    assert "the run's folder" not in failure, "what was trained is whole"
    shutil.rmtree(its.path)
    folder.score_file("entailment").unlink()
    execute(spec, outputs)
    assert not ScoresRecord.read(folder.score_file("entailment")).failure


def test_damaged_curves_of_a_task_cost_nothing_that_was_trained(tiny: Study, learnt: Path) -> None:
    spec = spec_of(asking(tiny, ENTAILMENT), learnt)
    folder = RunFolder(learnt, spec.train_key())
    (its,) = folder.finetunings()
    its.metrics.write_bytes(b"{}\n")
    damaged = record_of(folder)
    assert damaged.status == "damaged" and str(its.metrics) in damaged.message
    assert "delete the folder it is in" in damaged.message
    shutil.rmtree(its.path)
    assert record_of(folder).status == "done" and len(record_of(folder).scores) > 1


def test_curves_of_tasks_are_published_once(tiny: Study, outputs: Path, schema: bytes) -> None:
    from harness.lab import Lab
    from harness.results.from_mlflow import load_from_mlflow

    (outputs / "mlflow.db").write_bytes(schema)
    one = asking(tiny, ENTAILMENT).model_copy(update={"seeds": (0,), "cells": tiny.cells[:1]})
    lab = Lab(outputs)
    lab.run(one, local=True)
    both = one.model_copy(update={"tasks": (ENTAILMENT, VQA(**SIZES))})
    lab.run(both, local=True)
    tables = [
        results.curves[["name", "step", "value"]].astype({"name": str}).reset_index(drop=True)
        for results in (load(outputs, "tiny"), load_from_mlflow(lab.store, "tiny"))
    ]
    assert tables[0].equals(tables[1])
    assert {"vqa/val/task_loss", "entailment/val/task_accuracy"} <= set(tables[1]["name"])
    from mlflow import MlflowClient

    client = MlflowClient(lab.store)
    experiment = client.get_experiment_by_name("tiny")
    (run,) = client.search_runs([experiment.experiment_id], "tags.`fuselab.kind` = 'run'")
    for name in ("vqa/val/task_loss", "entailment/val/task_loss"):
        history = client.get_metric_history(run.info.run_id, name)
        assert sorted(point.step for point in history) == [0, 2, 4, 6], name


def test_fine_tuning_is_tuned_alike_for_every_cell(
    tiny: Study, outputs: Path, schema: bytes
) -> None:
    from harness.lab import Lab

    (outputs / "mlflow.db").write_bytes(schema)
    path = "tasks.entailment.finetune.optimizer.learning_rate"
    space = {path: Range(low=1e-5, high=1e-2, log=True)}
    tuning = Tuning(space=space, trials=2, seed=77, score="entailment/val/task_loss")
    study = asking(tiny, Retrieval(rerank=4), ENTAILMENT).model_copy(
        update={"seeds": (0,), "cells": (tiny.cells[0], tiny.cells[2]), "tuning": tuning}
    )
    lab = Lab(outputs)
    result = lab.tune(study, local=True)
    assert len(result.trials) == 4 and all(trial.score for trial in result.trials)
    runs = {trial.run for trial in result.trials}
    assert len(runs) == 2, "a cell is trained once for all its trials"
    for run in runs:
        assert len(RunFolder(outputs, run).finetunings()) == 2
        records = RunFolder(outputs, run).score_records()
        assert {record.task for record in records} >= {f"entailment_trial_{n}" for n in (0, 1)}
    by_cell = {
        cell: min((t for t in result.trials if t.cell == cell), key=lambda t: t.score or 0)
        for cell in ("k1", study.cells[1].name)
    }
    for row in lab.plan(study, tuned=True).rows:
        task = next(task for task in row.spec.asked.tasks if task.title == "entailment")
        best = by_cell[row.cell.name].values[path]
        assert task.finetune.optimizer.learning_rate == best
    with pytest.raises(SettingError, match="one task"):
        Tuning(space={**space, "optimizer.learning_rate": Range(low=0.1, high=0.2)})
    with pytest.raises(SettingError, match=r"tasks\.entailment"):
        study.with_field("tasks.entailmnt.finetune.batch_size", 4)


def test_weights_of_tasks_are_cleaned_on_request(tiny: Study, learnt: Path) -> None:
    spec = spec_of(asking(tiny, ENTAILMENT), learnt)
    folder = RunFolder(learnt, spec.train_key())
    clean(learnt, weights=True)
    assert not folder.weights.exists() and not folder.finetunings()[0].weights.exists()
    assert not ScoresRecord.read(folder.score_file("entailment")).failure
