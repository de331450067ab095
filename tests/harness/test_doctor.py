"""The doctor finds what is wrong, and only that; it mends without touching what is finished."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from harness.checkup import checkup
from harness.checkup.again import again
from harness.checkup.checkup import done_again, examined, mended
from harness.checkup.machine import machine
from harness.commands.main import app
from harness.outputs.doctor import Examined, Fault, spec_of
from harness.outputs.environment import environment
from harness.outputs.folder import RunFolder, study_file
from harness.outputs.records import ScoresRecord, StudyRecord, WeightsRecord
from harness.results.folders import load
from harness.training.settings.loop import Numerics


@pytest.fixture
def there(ran: Path, tmp_path: Path) -> Path:
    """A copy of a finished study."""
    return Path(shutil.copytree(ran, tmp_path / "there", symlinks=True))


TRACKED = checkup._tracked


@pytest.fixture(autouse=True)
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is one test's: reading it takes a second, and one process cannot write two copies
    of a store, as MLflow remembers where a run's files lie."""
    sound = Examined(part="tracking", seen="nothing")
    monkeypatch.setattr(checkup, "_tracked", lambda *_: sound)


def faults(outputs: Path) -> list[Fault]:
    return [fault for part in examined(outputs) for fault in part.faults]


def first(outputs: Path) -> RunFolder:
    """The run of k1 at seed 0."""
    return RunFolder(outputs, StudyRecord.read(study_file(outputs, "tiny")).rows[0].run)


def said(outputs: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["doctor", *words, "--outputs", str(outputs)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.output.split())


def test_a_finished_study_is_healthy(there: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in there.rglob("*") if path.is_file()}
    code, text = said(there, "tiny")
    assert code == 0 and "Healthy." in text, text
    assert "weights and checkpoints: sound (6 files)" in text
    after = {path: path.stat().st_mtime_ns for path in before}
    runs = [path for path in before if "runs" in path.parts]
    assert all(before[path] == after[path] for path in runs) and len(runs) > 60


def old_part(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))
    return path


def test_half_written_files_are_found_and_removed(there: Path) -> None:
    nobody = 2**22 + 1  # above the largest number of a process
    left = [
        old_part(first(there).path / f".checkpoint.pt.{nobody}.part"),
        old_part(there / "studies" / "tiny" / f".study.json.{nobody}.part"),
    ]
    (there / "reports" / f".tiny.{nobody}.part").mkdir(parents=True)
    os.utime(there / "reports" / f".tiny.{nobody}.part", (1, 1))
    alive = old_part(first(there).path / f".weights.pt.{os.getpid()}.part")
    fresh = there / "studies" / f".x.{nobody}.part"
    fresh.touch()
    found = faults(there)
    assert len(found) == 3 and all("half-written" in fault.text for fault in found)
    code, text = said(there, "--mend")
    assert code == 0 and text.count("mended: removed") == 3
    assert not any(path.exists() for path in left) and alive.exists() and fresh.exists()


def test_what_a_run_writes_now_is_left_alone(there: Path) -> None:
    old_part(first(there).path / f".checkpoint.pt.{2**22 + 1}.part")
    with first(there).lock():
        assert faults(there) == []


Break = Callable[[RunFolder], object]


def torn(name: str) -> Break:
    return lambda folder: (folder.path / name).write_bytes(b'{"format": 2, "sp')


