"""One spec, one run: the same bits every time, also after a kill; failures are named."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.outputs.files import FULL, read_json
from harness.outputs.folder import RunFolder
from harness.outputs.records import Certificate, LedgerRecord, ScoresRecord
from harness.planning.plan import plan
from harness.results.folders import record_of
from harness.runs.assemble import load_data, training_batches
from harness.runs.missing import failed_scores, forget_failures, missing_scores
from harness.runs.run import execute
from harness.scheduling import on_ray
from harness.study import Study
from harness.training.loop.budget import checkpoints_of, grid_of, steps_of
from harness.training.settings.loop import Budget, Measure
from harness.training.settings.spec import RunSpec


def spec_of(study: Study, outputs: Path, cell: int = 0) -> RunSpec:
    return plan(study, outputs).rows[cell * len(study.seeds)].spec


def elsewhere(outputs: Path, tmp_path: Path) -> Path:
    """A second outputs folder, on the same decoded data."""
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "cache").symlink_to((outputs / "cache").resolve())
    return other


def final(folder: RunFolder) -> tuple[object, object, object]:
    """All that must be equal to the last bit: curves, scores, weights and digests."""
    lines = folder.metric_lines()
    curves = [(line.step, line.samples, line.values, line.chain) for line in lines]
    scores = [record.model_copy(update={"seconds": {}}) for record in folder.score_records()]
    weights = torch.load(folder.path / "weights.pt", weights_only=True)
    bits = {name: value.numpy().tobytes() for name, value in weights.items()}
    return curves, (scores, Certificate.read(folder.certificate)), bits


def test_a_run_fills_its_folder(tiny: Study, outputs: Path) -> None:
    spec = spec_of(tiny, outputs)
    assert execute(spec, outputs) == "done"
    folder = RunFolder(outputs, spec.train_key())
    assert RunSpec.model_validate(read_json(folder.spec)) == spec
    lines = folder.metric_lines()
    assert [line.step for line in lines] == [0, 2, 4, 6]
    measured = [line.values.keys() for line in lines]
    assert {"val/itc_loss", "val/itm_accuracy", "val/mlm_loss", "val/loss"} <= measured[0]
    assert {"train/loss", "train/grad_norm", "train/temperature"} <= measured[1]
    ledger = LedgerRecord.read(folder.ledger).spent
    assert (ledger.steps, ledger.samples, ledger.attempts) == (6, 48, 1)
    assert ledger.flops == 48 * ledger.flops_per_sample > 0
    assert 0 < ledger.train_seconds < ledger.device_seconds
    retrieval = ScoresRecord.read(folder.score_file("retrieval"))
    assert retrieval.protocol == "re-ranked"
    assert retrieval.score_key == spec.score_key(spec.asked.tasks[0])
    protocols = {score.name: score.protocol for score in retrieval.scores}
    assert protocols["mean_recall"] == protocols["mean_recall_reranked"] == "re-ranked"
    assert protocols["mean_recall_itc"] == "ITC alone"
    validation = ScoresRecord.read(folder.score_file("validation"))
    assert {level.name: level.items for level in validation.levels}["itm_accuracy"] == 3 * 24
    last = {score.name: score for score in validation.scores}
    assert last["itm_loss"].value == lines[-1].values["val/itm_loss"]
    assert (last["itm_loss"].unit, last["itm_loss"].higher_is_better) == ("nats", False)
    assert last["itm_accuracy"].value == 100 * lines[-1].values["val/itm_accuracy"]
    assert not folder.checkpoint.exists() and not list(folder.path.glob(".*"))


def whole_of(ran: Path, spec: RunSpec) -> tuple[object, object, object]:
    """What must be equal of a run of the study that was run for all tests."""
    return final(RunFolder(ran, spec.train_key()))


def test_twice_the_same_bits(tiny: Study, ran: Path, outputs: Path) -> None:
    spec = spec_of(tiny, outputs)
    execute(spec, outputs)
    assert final(RunFolder(outputs, spec.train_key())) == whole_of(ran, spec)


@pytest.mark.slow
def test_the_order_of_runs_on_a_worker_changes_no_bit(
    tiny: Study, outputs: Path, tmp_path: Path
) -> None:
    """Ray keeps the process of a CPU run for the next one, which may be of another design, type of
    numbers and loss.
    """
    specs = [
        spec_of(tiny, outputs),
        spec_of(tiny.with_field("numerics.dtype", "bfloat16"), outputs, cell=2),
        spec_of(tiny.with_field("objectives.itc.distil", 0.4), outputs),
    ]
    again = elsewhere(outputs, tmp_path)
    for where, order in ((outputs, specs), (again, specs[::-1])):
        for spec in order:
            assert on_ray._in_worker(None, spec, where, None) == "done"
    for spec in specs:
        folders = [RunFolder(where, spec.train_key()) for where in (outputs, again)]
        assert final(folders[0]) == final(folders[1])


def test_batches_and_shared_weights_are_paired(tiny: Study, ran: Path) -> None:
    certificates, chains = [], []
    for cell in (0, 1):
        folder = RunFolder(ran, spec_of(tiny, ran, cell).train_key())
        certificates.append(Certificate.read(folder.certificate))
        chains.append([line.chain for line in folder.metric_lines()])
    one, other = certificates
    assert chains[0] == chains[1] and len(set(chains[0])) == 4
    shared = one.roles.keys() & other.roles.keys()
    assert {"embeddings.word.weight", "layers.2.mlp.inner.weight"} <= shared
    assert all(one.roles[role] == other.roles[role] for role in shared)
    assert one.facts.text_layers == 1 and other.facts.text_layers == 2


def test_grey_pictures_run_to_scores(tiny: Study, outputs: Path) -> None:
    grey = tiny.backbone.model_copy(update={"image_channels": 1})
    spec = spec_of(tiny.model_copy(update={"backbone": grey}), outputs)
    assert load_data(spec, outputs).test.images_NHWC.shape[-1] == 1
    assert execute(spec, outputs) == "done"
    folder = RunFolder(outputs, spec.train_key())
    assert (folder.scores / "retrieval.json").exists()
    weights = torch.load(folder.path / "weights.pt", weights_only=True)
    assert weights["image.vit.patch_embed.proj.weight"].shape[1] == 1


def test_a_stop_is_kept_and_gone_on_from(tiny: Study, ran: Path, outputs: Path) -> None:
    spec = spec_of(tiny, outputs)
    folder = RunFolder(outputs, spec.train_key())

    from harness.training.loop.trainer import Trainer

    steps = Trainer.one_step

    def stopping(self: Trainer) -> None:
        steps(self)
        if self.step in (1, 3, 5):
            folder.stop_file.touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "one_step", stopping)
        states = [execute(spec, outputs) for _ in range(4)]
    assert states == ["interrupted"] * 3 + ["done"]
    assert final(folder) == whole_of(ran, spec)
    assert LedgerRecord.read(folder.ledger).spent.attempts == 4


def test_a_checkpoint_of_other_code_is_named(tiny: Study, outputs: Path, tmp_path: Path) -> None:
    spec, other = spec_of(tiny, outputs), elsewhere(outputs, tmp_path)
    folder = RunFolder(other, spec.train_key())
    folder.path.mkdir(parents=True)
    torch.save({"step": 2}, folder.checkpoint)
    assert execute(spec, other) == "failed"
    wanted = "checkpoint.pt lacks 'design', so other code wrote it; delete it"
    assert wanted in folder.status().message


KILLED = """
import sys
from pathlib import Path
from harness.runs.run import execute
from harness.study import RunSpec
import harness.training.loop.trainer, time

