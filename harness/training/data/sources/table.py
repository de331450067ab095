"""A table of image-caption rows, whatever file it lies in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from architectures.frozen import nearest
from harness.training.data.cache import DataError

ROWS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Table:
    """One file (or one dataset) of rows, read in pieces."""

    name: str
    """What to call it in a message."""
    folder: Path
    """Where relative paths of pictures start, and what their files lie below."""
    named: bool = False
    """The study itself names that folder (`Pictures.root`)."""
    rows: int
    schema: pa.Schema
    batches: Callable[[list[str]], Iterator[pa.RecordBatch]]
    """The columns named, in pieces, in order."""


def check_column(table: Table, column: str, setting: str) -> None:
    """Raises DataError where the table has no such column, with the nearest name, or two."""
    if table.schema.names.count(column) > 1:
        raise DataError(
            f"{table.name} has two columns {column!r} (setting {setting}); rename one of them"
        )
    if column not in table.schema.names:
        error = nearest(column, table.schema.names, f"column of {table.name} (setting {setting})")
        raise DataError(str(error))


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
