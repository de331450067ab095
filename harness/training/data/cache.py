"""Folders built once, whole or not at all, shared by every run and process.

An entry is built in a folder next to its place and renamed when complete, so a killed build
leaves nothing that looks finished. A lock lets a second process wait instead of building twice;
where the file system has no locks both build and the first rename wins. A manifest holds the size
and the sum (CRC-32) of every file: a byte that a disk has changed is noticed when the entry is
opened. That reads all of it once a process, 0.4 s for each GB that lies in memory.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from architectures.frozen import SettingError
from harness.training.data.files import crc32

MANIFEST = "manifest.json"


class DataError(SettingError):
    """Data cannot be used; the message names the file, row and column and what to do."""


def stored(cache: Path, key: str, build: Callable[[Path], None]) -> Path:
    """Opens the finished folder `cache/key`; `build(folder)` fills it where it lacks or is damaged.

    Raises DataError where the disk is full; whatever `build` raises passes through. Neither
    leaves a folder behind.
    """
    entry = cache / key
    if is_whole(entry):
        return entry
    cache.mkdir(parents=True, exist_ok=True)
    with _lock(cache / f".{key}.lock") as alone:
        if not is_whole(entry):  # another process may have built it while this one waited
            if alone:
                for left_by_a_killed_build in cache.glob(f"{key}.building-*"):
                    shutil.rmtree(left_by_a_killed_build, ignore_errors=True)
            _build(entry, build)
    return entry


def write_array(
    path: Path, chunks: Iterable[np.ndarray], shape: tuple[int, ...], dtype: type[np.generic]
) -> None:
    """Writes an .npy file of a known shape in pieces along the first axis.

    Not through a memory map: on a full disk that is a bus error, here an OSError.
    """
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk, dtype=dtype).data)


def _build(entry: Path, build: Callable[[Path], None]) -> None:
    folder = entry.with_name(f"{entry.name}.building-{uuid.uuid4().hex}")
    folder.mkdir()
    try:
        build(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        manifest = {path.relative_to(folder).as_posix(): _seen(path) for path in files}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
        _publish(folder, entry)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"no space left while writing {entry}; free some or choose another cache folder"
            ) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, entry: Path) -> None:
    if entry.exists() and not is_whole(entry):
        damaged = folder.with_name(f"{folder.name}-damaged")
        os.rename(entry, damaged)  # readers that have it open keep their files
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        os.rename(folder, entry)
    except OSError:
        if not is_whole(entry):
            raise


def _seen(path: Path) -> dict[str, int]:
    return {"bytes": path.stat().st_size, "crc32": crc32(path)}


def is_whole(entry: Path) -> bool:
    """Says whether every file of an entry is, byte for byte, what was written."""
    try:
        manifest = json.loads((entry / MANIFEST).read_text())
        return all(_is_as_written(entry / name, seen) for name, seen in manifest.items())
    except (OSError, ValueError, AttributeError):
        return False


def _is_as_written(path: Path, seen: Any) -> bool:
    if isinstance(seen, int):  # the size alone: an entry of before there were sums
        return path.stat().st_size == seen
    return path.stat().st_size == seen.get("bytes") and seen == _seen(path)


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Waits for the lock; False where the file system has none. A killed holder frees it."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            yield False
        else:
            yield True
