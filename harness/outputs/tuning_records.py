"""Typed records hold what tuning tried and chose: `studies/<name>/tuning/choice.json`."""

from __future__ import annotations

from typing import ClassVar

from architectures.frozen import Frozen
from harness.outputs.files import State
from harness.outputs.records import Record


class CellChoice(Frozen):
    """Holds what tuning did for a cell and what it chose."""

    trials: int
    done: int
    device_seconds: float
    score: float
    chosen: dict[str, float]
    """Dotted path of a setting -> the value chosen."""


class TrialRecord(Frozen):
    """Holds one setting tried by one cell."""

    cell: str
    number: int
    values: dict[str, float]
    """Dotted path of a setting -> the value drawn."""
    run: str
    """Train key."""
    status: State
    score: float | None
    """Last value of the study's `tuning.score`; None where the run did not come to an end."""
    seconds: float
    """Device seconds spent."""


class TuningChoice(Record):
    """Holds what was tried and what was chosen: `studies/<name>/tuning/choice.json`."""

    remedy: ClassVar[str] = "delete it and run `fuselab tune` again: trials that are done are kept"
    score: str
    note: str = "lowest score of each cell; scores of different designs are not comparable"
    digests: dict[str, str]
    """Cell -> digest of all that its tuning depends on."""
    cells: dict[str, CellChoice]
    trials: tuple[TrialRecord, ...] = ()