step = harness.training.loop.trainer.Trainer.one_step
def slow(self):
    time.sleep(0.25)
    step(self)
harness.training.loop.trainer.Trainer.one_step = slow
execute(RunSpec.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_process_loses_nothing(tiny: Study, outputs: Path, tmp_path: Path) -> None:
    spec = spec_of(tiny, outputs)
    execute(spec, outputs)
    whole = final(RunFolder(outputs, spec.train_key()))
    other = elsewhere(outputs, tmp_path)
    folder = RunFolder(other, spec.train_key())
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    command = [sys.executable, "-c", KILLED, str(tmp_path / "spec.json"), str(other)]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 50
        while not folder.checkpoint.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert folder.status().state == "interrupted"
    assert not (folder.path / "weights.pt").exists()
    assert execute(spec, other) == "done"
    assert final(folder) == whole


def test_a_done_run_only_makes_missing_scores(tiny: Study, ran: Path, outputs: Path) -> None:
    spec = spec_of(tiny, outputs)
    shutil.copytree(ran / "runs", outputs / "runs")
    folder = RunFolder(outputs, spec.train_key())
    before = folder.metrics.stat().st_mtime_ns
    file = folder.score_file("retrieval")
    score = ScoresRecord.read(file)
    changed = spec.with_field("asked.tasks", (spec.asked.tasks[0].with_field("rerank", 2),))
    assert changed.train_key() == spec.train_key()
    assert execute(changed, outputs) == "done"
    assert folder.metrics.stat().st_mtime_ns == before
    assert ScoresRecord.read(file).score_key != score.score_key
    assert execute(spec, outputs) == "done"
    again = ScoresRecord.read(file)
    assert again.model_copy(update={"seconds": score.seconds}) == score


def test_a_failure_while_scoring_trains_nothing_again(
    tiny: Study, ran: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(tiny, outputs)

    from harness.training.loop.trainer import Trainer
    from harness.training.tasks import retrieval

    def broken(*given: object) -> None:
        raise RuntimeError("no score today")

    monkeypatch.setattr(retrieval, "score", broken)
    assert execute(spec, outputs) == "done", "a score that fails is a score that failed"
    folder = RunFolder(outputs, spec.train_key())
    assert "no score today" in failed_scores(folder)["retrieval"]
    assert record_of(folder).message.startswith("retrieval failed: RuntimeError")
    assert execute(spec, outputs) == "done" and failed_scores(folder), "tried again when asked"
    monkeypatch.undo()
    monkeypatch.setattr(Trainer, "one_step", broken)
    forget_failures(folder)
    assert execute(spec, outputs) == "done" and not failed_scores(folder)
    assert final(folder) == whole_of(ran, spec) and not folder.checkpoint.exists()


def test_code_that_changed_half_way_is_certified_as_both(
    tiny: Study, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.runs import certify, run

    spec = spec_of(tiny, outputs)
    folder = RunFolder(outputs, spec.train_key())
    measure = run.Trainer.measure

    def stopping(self: run.Trainer) -> dict[str, float]:
        if self.step == 2:
            folder.stop_file.touch()
        return measure(self)

    with monkeypatch.context() as patch:
        patch.setattr(run.Trainer, "measure", stopping)
        patch.setattr(certify, "code_digest", lambda file: "old")
        assert execute(spec, outputs) == "interrupted"
    monkeypatch.setattr(certify, "code_digest", lambda file: "new")
    assert execute(spec, outputs) == "done"
    assert Certificate.read(folder.certificate).code == ("old", "new")


def test_a_loss_that_is_not_finite_is_diverged(tiny: Study, outputs: Path) -> None:
    wild = tiny.with_field("optimizer.learning_rate", 1e30).with_field("optimizer.clip_norm", 0)
    spec = spec_of(wild, outputs)
    assert execute(spec, outputs) == "diverged"
    status = RunFolder(outputs, spec.train_key()).status()
    assert status.state == "diverged" and "step" in status.message


def test_a_failure_is_named_and_kept(tiny: Study, outputs: Path) -> None:
    spec = spec_of(tiny, outputs)
    broken = spec.with_field("train.config", {"text_layers": 99})
    assert execute(broken, outputs) == "failed"
    folder = RunFolder(outputs, broken.train_key())
    assert "text_layers is 99" in folder.status().message
    assert "Traceback" in (folder.path / "traceback.txt").read_text()


def test_no_space_left_leaves_nothing_half_written(
    tiny: Study, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(tiny, outputs)
    save = torch.save

    def full(*args: object, **more: object) -> None:
        if not isinstance(args[0], torch.nn.Module):
            save(*args, **more)
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 576 vs 534")  # as torch does when it tidies up

    monkeypatch.setattr(torch, "save", full)
    assert execute(spec, outputs) == "interrupted", "a command goes on with it; no run failed"
    folder = RunFolder(outputs, spec.train_key())
    assert folder.status().message == FULL
    assert not folder.checkpoint.exists() and not list(folder.path.glob(".*"))
    monkeypatch.undo()

    from harness.training.tasks import retrieval

    monkeypatch.setattr(retrieval, "score", full)
    assert execute(spec, outputs) == "interrupted" and not failed_scores(folder)
    assert folder.weights.exists() and folder.status().state == "done"
    monkeypatch.undo()
    assert execute(spec, outputs) == "done" and not missing_scores(folder, spec)


def test_bfloat16_trains_and_keeps_weights_in_float32(tiny: Study, outputs: Path) -> None:
    spec = spec_of(tiny.with_field("numerics.dtype", "bfloat16"), outputs)
    assert execute(spec, outputs) == "done"
    folder = RunFolder(outputs, spec.train_key())
    weights = torch.load(folder.path / "weights.pt", weights_only=True)
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert all(np.isfinite(list(line.values.values())).all() for line in folder.metric_lines())


def test_the_digest_chain_is_of_what_was_fed(tiny: Study, ran: Path) -> None:
    spec = spec_of(tiny, ran)
    batches = training_batches(spec, load_data(spec, ran))
    chains = [""]
    for step in range(6):
        chains.append(batches.after(chains[-1], batches.at(step)))
    lines = RunFolder(ran, spec.train_key()).metric_lines()
    assert [line.chain for line in lines] == [chains[step] for step in (0, 2, 4, 6)]


def test_budget_to_steps_and_grid() -> None:
    assert steps_of(Budget(samples=65), 64) == 2
    assert steps_of(Budget(steps=7), 64) == 7
    assert grid_of(10, 4) == (0, 2, 5, 8, 10)
    assert grid_of(2, 10) == (0, 1, 2)
    assert checkpoints_of(10, Measure(points=10, checkpoints=2)) == {5, 10}
    assert max(checkpoints_of(7, Measure(points=3, checkpoints=3))) == 7


def test_metrics_are_json_lines(tiny: Study, ran: Path, outputs: Path) -> None:
    shutil.copytree(ran / "runs", outputs / "runs")
    folder = RunFolder(outputs, spec_of(tiny, ran).train_key())
    whole = folder.metric_lines()
    with folder.metrics.open("a") as file:
        file.write(whole[0].as_text()[:20])  # a process died while it wrote
    assert folder.metric_lines() == whole
