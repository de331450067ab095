"""Tables of pictures and captions: parquet files, a `datasets` folder, a hub dataset.

Every table can say where a row is, so that what is wrong with it can be named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pyarrow as pa

from harness.training.data.cache import DataError
from harness.training.data.sources.huggingface import folder_table, hub_table
from harness.training.data.sources.parquet import parquet_paths, parquet_table
from harness.training.data.sources.table import (
    Table,
    check_column,
    is_text,
    picture_path,
)


def open_tables(where: str, role: str) -> list[Table]:
    """Opens a source: a parquet path or glob, a `datasets` folder, `hub:NAME[:SPLIT]`.

    Raises DataError for a missing or unreadable path and for zero rows in all. `role` (train,
    val, test) is the setting to name in messages. Only `hub:` may use the network.
    """
    if where.startswith("hub:"):
        tables = [hub_table(where, role)]
    elif Path(where).expanduser().is_dir():
        tables = [folder_table(Path(where).expanduser(), role)]
    else:
        tables = [parquet_table(path, role) for path in parquet_paths(where, role)]
    if sum(table.rows for table in tables) == 0:
        raise DataError(f"{role}={where}: no rows")
    return tables


def source_digest(where: str, role: str, image: str) -> str:
    """Hashes a source's content: its files, and the picture files that they name.

    A hub dataset is known by its name: looking further would need the network.
    """
    if where.startswith("hub:"):
        return where
    root = Path(where).expanduser()
    paths = sorted(root.glob("*.arrow")) if root.is_dir() else parquet_paths(where, role)
    content = hashlib.sha256()
    for path in paths:
        content.update(_file_digest(path, role))
    for table in open_tables(where, role):
        check_column(table, image, "image")
        for named in _named_files(table, image):
            content.update(_file_digest(named, role))
    return content.hexdigest()


def _named_files(table: Table, image: str) -> Iterator[Path]:
    kind = table.schema.field(image).type
    if not (pa.types.is_struct(kind) or is_text(kind)):
        return
    for batch in table.batches([image]):
        for value in batch.column(0).to_pylist():
            path = picture_path(value, table.folder)
            if path is not None and path.is_file():  # a missing one is named when decoded
                yield path


def _file_digest(path: Path, role: str) -> bytes:
    try:
        state = path.stat()
        return _digest_once(path.resolve(), state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{role}: cannot read {path} ({error.strerror})") from error


@cache
def _digest_once(path: Path, size: int, modified: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
