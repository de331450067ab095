"""Image-caption rows in a JSON list of objects, as ALBEF's: `{"image": "a.jpg", "caption": ...}`,
the caption a text or a list of texts, with any other fields (`image_id`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from pydantic import JsonValue

from harness.training.data.cache import DataError
from harness.training.data.files import json_of
from harness.training.data.sources.table import ROWS_AT_ONCE, Table

Row = Mapping[str, JsonValue]


def json_table(path: Path, role: str) -> Table:
    """Opens one file. Raises `DataError` where it is no list of objects, and, once a field is read,
    where that holds values of several kinds.
    """
    rows = _rows(path, role)
    names = dict.fromkeys(itertools.chain.from_iterable(rows))
    kinds = {name: _kind([row.get(name) for row in rows]) for name in names}
    fields = [pa.field(name, kind or pa.null()) for name, kind in kinds.items()]

    def batches(columns: list[str]) -> Iterator[pa.RecordBatch]:
        for name in columns:
            if kinds[name] is None:
                raise DataError(f"{role}: {path}, {_unlike(rows, name)}")
        schema = pa.schema([pa.field(name, kinds[name]) for name in columns])
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            cells = [_alike([row.get(name) for row in some], schema.field(name).type)
                     for name in columns]  # fmt: skip
            yield pa.record_batch(cells, schema=schema)

    return Table(
        name=str(path),
        folder=path.parent,
        rows=len(rows),
        schema=pa.schema(fields),
        batches=batches,
    )


def _rows(path: Path, role: str) -> list[Row]:
    try:
        value = json_of(path.read_text("utf-8-sig"), fields_once=True)
    except OSError as error:
        raise DataError(f"{role}: {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{role}: {path} is not UTF-8 (byte {error.start}); write it anew"
        ) from error
    except ValueError as error:
        raise DataError(f"{role}: {path}: {error}") from error
    if not isinstance(value, list):
        raise DataError(f"{role}: {path}: {type(value).__name__} where a list of rows should be")
    rows: list[Row] = []
    for place, row in enumerate(value):
        if not isinstance(row, dict):
            raise DataError(
                f"{role}: {path}, row {place}: {type(row).__name__} where an object should be"
            )
        rows.append(row)
    return rows


def _kind(cells: Sequence[JsonValue]) -> pa.DataType | None:
    """Says what a field holds; None: values of several kinds. A text beside lists is a list of
    one."""
    listed = any(isinstance(cell, list) for cell in cells)
    try:
        return pa.array([_in_list(cell) for cell in cells] if listed else cells).type
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None


def _alike(cells: Sequence[JsonValue], kind: pa.DataType) -> pa.Array:
    return pa.array([_in_list(cell) for cell in cells] if pa.types.is_list(kind) else cells, kind)


def _in_list(cell: JsonValue) -> JsonValue:
    return cell if isinstance(cell, list) or cell is None else [cell]


def _unlike(rows: Sequence[Row], name: str) -> str:
    """Names the first row whose value is of another kind than those before it."""
    cells = [row.get(name) for row in rows]
    first = next(end for end in range(1, len(cells) + 1) if _kind(cells[:end]) is None)
    where = f"row {first - 1}, field {name!r}"
    if _kind([cells[first - 1]]) is None:
        return f"{where}: text that is no UTF-8, too large a number, or a list of several kinds"
    what = type(cells[first - 1]).__name__
    return f"{where}: {what} where the rows before hold another kind; write them alike"