def shorter(folder: RunFolder) -> None:
    whole = folder.metrics.read_bytes()
    folder.metrics.write_bytes(whole[: len(whole) * 2 // 3])


def other_weights(folder: RunFolder) -> None:
    weights = torch.load(folder.weights, weights_only=True)
    next(iter(weights.values())).view(-1)[0] += 1e-6
    torch.save(weights, folder.weights)


def other_spec(folder: RunFolder) -> None:
    content = json.loads(folder.spec.read_text())
    content["train"]["seed"] = 5
    folder.spec.write_text(json.dumps(content))


def other_role(folder: RunFolder) -> None:
    content = json.loads(folder.certificate.read_text())
    name = next(name for name in content["roles"] if name.startswith("image"))
    content["roles"][name]["digest"] = "x"
    folder.certificate.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("broken", "texts", "remedy"),
    [
        (torn("certificate.json"), ["certificate.json is damaged"], "delete the run's folder"),
        (torn("ledger.json"), ["ledger.json is damaged"], "its scores stay"),
        (torn("environment.json"), ["environment.json is damaged"], "delete it"),
        (torn("graph.json"), ["graph.json is damaged"], "leave the design's picture out"),
        (torn("scores/retrieval.json"), ["retrieval.json is damaged"], "scores the run again"),
        (torn("spec.json"), ["spec.json is damaged"], "writes it again"),
        (shorter, ["metrics.jsonl ends at step 2, and the run ended at step 6"], "to train it"),
        (torn("metrics.jsonl"), ["metrics.jsonl holds nothing, and the run ended"], "to train it"),
        (torn("weights.pt"), ["weights.pt cannot be read"], "delete the run's folder"),
        (other_weights, ["weights.pt is not what was written"], "delete the run's folder"),
        (other_spec, ["a foreign key", "names the run"], "move the folder away"),
        (other_role, ["seed 0: initial weights differ in 1 role"], "proves nothing"),
    ],
)  # fmt: skip
def test_damage_is_named_with_its_remedy(
    there: Path, broken: Break, texts: list[str], remedy: str
) -> None:
    broken(first(there))
    found = faults(there)
    for text in texts:
        assert any(text in fault.text for fault in found), found
    assert any(remedy in fault.remedy for fault in found), found
    code, _ = said(there, "tiny", "--mend")
    assert code == 1 and first(there).weights.exists()  # nothing that was finished is deleted


def test_a_lost_or_torn_status_is_written_anew(there: Path) -> None:
    before = load(there, "tiny")
    first(there).status_file.unlink()
    others = [RunFolder(there, key) for key in dict.fromkeys(before.runs["run"])][1:3]
    others[0].status_file.write_bytes(b"\0\0")
    others[1].set_status("done", checkpoint_step=2)
    assert len(load(there, "tiny").curves) < len(before.curves)
    code, text = said(there, "tiny", "--mend")
    assert code == 0 and text.count("anew: done at step 6") == 3, text
    assert load(there, "tiny").curves.equals(before.curves)
    assert list(load(there, "tiny").runs["status"]) == ["done"] * 6


@pytest.mark.slow
def test_a_store_that_is_gone_or_behind_is_published(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "_tracked", TRACKED)
    (there / "mlflow.db").unlink()
    (fault,) = faults(there)
    assert "fuselab publish tiny" in fault.remedy
    assert list(mended(iter([fault]))) == ["published tiny"] and faults(there) == []
    path = first(there).score_file("retrieval")
    record = ScoresRecord.read(path)
    best = dataclasses.replace(record.scores[0], value=100.0)
    record.model_copy(update={"scores": (best, *record.scores[1:])}).write(path)
    (fault,) = faults(there)
    assert "other states or scores" in fault.text
    assert list(mended(iter([fault]))) == ["published tiny"] and faults(there) == []


def test_orphans_are_told_and_stay(there: Path) -> None:
    record = StudyRecord.read(study_file(there, "tiny"))
    rows = tuple(row for row in record.rows if row.cell != "k2")
    fewer = record.model_copy(update={"rows": rows, "left_over": (record.rows[2].run,)})
    fewer.write(study_file(there, "tiny"))
    part = next(part for part in examined(there) if part.part == "orphans")
    assert part.seen == "2 of 6 runs" and part.faults == () and len(part.notes) == 2
    assert sum("under earlier settings" in note for note in part.notes) == 1
    said(there, "--mend")
    assert len(list(there.glob("runs/*"))) == 6


def test_a_changed_picture_of_the_cache_is_seen(there: Path, shared_cache: Path) -> None:
    (there / "cache").unlink()
    shutil.copytree(shared_cache, there / "cache")
    image = next((there / "cache").glob("*/train.images.npy"))
    content = bytearray(image.read_bytes())
    content[-1] ^= 1
    image.write_bytes(content)
    (fault,) = faults(there)
    assert str(image.parent) in fault.text and "makes it again" in fault.remedy


# -- the machine


def test_other_versions_matter_where_runs_are_to_do(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = environment(Numerics())
    new = now.model_copy(update={"libraries": {**now.libraries, "torch": "9.9"}})
    monkeypatch.setattr("harness.checkup.machine.environment", lambda numerics: new)
    monkeypatch.setattr("harness.checkup.machine.code_digest", lambda file: "c0de")
    keys = StudyRecord.read(study_file(there, "tiny")).keys
    part = machine(there, keys)
    assert part.faults == () and len(part.notes) == 2
    assert "torch 2" in part.notes[0] and "now 9.9" in part.notes[0]
    first(there).weights.unlink()
    first(there).set_status("interrupted")
    assert len(machine(there, keys).faults) == 2


def test_a_full_disk_is_a_fault_only_of_what_is_to_do(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(there)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    part = machine(there, [*StudyRecord.read(study_file(there, "tiny")).keys, "not begun"])
    assert any("1 MiB of disk" in fault.text and "clean" in fault.remedy for fault in part.faults)


# -- steps done again


def test_steps_done_again_have_the_same_bits(there: Path) -> None:
    code, text = said(there, "tiny", "--rerun", "3")
    assert code == 0 and "steps 1 to 4" in text, text
    part = done_again(there, "tiny", 100)
    assert part.faults == () and "steps 1 to 6" in part.seen
    assert "9 digests of batches" in part.seen  # six steps, three of them measured


def test_other_bits_are_named(there: Path) -> None:
    folder = first(there)
    lines = folder.metric_lines()
    lines[1].values["val/itc_loss"] *= 1 + 1e-15
    lines[2].chains[3] = "x"
    folder.rewrite_metrics(lines)
    spec = spec_of(folder)
    assert spec is not None
    came = again(spec, there, 4)
    assert (came.first, came.last, came.other_code) == (1, 4, False)
    assert came.differences[0].startswith("step 2: val/itc_loss was ")
    assert came.differences[1] == "step 3: the batches fed up to here"
    assert len(came.differences) == 2


def test_an_unfinished_run_is_done_again_from_its_checkpoint(there: Path) -> None:
    from harness.runs.run import execute
    from harness.training.loop.trainer import Trainer

    spec = spec_of(first(there))
    assert spec is not None
    shutil.rmtree(first(there).path)
    real = Trainer.one_step

    def step_and_die(self: Trainer) -> None:
        real(self)
        if self.step == 4:
            shutil.copy(first(there).checkpoint, there / "kept")
        if self.step == 5:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "one_step", step_and_die)
        assert execute(spec, there) == "interrupted"
    (there / "kept").replace(first(there).checkpoint)  # its checkpoint at step 2
    came = again(spec, there, 1)
    assert (came.first, came.last, came.differences) == (3, 4, ())


def test_weights_that_lost_their_digest_are_no_fault(there: Path) -> None:
    first(there).weights_digest.unlink()
    assert faults(there) == []
    WeightsRecord(digest="x").write(first(there).weights_digest)
    assert any("not what was written" in fault.text for fault in faults(there))


def test_a_torn_checkpoint_is_set_aside(there: Path) -> None:
    folder = first(there)
    folder.weights.unlink()
    folder.set_status("interrupted")
    folder.checkpoint.write_bytes(b"PK no more")
    code, text = said(there, "tiny", "--mend")
    assert "the run begins again" in text
    assert not folder.checkpoint.exists() and folder.path.joinpath("checkpoint.pt.damaged").exists()
    assert code == 0, text


def test_an_unknown_study_is_named(there: Path) -> None:
    code, text = said(there, "tinny")
    assert code == 2 and "did you mean 'tiny'" in text
