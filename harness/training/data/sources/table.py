"""A table of image-caption rows, whatever file it lies in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """Where relative paths of pictures start."""
    rows: int
    schema: pa.Schema
    batches: Callable[[list[str]], Iterator[pa.RecordBatch]]
    """The columns named, in pieces, in order."""


def check_column(table: Table, column: str, setting: str) -> None:
    """Raises DataError with the nearest name where the table has no such column."""
    if column not in table.schema.names:
        error = nearest(column, table.schema.names, f"column of {table.name} (setting {setting})")
        raise DataError(str(error))


def picture_path(value: Any, folder: Path) -> Path | None:
    """Names the file that an image cell points to; None where it holds bytes or nothing."""
    if isinstance(value, dict):
        value = value.get("path") if value.get("bytes") is None else None
    return folder / value if isinstance(value, str) and value else None


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
