"""Tables of pictures and captions: parquet files, a `datasets` folder, a hub dataset.

Every table can say where a row is, so that what is wrong with it can be named.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from architectures.frozen import nearest
from harness.training.data.cache import DataError

_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Table:
    """One file (or one dataset) of rows."""

    name: str
    """What to call it in a message."""
    folder: Path
    """Where relative paths of pictures start."""
    rows: int
    schema: pa.Schema
    batches: Callable[[list[str]], Iterator[pa.RecordBatch]]
    """The columns named, in pieces, in order."""


def open_tables(where: str, role: str) -> list[Table]:
    """The tables of a source: a parquet path or glob, a `datasets` folder, `hub:NAME[:SPLIT]`.

    Raises DataError for a missing or unreadable path and for zero rows in all. `role` (train,
    val, test) is the setting to name in messages. Only `hub:` may use the network.
    """
    if where.startswith("hub:"):
        tables = [_hub_table(where, role)]
    elif Path(where).expanduser().is_dir():
        tables = [_folder_table(Path(where).expanduser(), role)]
    else:
        tables = [_parquet_table(path, role) for path in parquet_paths(where, role)]
    if sum(table.rows for table in tables) == 0:
        raise DataError(f"{role}={where}: no rows")
    return tables


def check_column(table: Table, column: str, setting: str) -> None:
    """Raises DataError with the nearest name where the table has no such column."""
    if column not in table.schema.names:
        said = nearest(column, table.schema.names, f"column of {table.name} (setting {setting})")
        raise DataError(str(said))


def parquet_paths(where: str, role: str) -> list[Path]:
    """The files of a path or glob, by name."""
    paths = sorted(Path(p) for p in glob.glob(str(Path(where).expanduser()), recursive=True))
    if not paths:
        what = "matches no file" if glob.has_magic(where) else "does not exist"
        raise DataError(f"{role}={where} {what}")
    return paths


def source_digest(where: str, role: str, image: str) -> str:
    """Hash of a source's content: its files, and the picture files that they name.

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
    if not (pa.types.is_struct(kind) or _is_text(kind)):
        return
    for batch in table.batches([image]):
        for value in batch.column(0).to_pylist():
            path = picture_path(value, table.folder)
            if path is not None and path.is_file():  # a missing one is named when decoded
                yield path


def picture_path(value: Any, folder: Path) -> Path | None:
    """The file an image cell points to, or None where it holds the bytes itself (or nothing)."""
    if isinstance(value, dict):
        value = value.get("path") if value.get("bytes") is None else None
    return folder / value if isinstance(value, str) and value else None


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


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _parquet_table(path: Path, role: str) -> Table:
    try:
        with pq.ParquetFile(path) as file:
            rows, schema = file.metadata.num_rows, file.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{role}: {path} cannot be read as parquet ({_short(error)})") from error

    def batches(columns: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(_BATCH, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{role}: {path} is damaged ({_short(error)})") from error

    return Table(name=str(path), folder=path.parent, rows=rows, schema=schema, batches=batches)


def _folder_table(folder: Path, role: str) -> Table:
    if (folder / "dataset_dict.json").exists():
        splits = ", ".join(sorted(p.name for p in folder.iterdir() if p.is_dir()))
        raise DataError(f"{role}={folder} holds several splits; name one of its folders: {splits}")
    if not (folder / "state.json").exists():
        raise DataError(
            f"{role}={folder} is not a folder saved by `datasets`; "
            f"for parquet files write {folder}/*.parquet"
        )
    datasets = _datasets()
    try:
        return _dataset_table(datasets.load_from_disk(str(folder)), str(folder), folder)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{role}: {folder} cannot be read ({_short(error)})") from error


def _hub_table(where: str, role: str) -> Table:
    datasets = _datasets()
    name, _, split = where.removeprefix("hub:").partition(":")
    try:
        found = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # the library raises many kinds: network, name, split, script
        raise DataError(f"{role}={where} cannot be loaded ({_short(error)})") from error
    return _dataset_table(found, where, Path())


def _datasets() -> Any:
    try:
        import datasets  # slow, and needed for such sources only
    except ImportError as error:
        raise DataError("needs the library `datasets`: pip install fuselab[datasets]") from error
    return datasets


def _dataset_table(dataset: Any, name: str, folder: Path) -> Table:
    def batches(columns: list[str]) -> Iterator[pa.RecordBatch]:
        for table in dataset.select_columns(columns).with_format("arrow").iter(_BATCH):
            yield from table.combine_chunks().to_batches()

    schema = dataset.features.arrow_schema
    return Table(name=name, folder=folder, rows=len(dataset), schema=schema, batches=batches)


def _short(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
