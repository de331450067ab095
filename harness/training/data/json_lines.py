"""Files of one JSON object a line are read here, and lines that cannot be used are named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import JsonValue

from harness.training.data.cache import DataError
from harness.training.data.files import json_of

_SHOWN = 5
"""Bad lines that a message shows; the others are counted."""


def numbered_lines(path: Path, hint: str = "") -> Iterator[tuple[int, str | None]]:
    """Yields number and text of every line that is not blank; None for one that is not UTF-8. Only
    a line feed ends one: texts in JSON may hold other separators as they are, as U+2028.

    Raises DataError where the file cannot be read; `hint`: what to do then.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    yield number, None
                    continue
                if text.strip():
                    yield number, text.rstrip("\r\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}){hint}") from error


def object_of(text: str | None, example: str) -> Mapping[str, JsonValue]:
    """Reads the object of a line. Raises ValueError with the reason; `example`: a field it has."""
    if text is None:
        raise ValueError("not UTF-8; write the file anew")
    value = json_of(text, fields_once=True)
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} where an object with {example!r} should be")
    return value


class BadLines:
    """Counts the bad lines of one file and keeps the first, so that one message names several."""

    def __init__(self, path: Path, what: str) -> None:
        """`what`: the plural of what a line is, for the message."""
        self.path, self.what, self.count = path, what, 0
        self._shown: list[str] = []

    def add(self, problem: str) -> None:
        """Notes a line; the problem begins with its number."""
        self.count += 1
        if len(self._shown) < _SHOWN:
            self._shown.append(problem)

    def complain(self, lines: int) -> None:
        """Raises DataError where a line was bad, and where the file has none."""
        if self.count:
            more = [f"and {self.count - _SHOWN} more"] if self.count > _SHOWN else []
            message = f"{self.path}: {self.count} of {lines} {self.what} cannot be used:"
            raise DataError("\n  ".join([message, *self._shown, *more]))
        if not lines:
            raise DataError(f"{self.path}: no {self.what}")
