"""Whoever reads verdicts may add seeds for them: so a study keeps when its report was read, and
with how many seeds, in `studies/<name>/reads.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from architectures.frozen import Frozen
from harness.outputs.folder import study_file
from harness.outputs.records import Record, read_if_there


class Read(Frozen):
    """A read is one set of verdicts that somebody saw."""

    date: str
    """Of the first time they were seen, UTC, as 2026-01-31T12:00:00+00:00."""
    seeds: int
    """How many the verdicts rest on."""
    verdicts: dict[str, dict[str, str]]
    """Endpoint -> cell -> better, worse, equal or undecided."""


class ReadsRecord(Record):
    """Holds every read of a study's report, in order."""

    remedy: ClassVar[str] = (
        "say at which numbers of seeds it was read (`looks` of the study), then delete it"
    )
    reads: tuple[Read, ...] = ()


def _file(outputs: Path, study: str) -> Path:
    return study_file(outputs, study).with_name("reads.json")


def read_at(outputs: Path, study: str) -> tuple[int, ...]:
    """Returns the numbers of seeds at which a study was read, in order. Raises `DamagedFile`."""
    record = read_if_there(ReadsRecord, _file(outputs, study))
    return tuple(dict.fromkeys(read.seeds for read in record.reads)) if record else ()


def note_read(
    outputs: Path, study: str, seeds: int, verdicts: Mapping[str, Mapping[str, str]]
) -> bool:
    """Notes that verdicts were seen, and waits for the disk; what the last read saw is not noted
    twice, and fewer than two seeds, from which there is no verdict, are not noted.

    `verdicts`: endpoint -> cell -> kind. Returns whether it was noted: not where the outputs folder
    has no such study. Raises `DamagedFile`.
    """
    path = _file(outputs, study)
    if seeds < 2 or not study_file(outputs, study).exists():
        return False
    record = read_if_there(ReadsRecord, path) or ReadsRecord()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    own = {endpoint: dict(kinds) for endpoint, kinds in verdicts.items()}
    read = Read(date=now, seeds=seeds, verdicts=own)
    if record.reads and record.reads[-1].model_copy(update={"date": now}) == read:
        return False
    ReadsRecord(reads=(*record.reads, read)).write(path)
    return True
