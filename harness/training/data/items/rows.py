"""What a folder's files list, whatever they look like, before any picture is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness.training.data.scenes.truth import Box


class Row(NamedTuple):
    """An item as its line says it, whatever the task."""

    where: str
    """Names it within its file, as `line 7`."""
    images: tuple[str, ...] = ()
    """Paths from the folder."""
    text: str = ""
    label: str = ""
    answers: tuple[tuple[str, float], ...] = ()
    box: Box | None = None
    """In pixels of the picture."""
    proposals: tuple[Box, ...] = ()
    """In pixels of the picture."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The items of one file, or of one folder of classes."""

    path: Path
    """That file or folder."""
    rows: list[Row]
    pictures: str = ""
    """Where in a line pictures stand, for messages: `field 'image'`; empty: a row is a picture."""
    label: str
    """Where in it labels stand, for messages: `field 'label'`."""
