"""What a published set holds, whatever its files look like, and how its fields are read.

Nothing is downloaded: a converter reads the copy that a user has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.training.data.cache import DataError
from harness.training.data.files import json_of, lines_of
from harness.training.data.identity import hashed
from harness.training.data.sources.cells import shortened

Row = Mapping[str, object]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a picture, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture file, a part of one, or the bytes of one."""

    path: Path | None = None
    box: Box | None = None
    """The part that is meant; None: the whole."""
    content: bytes = b""
    """Where it lies in a table: the encoded picture."""

    @property
    def identity(self) -> object:
        """Equal for equal pictures."""
        return (self.path, self.box, hashed(self.content))


@dataclass(frozen=True, kw_only=True)
class Found:
    """One group of a published set."""

    where: str
    """File and item, for messages."""
    name: str
    pictures: tuple[Picture, ...]
    captions: tuple[str, ...]
    match: tuple[tuple[bool, ...], ...]
    tag: str


@dataclass(frozen=True)
class LeftOut:
    """An item that the set's own rules leave out, and why."""

    why: str


Items = Iterator[Found | LeftOut]

FIRST_RIGHT = ((True, False),)
"""One picture, its right caption and a wrong one."""
_MOST = 2**53
"""Numbers beyond it have no place behind the point, and no pixel or label has one."""
IN_ORDER = ((True, False), (False, True))
"""Two pictures and their captions in the same order."""


class Finder:
    """Finds the picture files of a set below some folders: by their path, else by their name, where
    only one file has it.
    """

    def __init__(self, *folders: Path | None) -> None:
        self.folders = [folder for folder in folders if folder is not None]
        self._by_name: dict[str, list[Path]] | None = None

    def __call__(self, name: str, where: str, *inside: str) -> Path:
        """Returns the file of a path or name, below one of the folders. `where`: what names it, for
        the message. `inside`: folders below those of the set, in which it may lie.

        Raises DataError where there is none, or more than one.
        """
        for folder in self.folders:
            for candidate in (folder / name, *(folder / own / name for own in inside)):
                path = Path(os.path.normpath(candidate))
                if path.is_relative_to(os.path.normpath(folder)) and path.is_file():
                    return path
        several = self._named(Path(name).name)
        if len(several) == 1:
            return several[0]
        places = " and ".join(map(str, self.folders))
        what = f"is there {len(several)} times" if several else "is no file"
        raise DataError(f"{where}: {name!r} {what} in {places}; name its folder by --images")

    def _named(self, name: str) -> list[Path]:
        if self._by_name is None:
            self._by_name = {}
            for folder in self.folders:
                for path in folder.rglob("*"):
                    if path.is_file():
                        self._by_name.setdefault(path.name, []).append(path)
        return list(dict.fromkeys(self._by_name.get(name, [])))


def text(row: Row, field: str, where: str) -> str:
    """Reads a field that holds text. Raises DataError that names file, item and field."""
    value = row.get(field)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and value.strip():
        return value.strip()
    kind = "is not there" if field not in row else f"holds {type(value).__name__}, not a text"
    if isinstance(value, str):
        kind = "is empty"
    raise DataError(f"{where}, field {field!r}: {kind}")


def number(row: Row, field: str, where: str) -> float:
    """Reads a field that holds a number, not infinite and not NaN. Raises DataError as `text`."""
    value = row.get(field)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MOST:
        return value
    raise DataError(
        f"{where}, field {field!r}: {shortened(repr(value))} is no number that can be used"
    )


def rows_of(path: Path) -> Iterator[tuple[str, Row]]:
    """Yields where it stands, and the row, of every object in a JSON list, a JSON object of objects
    (its keys name them) or JSON lines. Raises DataError for any other file.
    """
    for place, value in values_of(path):
        if not isinstance(value, dict):
            raise DataError(f"{place}: {type(value).__name__} where an object should be")
        yield place, value


def values_of(path: Path) -> Iterator[tuple[str, object]]:
    """Yields where it stands, and the value, of every item of a JSON list, object or JSON lines."""
    try:
        content = path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); write it anew") from error
    if path.suffix == ".jsonl":
        for number, line in lines_of(content):
            where = f"{path}, line {number}"
            yield where, _json(line, where)
        return
    whole = _json(content, str(path))
    if isinstance(whole, dict):
        yield from ((f"{path}, item {key!r}", value) for key, value in whole.items())
    elif isinstance(whole, list):
        yield from ((f"{path}, item {place}", value) for place, value in enumerate(whole))
    else:
        raise DataError(f"{path}: {type(whole).__name__} where a list or an object should be")


def _json(text: str, where: str) -> object:
    try:
        return json_of(text)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error


def files_of(source: Path, pattern: str) -> list[Path]:
    """Lists a file, or what matches in a folder. Raises DataError where there is none."""
    if source.is_file():
        return [source]
    if files := sorted(source.glob(pattern)):
        return files
    raise DataError(f"{source} is neither a file nor a folder with {pattern}")


def file_of(source: Path, pattern: str) -> Path:
    """Returns a file, or the one that matches in a folder. Raises DataError for another number."""
    file, *others = files_of(source, pattern)
    if others:
        names = ", ".join(path.name for path in (file, *others))
        raise DataError(f"{source} holds several sets; name one of its files: {names}")
    return file
