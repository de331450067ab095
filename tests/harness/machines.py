"""Machines that share nothing but a bucket: each is a cache folder of its own, in this process."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.outputs import copies


class Machines:
    """Machines are made by name; what is open on one is not open on another."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._monkeypatch = folder, monkeypatch
        self._open: dict[str, dict[Path, copies.WorkingCopy]] = {}

    @contextlib.contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Whatever is done within is done on that machine."""
        with self._monkeypatch.context() as patch:
            patch.setenv("FUSELAB_CACHE", str(self._folder / name))
            patch.setattr(copies, "_open", self._open.setdefault(name, {}))
            patch.setattr("socket.gethostname", lambda: name)
            yield


def in_memory() -> str:
    """Returns the URL of an empty bucket in this process."""
    return f"memory://{uuid.uuid4().hex}/outputs"
