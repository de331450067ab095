"""Frees space under outputs/ without touching a result.

Always: checkpoints of runs that ended (done, diverged, out of memory, failed) and what a killed
process left half-written. Interrupted runs keep theirs, since they go on from it. On request: final
weights, and the cache of decoded data.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from harness.outputs.copies import removed, there
from harness.outputs.files import Locked
from harness.outputs.folder import RunFolder
from harness.outputs.records import DamagedFile

GOES_ON = frozenset({"running", "interrupted", "waiting"})


def clean(outputs: Path, *, weights: bool = False, cache: bool = False) -> dict[str, float]:
    """Returns what was removed -> MiB freed. Runs that train right now are left alone, and runs of
    which nobody knows how far they are, because their status is damaged."""
    freed = {"checkpoints": 0.0, "half-written files": 0.0}
    for path in sorted((outputs / "runs").glob("*")):
        folder = RunFolder(outputs, path.name)
        with contextlib.suppress(Locked, FileNotFoundError, DamagedFile), folder.lock():
            freed["half-written files"] += _remove(path.rglob(".*.part"))
            if folder.written_status().state in GOES_ON:
                continue
            all_folders = [folder, *folder.finetunings()]
            ended = [each.checkpoint for each in all_folders if there(each.weights)]
            freed["checkpoints"] += _remove([folder.checkpoint, *ended])
            if weights:
                kept = _remove(each.weights for each in all_folders)
                freed["weights"] = freed.get("weights", 0.0) + kept
    if cache:
        freed["cache"] = (
            sum(f.stat().st_size for f in (outputs / "cache").rglob("*") if f.is_file()) / 2**20
        )
        shutil.rmtree((outputs / "cache").resolve(), ignore_errors=True)
    return freed


def _remove(files: Iterable[Path]) -> float:
    return sum(map(removed, files)) / 2**20
