"""Image-caption rows in a folder that `datasets` saved, or in a hub dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness.training.data.cache import DataError
from harness.training.data.sources.table import (
    ROWS_AT_ONCE,
    Table,
    first_line,
)

_FILES = ("_data_files", "_indices_data_files", "_indices_files")
"""Where `state.json` names rows, and which of them are meant (older versions)."""


def folder_table(folder: Path, role: str) -> Table:
    """Opens a folder that `datasets` saved. Raises `DataError` as `folder_files` does."""
    folder_files(folder, role)
    datasets = _datasets()
    try:
        return _dataset_table(datasets.load_from_disk(str(folder)), str(folder), folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise DataError(f"{role}: {folder} cannot be read ({first_line(error)})") from error


def folder_files(folder: Path, role: str) -> list[Path]:
    """Lists the files of rows that a saved folder names, in order; others, which `datasets` leaves
    beside them when it filters or maps, are none of its content. Raises `DataError` where it names
    none, or one that lies elsewhere, and for any other folder.
    """
    if (folder / "dataset_dict.json").exists():
        splits = ", ".join(sorted(p.name for p in folder.iterdir() if p.is_dir()))
        raise DataError(f"{role}={folder} holds several splits; name one of its folders: {splits}")
    if not (folder / "state.json").exists():
        raise DataError(
            f"{role}={folder} is not a folder saved by `datasets`; "
            f"for parquet files write {folder}/*.parquet"
        )
    try:
        state = json.loads((folder / "state.json").read_text("utf-8"))
        names = [file["filename"] for key in _FILES for file in state.get(key) or []]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{role}: {folder}/state.json cannot be read ({error})") from error
    if not names or any(not isinstance(n, str) or Path(n).name != n for n in names):
        raise DataError(f"{role}: {folder}/state.json must name files of that folder, not {names}")
    return [folder / name for name in names]


def hub_table(where: str, role: str) -> Table:
    """Loads `hub:NAME[@REVISION][:SPLIT]`, from the network where it is not cached."""
    datasets = _datasets()
    name, _, split = where.removeprefix("hub:").partition(":")
    name, _, revision = name.partition("@")
    if not name:
        raise DataError(f"{role}={where} names no dataset; write it as hub:NAME or hub:NAME:SPLIT")
    try:
        dataset = datasets.load_dataset(name, split=split or "train", revision=revision or None)
    except Exception as error:  # the library raises many kinds: network, name, split, script
        raise DataError(f"{role}={where} cannot be loaded ({first_line(error)})") from error
    folder = Path(datasets.config.HF_CACHE_HOME).expanduser()  # what it has fetched lies there
    return _dataset_table(dataset, where, folder)


def _datasets() -> Any:
    try:
        import datasets  # slow, and needed for such sources only
    except ImportError as error:
        raise DataError("needs the library `datasets`: pip install fuselab[datasets]") from error
    return datasets


def _dataset_table(dataset: Any, name: str, folder: Path) -> Table:
    def batches(columns: list[str]) -> Iterator[pa.RecordBatch]:
        for table in dataset.select_columns(columns).with_format("arrow").iter(ROWS_AT_ONCE):
            yield from table.combine_chunks().to_batches()

    schema = dataset.features.arrow_schema
    return Table(name=name, folder=folder, rows=len(dataset), schema=schema, batches=batches)
