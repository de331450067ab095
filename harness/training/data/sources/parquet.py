"""Image-caption rows in parquet files."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from harness.training.data.cache import DataError
from harness.training.data.sources.table import (
    ROWS_AT_ONCE,
    Table,
    first_line,
)


def parquet_paths(where: str, role: str) -> list[Path]:
    """Lists the files of a path or glob, by name.

    Raises `DataError` where there is none, and for what is no file: a pipe would never end.
    """
    try:
        paths = sorted(_matching(Path(where).expanduser()))
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, no such user
        raise DataError(f"{role}={where} is no path ({first_line(error)})") from error
    if not paths:
        what = "matches no file" if glob.has_magic(where) else "does not exist"
        raise DataError(f"{role}={where} {what}")
    for path in paths:
        if not path.is_file():
            raise DataError(
                f"{role}={where}: {path} is not a regular file; name parquet files or JSON lists"
            )
    return paths


def _matching(pattern: Path) -> list[Path]:
    """Lists what a pattern matches; its first parts, for as long as they exist, are no pattern."""
    start = Path(pattern.anchor)
    parts = list(pattern.relative_to(start).parts)
    while parts and (start / parts[0]).exists():
        start /= parts.pop(0)
    if not parts:
        return [start]
    rest = str(Path(*parts))
    return [start / name for name in glob.glob(rest, root_dir=start, recursive=True)]


def parquet_table(path: Path, role: str) -> Table:
    """Opens one file. Raises `DataError`, now or while it is read, where it is damaged."""
    try:
        with pq.ParquetFile(path) as file:
            rows, schema = file.metadata.num_rows, file.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{role}: {path} cannot be read as parquet ({first_line(error)})"
        ) from error

    def batches(columns: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(ROWS_AT_ONCE, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{role}: {path} is damaged ({first_line(error)})") from error

    return Table(name=str(path), folder=path.parent, rows=rows, schema=schema, batches=batches)
