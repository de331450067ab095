"""Holds what a run measured: the lines of `metrics.jsonl`, one for each measurement."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness.outputs.records import DamagedFile


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredLine:
    """A line of `metrics.jsonl` is a plain dataclass: a study may have a million of them."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    step: int
    samples: int
    seconds: float
    """Training seconds so far, without start-up, measuring and scoring."""
    time: float  # seconds since 1970
    values: dict[str, float]
    """Name of a curve, as `val/itm_accuracy`, -> its value here."""
    chain: str = ""
    """Digest chain of all batches fed up to here; empty at the start."""
    chains: dict[int, str] = dataclasses.field(default_factory=dict)
    """Step since the line before -> digest chain there, at the steps that every run keeps."""

    def as_text(self) -> str:
        """Returns the line as it stands in the file."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}) + "\n"


_LINE = TypeAdapter(MeasuredLine)


def measured_lines(path: Path, remedy: str) -> list[MeasuredLine]:
    """Returns measurements in order; a half-written last line is left out. Raises `DamagedFile`,
    which says what to do then: `remedy`.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    try:
        whole = text.splitlines(keepends=True)
        return [_LINE.validate_json(line) for line in whole if line.endswith(b"\n")]
    except ValidationError as error:
        why = f"has a line that cannot be read ({error.errors()[0]['msg']})"
        raise DamagedFile(path, why, remedy) from error
