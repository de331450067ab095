"""Real pictures and captions: read, checked row by row, held out by group.

Letters: N rows of a source, n rows of a piece, S side in pixels, C channels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.training.data.cache import DataError, write_array
from harness.training.data.decoding import Decoded, Square, decode
from harness.training.data.holding_out import hold_out
from harness.training.data.sources.cells import Unreadable, group_name, is_blank, kind_of, values
from harness.training.data.sources.opening import open_tables
from harness.training.data.sources.table import Table, check_column
from harness.training.data.splits import NAMES, Rows, write_split
from harness.training.settings.data import Pictures

_SHOWN = 5
"""Bad rows that a message names; the others are counted."""
_PIECE = 256


@dataclass(frozen=True)
class _Source:
    """One source is held here, decoded, in its own order."""

    images_NSSC: np.ndarray
    picture_N: np.ndarray
    captions: list[list[str]]
    groups: list[str]
    group_kinds: list[str]
    """What its tables hold as groups: numbers, text, ..."""


def write_pictures(data: Pictures, image_size: int, channels: int, folder: Path) -> None:
    """Decodes all sources into `folder` (splits.write_split).

    Raises DataError that names the first bad rows (file, row, column) and how many there are.
    """
    square = Square(side=image_size, channels=channels, fit=data.fit)
    sources = {
        name: _read(data, name, square, folder / f"{name}.source.npy")
        for name in NAMES
        if getattr(data, name)
    }
    _check_groups({name: source.group_kinds for name, source in sources.items()}, data.group)
    for name, (source, rows) in _splits(data, sources).items():
        kept = Rows(
            captions=[source.captions[row] for row in rows],
            groups=[source.groups[row] for row in rows],
        )
        write_split(folder, name, _pieces(source, rows), source.images_NSSC.shape[1:], kept)
    for path in folder.glob("*.source.npy"):
        path.unlink()


def _read(data: Pictures, role: str, square: Square, path: Path) -> _Source:
    tables = open_tables(getattr(data, role), role, data.root)
    for table in tables:
        for setting in ("image", "caption", "group"):
            if column := getattr(data, setting):
                check_column(table, column, setting)
    reader = _Reader(data)
    shape = (sum(table.rows for table in tables), square.side, square.side, square.channels)
    write_array(path, reader.pieces(tables, square), shape, np.uint8)
    reader.complain(role, shape[0])
    picture_N = np.array(reader.picture_hashes, dtype=np.int64)
    kinds = [kind_of(table.schema.field(data.group).type) for table in tables if data.group]
    images_NSSC = np.load(path, mmap_mode="r")
    return _Source(images_NSSC, picture_N, reader.captions, reader.groups, kinds)


def _check_groups(kinds: dict[str, list[str]], column: str) -> None:
    """Raises DataError where a group is a number in one table and text in another: whether those
    are the same thing would be a guess, and a leak between splits would go unseen.
    """
    different = {kind: name for name, of_tables in kinds.items() for kind in of_tables}
    if len(different) > 1:
        where = " and ".join(f"{kind} in {name}" for kind, name in different.items())
        raise DataError(f"column {column!r} holds {where}; write it alike in all (setting group)")


class _Reader:
    """Goes through tables once and notes every bad row, so that one message names several."""

    def __init__(self, data: Pictures) -> None:
        self.data = data
        self.captions: list[list[str]] = []
        self.groups: list[str] = []
        self.picture_hashes: list[int] = []
        self.bad_rows: list[str] = []

    def pieces(self, tables: list[Table], square: Square) -> Iterator[np.ndarray]:
        """Yields uint8 (n, S, S, C) of all rows in order; the lists grow alongside."""
        columns = [c for c in (self.data.image, self.data.caption, self.data.group) if c]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for table in tables:
                row = 0
                one = partial(decode, folder=table.folder, square=square, named=table.named)
                for batch in table.batches(list(dict.fromkeys(columns))):
                    cells = [values(batch, column) for column in columns]
                    decoded = list(pool.map(one, cells[0]))
                    for picture, *rest in zip(decoded, *cells[1:], strict=True):
                        self._add(f"{table.name}, row {row}", picture, *rest)
                        row += 1
                    yield np.stack([picture.image_SSC for picture in decoded])

    def _add(self, where: str, picture: Decoded, caption: Any, group: Any = "") -> None:
        captions = [caption] if isinstance(caption, str) else caption
        problem = ""
        if picture.problem:
            problem = f"column {self.data.image!r}: {picture.problem}"
        elif wrong := _wrong_captions(captions):
            problem = f"column {self.data.caption!r}: {wrong}"
        elif isinstance(group, Unreadable):
            problem = f"column {self.data.group!r}: {group.reason}"
        elif self.data.group and not group_name(group):
            problem = f"column {self.data.group!r}: no value; every row needs a group"
        if problem:
            self.bad_rows.append(f"{where}, {problem}")
            return
        self.captions.append([caption.strip() for caption in captions])
        self.groups.append(
            group_name(group) if self.data.group else f"picture {picture.picture_hash}"
        )
        self.picture_hashes.append(picture.picture_hash)

    def complain(self, role: str, rows: int) -> None:
        """Raises DataError where there were bad rows."""
        if self.bad_rows:
            count, shown = len(self.bad_rows), self.bad_rows[:_SHOWN]
            more = [f"and {count - _SHOWN} more"] if count > _SHOWN else []
            message = f"{count} of {rows} rows of {role} cannot be used (rows count from 0):"
            raise DataError("\n  ".join([message, *shown, *more]))


def _wrong_captions(captions: object) -> str:
    if captions is None:
        return "no caption"
    if isinstance(captions, Unreadable):
        return captions.reason
    if not isinstance(captions, list):
        return f"a caption is text or a list of texts, not {type(captions).__name__}"
    if not captions:
        return "an empty list of captions"
    for caption in captions:
        if caption is not None and not isinstance(caption, str):
            return f"a caption is text, not {type(caption).__name__}"
        if not caption or is_blank(caption):
            return "an empty caption"
    return ""


def _splits(data: Pictures, sources: dict[str, _Source]) -> dict[str, tuple[_Source, np.ndarray]]:
    """Says which rows of which source each split is made of."""
    train = sources["train"]
    shares = {n: getattr(data, f"{n}_share") for n in ("val", "test") if n not in sources}
    rows = hold_out(train.groups, train.picture_N, shares, data.seed)
    whole = {n: (s, np.arange(len(s.groups))) for n, s in sources.items()}
    return whole | {name: (train, held) for name, held in rows.items()}


def _pieces(source: _Source, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(rows), _PIECE):
        some = rows[start : start + _PIECE]
        yield source.images_NSSC[some], source.picture_N[some]
