"""Where things lie under the outputs folder, and how they are written: whole or not at all.

outputs/
  cache/                    decoded pictures, by content
  runs/<train key>/         one run; the truth
    spec.json               the run, described whole
    status.json             state, message, step; replaced atomically
    metrics.jsonl           one line per measurement: step, samples, seconds, values
    ledger.json             what was spent, in every unit
    certificate.json        digests: batches fed, initial weights by role, training code
    graph.json              the built model as a graph
    checkpoint.pt           newest state, replaced atomically
    scores/<task>.json      final values with chance levels; predictions beside it (.npz)
    lock                    held by the process that trains this run
  warm_start/<key>/         what runs start from, where a study asks for it
  studies/<name>/study.json the study as asked, and its cells x seeds -> train keys
  studies/<name>/tuning/    journal of trials and the choice
  reports/<name>/           page, figures, tables
  mlflow.db, mlartifacts/   the tracking store; can be rebuilt from the run folders
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from architectures.frozen import SettingError

State = Literal["waiting", "running", "done", "diverged", "out_of_memory", "failed", "interrupted"]
FINISHED: frozenset[State] = frozenset({"done"})
RETRIED: frozenset[State] = frozenset({"failed", "diverged", "out_of_memory"})
"""States that only `--retry-failed` starts again."""


class Locked(RuntimeError):
    """Another process trains this run right now."""


class TrackingError(RuntimeError):
    """The tracking store cannot be used. Run folders are untouched: publish again later."""


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary file to write; it becomes `path` when the block ends well.

    `durable` waits for the disk, as a checkpoint must before an older one is given up; progress
    that is noted every second need not survive a power cut.

    Readers see the old content or the whole new one, never a part. Where writing fails, for
    instance because no space is left, the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        if durable:
            with part.open("rb") as file:
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder to fill; it becomes `folder` when the block ends well, else it goes."""
    folder = folder.expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "is not empty" if folder.is_dir() else "is a file"
        raise SettingError(f"{folder} {what}; name a new folder")
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        yield part
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    with atomic_file(path) as part:
        part.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def read_json(path: Path, default: Any = None) -> Any:
    """The value in a JSON file, or the default where there is no such file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return default


class RunFolder:
    """The folder of one run."""

    def __init__(self, outputs: Path, key: str) -> None:
        self.key = key
        self.path = outputs / "runs" / key
        self.spec = self.path / "spec.json"
        self.status_file = self.path / "status.json"
        self.metrics = self.path / "metrics.jsonl"
        self.ledger = self.path / "ledger.json"
        self.certificate = self.path / "certificate.json"
        self.graph = self.path / "graph.json"
        self.checkpoint = self.path / "checkpoint.pt"
        self.scores = self.path / "scores"
        self.stop_file = self.path / "stop"

    def status(self) -> dict[str, Any]:
        """State, message, step, steps, updated. `running` without a living owner reads
        `interrupted`: the process was killed."""
        status = read_json(self.status_file, {"state": "waiting", "message": "", "step": 0})
        if status["state"] == "running" and not self.is_locked():
            status |= {"state": "interrupted", "message": "its process was killed"}
        return status

    def set_status(self, state: State, message: str = "", **more: Any) -> None:
        """Replace the status; `more` (step, steps, checkpoint_step, ...) is kept until changed."""
        old = read_json(self.status_file, {})
        new = {"state": state, "message": message, "updated": time.time()}
        write_json(self.status_file, {**old, **new, **more})

    def append_metrics(self, line: dict[str, Any]) -> None:
        with self.metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def rewrite_metrics(self, lines: list[dict[str, Any]]) -> None:
        """Keep only these measurements."""
        with atomic_file(self.metrics) as part:
            part.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def metric_lines(self) -> list[dict[str, Any]]:
        """Measurements in order; a half-written last line is left out."""
        try:
            text = self.metrics.read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    def is_locked(self) -> bool:
        try:
            with self.lock():
                return False
        except Locked:
            return True
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def lock(self) -> Iterator[IO[str]]:
        """Hold the run. The kernel lets go when the process ends, however it ends."""
        with (self.path / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Locked(f"run {self.key} is being trained by another process") from None
            yield file
