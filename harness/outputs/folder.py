"""Says where things lie under the outputs folder. `records.py` says what is in them.

outputs/
  cache/                    decoded pictures, by content
  runs/<train key>/         one run; the truth
    spec.json               the run, described whole
    status.json             state, message, step; replaced atomically
    metrics.jsonl           one line per measurement: step, samples, seconds, values, batches
    ledger.json             what was spent, in every unit
    certificate.json        digests: initial weights by role, training code, data
    environment.json        versions, commit, device
    graph.json              the built model as a graph
    checkpoint.pt           newest state, replaced atomically
    weights.pt, weights.json    final weights, and their digest
    scores/<task>.json      final values with chance levels; predictions beside it (.npz)
    finetune/<key>/         what a task taught: metrics, ledger, checkpoint, weights, as of a run
    lock                    held by the process that trains this run
  warm_start/<key>/         what runs start from, where a study asks for it
  studies/<name>/study.json the study as asked, and its cells x seeds -> train keys
  studies/<name>/reads.json when its report was read, and with how many seeds
  studies/<name>/extended.json  seeds and cells that were added to it later
  studies/<name>/tuning/    journal of trials and the choice
  budgets/<key>.json         what a step of a design takes, of a budget in FLOPs or seconds
  reports/<name>/           page, figures, tables
  mlflow.db, mlartifacts/   the tracking store; can be rebuilt from the run folders

At a URL the objects have the same names; `leases/` there stands for the locks, and the tracking
store and decoded data lie on each machine (`copies.py`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from harness.outputs.copies import copy_of, fetched, fetched_folder, sent, there
from harness.outputs.files import Locked, State, atomic_file, exclusive
from harness.outputs.measured import MeasuredLine, measured_lines
from harness.outputs.records import (
    DamagedFile,
    LedgerRecord,
    ScoresRecord,
    Status,
    StudyRecord,
    read_if_there,
)

if TYPE_CHECKING:
    import numpy as np


def study_file(outputs: Path, study: str) -> Path:
    """Says where a study's record lies."""
    return outputs / "studies" / study / "study.json"


def studies(outputs: Path) -> dict[str, StudyRecord]:
    """Returns every study that was run, by name; those whose record is damaged are left out."""
    records = {}
    for path in sorted(outputs.glob("studies/*/study.json")):
        with contextlib.suppress(DamagedFile):
            records[path.parent.name] = StudyRecord.read(path)
    return records


