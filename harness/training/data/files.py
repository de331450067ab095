"""Files are read here as lines of JSON, and digested once a process, for as long as they stay."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from pydantic import JsonValue

T = TypeVar("T")
P = ParamSpec("P")

_COARSE_NS = 2_000_000_000
"""The coarsest clock of a file system that is allowed for (FAT's, 2 s)."""
_PIECE = 2**24


def once(
    read: Callable[Concatenate[Path, P], T], *, most: int = 10**6, largest: float = math.inf
) -> Callable[Concatenate[Path, P], T]:
    """Remembers what `read` gives of a file until another file or content stands in its place; of
    `most` files, the last ones, of at most `largest` bytes each.

    A file is the same where device, inode, size and both times are; the time of its last change
    of state cannot be set back. One that was changed within two seconds before it was read is read
    again the next time, for a second change may bear the same time (git does so with its index).
    """
    results: dict[tuple[object, ...], T] = {}

    @functools.wraps(read)
    def remembered(path: Path, *args: P.args, **fields: P.kwargs) -> T:
        seen = path.stat()
        state = (os.path.abspath(path), seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns,
                 seen.st_ctime_ns, args, *fields.items())  # fmt: skip
        if state in results:
            return results[state]
        now, result = time.time_ns(), read(path, *args, **fields)
        if now - seen.st_ctime_ns > _COARSE_NS and seen.st_size <= largest:
            results[state] = result
            if len(results) > most:
                del results[next(iter(results))]
        return result

    return remembered


@once
def sha256(path: Path) -> bytes:
    """Digests the content of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@once
def crc32(path: Path) -> int:
    """Sums the content of a file up, to notice what a disk has changed. Raises OSError.

    About 2.5 GiB/s from memory, a third of SHA-256's time.
    """
    total = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            total = zlib.crc32(piece, total)
    return total


def lines_of(content: str) -> Iterator[tuple[int, str]]:
    """Yields number and text of every line that is not blank. Only a line feed ends one: texts in
    JSON may hold other separators as they are, as U+2028.
    """
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            yield number, line


def json_of(text: str, *, fields_once: bool = False) -> JsonValue:
    """Reads JSON. Raises ValueError with the reason, also where it is nested too deep.

    `fields_once`: refuse an object in which a field stands twice, of which the last would count.
    """
    try:
        value: JsonValue = json.loads(text, object_pairs_hook=_once_each if fields_once else None)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error.msg} at character {error.pos})") from None
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None
    return value


def _once_each(fields: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    values = dict(fields)
    if len(values) < len(fields):
        names = [name for name, _ in fields]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice[:80]!r} stands twice; keep one of them")
    return values
