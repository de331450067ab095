"""Tables of pictures and captions are opened here: parquet files, JSON lists, a `datasets` folder,
the hub.

Every table can say where a row is, so that what is wrong with it can be named.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

from harness.training.data.at_urls import bring, by_url, local, local_folder, said_by_url
from harness.training.data.cache import DataError
from harness.training.data.files import sha256
from harness.training.data.sources.cells import kind_of, path_text, picture_file, values
from harness.training.data.sources.huggingface import folder_files, folder_table, hub_table
from harness.training.data.sources.json_lists import json_table
from harness.training.data.sources.parquet import parquet_paths, parquet_table
from harness.training.data.sources.table import Table, check_column


def open_tables(where: str, role: str, root: str = "") -> list[Table]:
    """Opens a source: a path or glob of parquet or .json, a `datasets` folder, `hub:NAME[:SPLIT]`.

    `role` (train, val, test) is the setting to name in messages; `root`: the folder of pictures
    that are named by path, if not the table's. Raises DataError for a missing or unreadable path
    and for zero rows in all. Only `hub:` may use the network, and what lies at a URL.
    """
    with by_url(DataError):
        tables = _opened(local(where), role, local_folder(root))
    return [dataclasses.replace(table, name=said_by_url(table.name)) for table in tables]


def _opened(where: str, role: str, root: str) -> list[Table]:
    if where.startswith("hub:"):
        tables = [hub_table(where, role)]
    elif _is_folder(where):
        tables = [folder_table(Path(where).expanduser(), role)]
    else:
        tables = [_file_table(path, role) for path in parquet_paths(where, role)]
    if sum(table.rows for table in tables) == 0:
        raise DataError(f"{role}={where}: no rows")
    if not root:
        return tables
    if not _is_folder(root):
        raise DataError(f"data.root={root} is not a folder")
    folder = Path(root).expanduser()
    return [dataclasses.replace(table, folder=folder, named=True) for table in tables]


def source_digest(where: str, role: str, image: str, root: str = "") -> str:
    """Hashes a source's content: its files, and the picture files that they name.

    A hub dataset is known by its name, and the revision where it says one: looking further would
    need the network.
    """
    if where.startswith("hub:"):
        return where
    here = local(where)
    with by_url(DataError):
        if _is_folder(here):
            paths = folder_files(Path(here).expanduser(), role)
        else:
            paths = parquet_paths(here, role)
    content = hashlib.sha256()
    for path in paths:
        content.update(_file_digest(path, role))
    for table in open_tables(where, role, root):
        check_column(table, image, "image")
        bring(table.folder, _names(table, image))
        for named in _named_files(table, image):
            content.update(_file_digest(named, role))
    return content.hexdigest()


def _file_table(path: Path, role: str) -> Table:
    return json_table(path, role) if path.suffix == ".json" else parquet_table(path, role)


def _is_folder(where: str) -> bool:
    try:
        return Path(where).expanduser().is_dir()
    except (OSError, RuntimeError):  # too long a name, no such user: said where it is opened
        return False


def _named_files(table: Table, image: str) -> Iterator[Path]:
    for text in _names(table, image):
        try:
            yield picture_file(text, table.folder, named=table.named)
        except ValueError:  # said, with its row, when it is decoded
            continue


def _names(table: Table, image: str) -> Iterator[str]:
    """Yields the pictures that rows name by a path, in order."""
    if kind_of(table.schema.field(image).type) == "bytes":
        return
    for batch in table.batches([image]):
        for cell in values(batch, image):
            if (text := path_text(cell)) is not None:
                yield text


def _file_digest(path: Path, role: str) -> bytes:
    try:
        return sha256(path)
    except OSError as error:
        raise DataError(f"{role}: cannot read {path} ({error.strerror})") from error
