"""Cells of a table are read here as plain values, and say which file or thing they name."""

from __future__ import annotations

import math
import os
import re
import stat
import unicodedata
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

LARGEST_FILE = 2**29
"""Bytes of the largest picture file, 512 MiB."""

_BASE64 = re.compile(r"data:image/|/9j/|iVBORw0KGgo|R0lGOD|UklGR")
"""How base64 of a picture begins: a data address, JPEG, PNG, GIF, WebP."""

_SILENT = "ZCM"
"""Unicode's categories of what is no word by itself: separators, controls, marks."""

_ROOT = "name the folder of the pictures in data.root"


class Unreadable(NamedTuple):
    """Text in a cell that is no text, and why."""

    reason: str


def values(batch: pa.RecordBatch, column: str) -> list[Any]:
    """Reads a column as Python values; `Unreadable` where a text is not UTF-8."""
    array = batch.column(column)
    try:
        return array.to_pylist()
    except UnicodeDecodeError:
        return [_value(cell) for cell in array]


def _value(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        return Unreadable(
            f"text that is not UTF-8 (byte 0x{byte:02x} at place {error.start}); write the table "
            "anew, its texts decoded from what they are in (Latin-1?)"
        )


def path_text(cell: object) -> str | None:
    """Says which file an image cell names; None where it holds bytes or nothing."""
    if isinstance(cell, dict):
        cell = cell.get("path") if cell.get("bytes") is None else None
    return cell if isinstance(cell, str) and cell else None


def picture_file(text: str, folder: Path, *, named: bool, hint: str = _ROOT) -> Path:
    """Finds the file that a cell names: a regular one below `folder`, where relative paths start.

    Links are followed before that is asked, but not where the study itself has `named` the folder.
    Raises `ValueError` with the reason; `hint`: what to do with one that lies outside.
    """
    if _BASE64.match(text) and not (folder / text[:200]).is_file():
        raise ValueError(
            f"a text that looks like base64, {shortened(text, 40)!r}; store the bytes it stands for"
        )
    try:
        start = Path(os.path.normpath(folder.absolute())) if named else folder.resolve()
        joined = start / text
        path = Path(os.path.normpath(joined)) if named else joined.resolve()
        if not path.is_relative_to(start):
            raise ValueError(f"{shortened(text)!r} lies outside {start}; {hint}")
        state = path.stat()
    except OSError as error:
        raise ValueError(f"{shortened(text)!r}: {error.strerror or error}") from None
    except RuntimeError:
        raise ValueError(f"{shortened(text)!r}: a link that leads to itself") from None
    if not stat.S_ISREG(state.st_mode):
        raise ValueError(f"{shortened(text)!r} is not a regular file")
    if state.st_size > LARGEST_FILE:
        raise ValueError(f"{shortened(text)!r} has more than {LARGEST_FILE:,} bytes")
    return path


def is_blank(text: str) -> bool:
    """Says whether a text has no word: separators, controls and marks alone, or nothing."""
    return all(unicodedata.category(letter)[0] in _SILENT for letter in text)


def group_name(cell: object) -> str:
    """Names the group of a cell, equally for equal values; empty where it holds no value.

    Numbers are equal by value, whether whole, with a point or decimal: 1 is 1.0. NaN is no value.
    """
    plain = _plain(cell)
    return "" if plain is None else f"group {plain}"


def _plain(cell: object) -> Any:
    if isinstance(cell, list):
        items = [_plain(item) for item in cell]
        return None if None in items else items
    if isinstance(cell, dict):
        fields = {name: _plain(value) for name, value in cell.items()}
        return None if None in fields.values() else fields
    if isinstance(cell, float | Decimal):
        if math.isnan(cell):
            return None
        if math.isfinite(cell) and cell == int(cell):
            return int(cell)
        return cell.normalize() if isinstance(cell, Decimal) else cell
    return cell


def kind_of(kind: pa.DataType) -> str:
    """Says in a word what values of a type are, for telling numbers from text."""
    if pa.types.is_dictionary(kind):
        return kind_of(kind.value_type)
    if pa.types.is_boolean(kind):
        return "true or false"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "numbers"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if _is_bytes(kind):
        return "bytes"
    return str(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def shortened(text: str, length: int = 80) -> str:
    """Cuts a text that is too long for a message, and says how long it is."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text):,} characters)"
