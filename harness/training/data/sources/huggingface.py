"""Image-caption rows in a folder that `datasets` saved, or in a hub dataset."""

from __future__ import annotations

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


def folder_table(folder: Path, role: str) -> Table:
    """Opens a folder that `datasets` saved. Raises `DataError` for any other folder."""
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
        raise DataError(f"{role}: {folder} cannot be read ({first_line(error)})") from error


def hub_table(where: str, role: str) -> Table:
    """Loads `hub:NAME[:SPLIT]`, from the network where it is not cached."""
    datasets = _datasets()
    name, _, split = where.removeprefix("hub:").partition(":")
    try:
        dataset = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # the library raises many kinds: network, name, split, script
        raise DataError(f"{role}={where} cannot be loaded ({first_line(error)})") from error
    return _dataset_table(dataset, where, Path())


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