class LoopFolder:
    """LoopFolder is where one loop keeps what it measured, spent and goes on from."""

    remedy: ClassVar[str] = "delete the folder it is in: curves go, the trained run and scores stay"
    """What helps where curves cannot be read: here of a fine-tuning."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"
        self.ledger = path / "ledger.json"
        self.checkpoint = path / "checkpoint.pt"
        self.weights = path / "weights.pt"
        self.weights_digest = path / "weights.json"

    def append_metrics(self, line: MeasuredLine) -> None:
        """Adds a measurement."""
        with self.metrics.open("a") as file:
            file.write(line.as_text())

    def sync_metrics(self) -> None:
        """Waits until the disk has every measurement, as a checkpoint that covers them must."""
        with contextlib.suppress(FileNotFoundError), self.metrics.open("a") as file:
            os.fsync(file.fileno())
            sent(self.metrics)

    def rewrite_metrics(self, lines: Iterable[MeasuredLine]) -> None:
        """Keeps only these measurements."""
        with atomic_file(self.metrics, durable=True) as part:
            part.write_text("".join(line.as_text() for line in lines))

    def metric_lines(self) -> list[MeasuredLine]:
        """Reads measurements in order, less a half-written last line. Raises `DamagedFile`."""
        return measured_lines(self.metrics, self.remedy)


class RunFolder(LoopFolder):
    """RunFolder is the folder of one run."""

    remedy: ClassVar[str] = "delete the run's folder to train it again"

    def __init__(self, outputs: Path, key: str) -> None:
        super().__init__(outputs / "runs" / key)
        self.key = key
        self.spec = self.path / "spec.json"
        self.status_file = self.path / "status.json"
        self.certificate = self.path / "certificate.json"
        self.environment = self.path / "environment.json"
        self.graph = self.path / "graph.json"
        self.scores = self.path / "scores"
        self.stop_file = self.path / "stop"

    def written_status(self) -> Status:
        """Reads the status as written; one that waits where there is none. Raises `DamagedFile`."""
        return read_if_there(Status, self.status_file) or Status()

    def status(self) -> Status:
        """Returns the status as it is: `running` without a living owner reads `interrupted`,
        because its process was killed. Looks for the owner by taking the lock for a moment."""
        status = self.written_status()
        if status.state == "running" and not self.is_locked():
            killed = {"state": "interrupted", "message": "its process was killed"}
            return status.model_copy(update=killed)
        return status

    def recovered_status(self) -> Status:
        """Returns the status as it is, for who goes on with the run: what a damaged file said is
        lost, and whole weights mean trained."""
        try:
            return self.status()
        except DamagedFile as error:
            state: State = "done" if there(self.weights) else "interrupted"
            return Status(state=state, message=str(error))

    def set_status(
        self, state: State, message: str = "", *, durable: bool = True, **more: int
    ) -> None:
        """Replaces the status; `more` (step, steps, checkpoint_step) is kept until changed."""
        try:
            before = self.written_status()
        except DamagedFile:  # what it said is gone, and must not stop a run that goes on
            before = Status()
        changed = {"state": state, "message": message, "updated": time.time(), **more}
        own = {"process": f"{socket.gethostname()}:{os.getpid()}"} if state == "running" else {}
        before.model_copy(update=changed | own).write(self.status_file, durable=durable)

    def covered_lines(self, status: Status | None = None) -> list[MeasuredLine]:
        """Returns measurements up to the last finished checkpoint, in order. Raises `DamagedFile`,
        also where a finished run lacks the newest of them."""
        status = status or self.status()
        lines = [line for line in self.metric_lines() if line.step <= status.checkpoint_step]
        if status.state == "done" and status.checkpoint_step > (lines[-1].step if lines else -1):
            end = f"ends at step {lines[-1].step}" if lines else "holds nothing"
            why = f"{end}, and the run ended at step {status.checkpoint_step}"
            raise DamagedFile(self.metrics, why, self.remedy)
        return lines

    def score_files(self) -> list[Path]:
        """Lists one file for each task that was scored, and `validation.json`."""
        return sorted(self.scores.glob("*.json"))

    def score_file(self, task: str) -> Path:
        """Says where a task's scores lie."""
        return self.scores / f"{task}.json"

    def predictions(self, task: str) -> dict[str, np.ndarray]:
        """Reads what a task kept of its items; nothing where it kept none. Raises `DamagedFile`."""
        import numpy as np

        file = fetched(self.score_file(task).with_suffix(".npz"))
        if not file.exists():
            return {}
        try:
            with np.load(file) as arrays:
                return dict(arrays)
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise DamagedFile(file, f"cannot be read ({error})", ScoresRecord.remedy) from error

    def score_records(self) -> list[ScoresRecord]:
        """Returns every task's scores. Raises `DamagedFile`."""
        records = [(path.stem, ScoresRecord.read(path)) for path in self.score_files()]
        return [record.model_copy(update={"task": task}) for task, record in records]

    def finetuning(self, key: str) -> LoopFolder:
        """Says where a fine-tuning of this run lies; `key`: of its settings and data."""
        return LoopFolder(self.path / "finetune" / key)

    def finetunings(self) -> list[LoopFolder]:
        """Lists the folders of all fine-tunings of this run."""
        return [LoopFolder(path) for path in sorted(self.path.glob("finetune/*"))]

    def finetuned_lines(self, records: Iterable[ScoresRecord]) -> list[MeasuredLine]:
        """Reads what was measured in the fine-tuning of these scores, the curves of each named
        after its task: `vqa/val/task_loss`. Raises `DamagedFile`."""
        return [
            dataclasses.replace(
                line, values={f"{record.task}/{name}": x for name, x in line.values.items()}
            )
            for record in records
            if record.finetuning
            for line in self.finetuning(record.finetuning).metric_lines()
        ]

    def finetuned_ledgers(self, records: Iterable[ScoresRecord]) -> list[LedgerRecord]:
        """Reads what the fine-tuning of these scores spent. Raises `DamagedFile`."""
        keys = dict.fromkeys(record.finetuning for record in records if record.finetuning)
        ledgers = (read_if_there(LedgerRecord, self.finetuning(key).ledger) for key in keys)
        return [ledger for ledger in ledgers if ledger is not None]

    def fetch(self) -> None:
        """Brings what the bucket of outputs at a URL has of this run: what a run goes on from."""
        fetched_folder(self.path)

    def ask_to_stop(self) -> None:
        """Asks who trains the run for a checkpoint, and to end."""
        self.stop_file.touch()
        sent(self.stop_file)

    def is_locked(self) -> bool:
        if copy := copy_of(self.path):
            return copy.leases.is_held(copy.name(self.path))
        try:
            with self.lock():
                return False
        except Locked:
            return True
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run. Raises `Locked` where another process has it, FileNotFoundError where the
        run has no folder."""
        if not self.path.is_dir():
            raise FileNotFoundError(self.path)
        with exclusive(self.path / "lock", f"run {self.key} is being trained"):
            yield
