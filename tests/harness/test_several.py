"""A run by two workers under Ray Train: the curves of one worker, whatever dies, stops or fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from architectures import registry
from architectures.frozen import SettingError
from harness.checkup.again import again
from harness.lab import Lab
from harness.outputs.folder import RunFolder
from harness.outputs.records import LedgerRecord
from harness.planning.plan import plan
from harness.planning.several import refuse_several
from harness.scheduling.on_ray import opened
from harness.scheduling.schedule import run_all
from harness.study import Budget, Cell, Measure, Study, Variant
from harness.training.settings.spec import RunSpec
from tests.harness.test_run import elsewhere, final, spec_of

CLOSE = 1e-5


@pytest.fixture
def still(tiny: Study) -> Study:
    """Without dropout, so that one worker and two can be compared, and long enough to be cut."""
    changes = {"backbone.dropout": 0.0, "budget.steps": 120, "measure": Measure(
        points=6, items=24, checkpoints=6)}  # fmt: skip
    return tiny.with_fields(changes).model_copy(update={"budget": Budget(steps=120)})


@pytest.fixture
def two(still: Study) -> Study:
    return still.with_field("numerics.workers", 2)


@pytest.fixture(scope="module")
def ray_open() -> Iterator[None]:
    with opened(None, threads=1):
        yield


# -- in the plan


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 9}, "9 pairs is not divided equally among 2 workers"),
        ({"budget.seconds": 5.0}, "timed in one process"),
        ({"freeze.image": True}, "frozen is run in one process"),
    ],
)
def test_what_two_workers_cannot_do_is_refused(
    two: Study, outputs: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        Lab(outputs).plan(two.with_fields(changes))


NORMED = '''
from typing import ClassVar

from torch import nn

from architectures.contract import DesignConfig
from architectures.designs.split_bert import SplitBert, SplitBertConfig


class Normed(SplitBert):
    """The split with a norm over the batch."""

    name: ClassVar[str] = "normed"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = SplitBertConfig

    def __init__(self, config, backbone, vocabulary):
        super().__init__(config, backbone, vocabulary)
        self.over_rows = nn.BatchNorm1d(backbone.text_width)
'''


def test_a_norm_over_the_batch_is_refused(
    two: Study, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_own", {})
    own = tmp_path / "normed.py"
    own.write_text(NORMED)
    registry.load_file(own)
    cell = Cell(variant=Variant("normed", text_layers=1), label="k1")
    planned = plan(two.model_copy(update={"cells": (cell,), "control": "k1"}), outputs)
    with pytest.raises(SettingError, match=r"'k1': normed normalises over .* \(over_rows\)"):
        refuse_several(planned)


def test_steps_of_two_workers_are_not_done_again_by_one(two: Study, outputs: Path) -> None:
    with pytest.raises(SettingError, match="2 workers together"):
        again(spec_of(two, outputs), outputs, steps=1)


def test_without_ray_there_is_one_worker(two: Study, outputs: Path) -> None:
    with pytest.raises(SettingError, match="leave out --local"):
        Lab(outputs).run(two, local=True)


def test_one_worker_is_no_setting_of_a_run(still: Study, two: Study, outputs: Path) -> None:
    one = still.with_field("numerics.workers", 1)
    assert spec_of(one, outputs).train_key() == spec_of(still, outputs).train_key()
    assert spec_of(two, outputs).train_key() != spec_of(still, outputs).train_key()


# -- under Ray


def soon(spec: RunSpec, outputs: Path, step: int, do: Callable[[], object]) -> threading.Thread:
    """Does something once the run has noted a step."""
    folder = RunFolder(outputs, spec.train_key())

    def wait() -> None:
        limit = time.monotonic() + 120
        while time.monotonic() < limit:
            if folder.path.is_dir() and folder.written_status().step >= step:
                do()
                return
            time.sleep(0.02)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def kill_the_second_worker() -> None:
    """The younger of the two processes that train."""
    found = []
    for process in psutil.process_iter(["cmdline", "create_time"]):
        if "TrainWorker" in " ".join(process.info["cmdline"] or []):
            found.append(process)
    ranks = sorted(found, key=lambda its: its.info["create_time"])
    assert len(ranks) == 2
    ranks[-1].kill()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_give_the_run_of_one(
    ray_open: None, still: Study, two: Study, outputs: Path, tmp_path: Path
) -> None:
    one, several = spec_of(still, outputs), spec_of(two, outputs)
    assert list(run_all([one], outputs, local=True).values()) == ["done"]
    assert list(run_all([several], outputs).values()) == ["done"]
    folders = [RunFolder(outputs, spec.train_key()) for spec in (one, several)]
    lines = [folder.metric_lines() for folder in folders]
    for ours, theirs in zip(*lines, strict=True):
        assert (ours.step, ours.samples, ours.chain, ours.chains) == (
            theirs.step, theirs.samples, theirs.chain, theirs.chains
        )  # fmt: skip
        assert ours.values.keys() == theirs.values.keys()
    worst = max(abs(lines[0][1].values[k] - v) for k, v in lines[1][1].values.items())
    print(f"largest difference at step {lines[0][1].step}: {worst:.1e}")
    spent = [LedgerRecord.read(folder.ledger).spent for folder in folders]
    for unit in ("steps", "samples", "text_tokens", "image_tokens", "flops", "parameters"):
        assert getattr(spent[0], unit) == getattr(spent[1], unit), unit

    # stopped on request, then one of its workers killed: the same bits as undisturbed
    other = elsewhere(outputs, tmp_path)
    folder = RunFolder(other, several.train_key())
    stopping = soon(several, other, 10, folder.stop_file.touch)
    assert list(run_all([several], other).values()) == ["interrupted"]
    stopping.join()
    at = folder.written_status().step
    killing = soon(several, other, at + 10, kill_the_second_worker)
    assert list(run_all([several], other).values()) == ["done"]
    killing.join()
    assert final(folder) == final(folders[1])
    assert LedgerRecord.read(folder.ledger).spent.attempts == 3
    assert not (folder.path / "ray_train").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_failure_of_the_first_worker_lets_go_of_the_others(
    ray_open: None, two: Study, outputs: Path
) -> None:
    spec = spec_of(two, outputs)
    folder = RunFolder(outputs, spec.train_key())
    folder.path.mkdir(parents=True)
    folder.checkpoint.write_bytes(b"no tensors")
    begun = time.monotonic()
    assert list(run_all([spec], outputs).values()) == ["failed"]
    assert "checkpoint.pt cannot be read" in folder.status().message
    assert time.monotonic() - begun < 120
