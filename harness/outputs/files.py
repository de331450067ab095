"""Writes files under the outputs folder whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from architectures.frozen import SettingError, path_named
from harness.outputs.copies import copy_of, sent
from harness.outputs.leases import Locked
from harness.training.data.buckets import BucketError

State = Literal["waiting", "running", "done", "diverged", "out_of_memory", "failed", "interrupted"]
FINISHED: frozenset[State] = frozenset({"done"})
RETRIED: frozenset[State] = frozenset({"failed", "diverged", "out_of_memory"})
"""States that only `--retry-failed` starts again."""
FULL = "no space is left on the disk: make room, then give the same command again"
"""The message of what ended for want of it: interrupted, not failed, and nothing is lost."""


def outside(error: BaseException) -> str:
    """Says what ended something that did not fail: the disk, or a share of it, is full, or the
    bucket of the outputs is out of reach; empty: it failed. Also where that stands behind another
    error: torch says something of its own."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT):
            return FULL
        if isinstance(link, BucketError):
            return str(link)
        link = link.__cause__ or link.__context__
    return ""


class TrackingError(RuntimeError):
    """The tracking store cannot be used. Run folders are untouched: publish again later."""


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Gives a temporary file to write; it becomes `path` when the block ends well.

    `durable` waits for the disk, as a checkpoint must before an older one is given up; progress
    that is noted every second need not survive a power cut.

    Readers see the old content or the whole new one, never a part. Where writing fails, for
    instance because no space is left, the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        if durable:
            with part.open("rb") as file:
                os.fsync(file.fileno())
        part.replace(path)
        sent(path, durable=durable)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(path: Path, busy: str) -> Iterator[None]:
    """Holds a lock file. The kernel lets go when the process ends, however it ends; of outputs at a
    URL the folder it is in is held among all machines (`leases`). Raises `Locked` where another
    process has it, which begins with `busy`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if copy := copy_of(path):
        with copy.lease(copy.name(path.parent), busy):
            yield
        return
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(f"{busy} by another process") from None
        yield


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Gives a hidden folder to fill; it becomes `folder` when the block ends well, else it goes."""
    folder = free(folder)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        yield part
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def free(folder: Path) -> Path:
    """Returns a folder that is to be made, as an absolute path. Raises `SettingError` where
    something stands there."""
    folder = path_named(folder).resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "is not empty" if folder.is_dir() else "is a file"
        raise SettingError(f"{folder} {what}; name a new folder")
    return folder


def write_json(path: Path, value: JsonValue, indent: int | None = 1) -> None:
    """Writes JSON atomically; `indent`: spaces by which it is indented, None: all in one line."""
    with atomic_file(path) as part:
        part.write_text(json.dumps(value, indent=indent, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes words that nobody reads but people."""
    path.write_text(text)
    sent(path)


def read_json(path: Path) -> dict[str, JsonValue]:
    """Returns the object in a JSON file; empty where there is no such file. Raises ValueError where
    the file holds something else."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds {type(value).__name__}, not a record")
    return value
