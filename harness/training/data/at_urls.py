"""Data at a URL are copied to this machine here, and read from there: once, until the bucket has
others.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from architectures.frozen import SettingError
from harness.training.data.buckets import URL, Bucket, Seen, cache_folder, is_url, short_name


class Copies:
    """Files of this machine that follow the objects of a bucket, name by name."""

    def __init__(self, bucket: Bucket, root: Path) -> None:
        self.bucket, self.root = bucket, root
        self._file = root.with_name(f"{root.name}.marks.json")
        self._marks: dict[str, list[object]] = {}
        """Name -> mark of the object, and size and time of the file that was made of it."""
        with contextlib.suppress(OSError, ValueError):
            self._marks = dict(json.loads(self._file.read_text()))

    def same(self, name: str, seen: Seen) -> bool:
        """Says whether the file of a name is what the object is."""
        try:
            state = (self.root / name).stat()
        except OSError:
            return False
        return self._marks.get(name) == [seen.mark, state.st_size, state.st_mtime_ns]

    def follow(self, listed: Mapping[str, Seen]) -> None:
        """Brings files up to date with objects as listed. One that is gone since stays away."""
        stale = {name: seen for name, seen in listed.items() if not self.same(name, seen)}
        parts = {name: _part(self.root / name) for name in stale}
        try:
            try:
                self.bucket.get(parts)
            except FileNotFoundError:  # removed since they were listed: the others one by one
                for name, part in parts.items():
                    with contextlib.suppress(FileNotFoundError):
                        self.bucket.get({name: part})
            for name, part in parts.items():
                if part.exists():
                    state = part.stat()
                    part.replace(self.root / name)
                    self._marks[name] = [stale[name].mark, state.st_size, state.st_mtime_ns]
        finally:
            for part in parts.values():
                part.unlink(missing_ok=True)
        if stale:
            part = _part(self._file)
            part.write_text(json.dumps(self._marks))
            part.replace(self._file)


def _part(file: Path) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}.part")


# -- data that lie in a bucket

_followed: dict[Path, Copies] = {}
"""Folder of this machine -> the bucket that it follows."""


def local(where: str) -> str:
    """Returns the path under which a file, a glob or a folder at a URL lies on this machine, copied
    where it is not there or another one by now; a path of this machine as it is.

    Raises `BucketError` where the bucket cannot be used, `SettingError` where it is no URL.
    """
    if not is_url(where):
        return where
    url = URL.sub(r"\1://", where).rstrip("/")
    parts = url.split("/")
    magic = next((place for place, part in enumerate(parts) if glob.has_magic(part)), None)
    copies = _copies("/".join(parts[: len(parts) - 1 if magic is None else magic]))
    rest = url.removeprefix(copies.bucket.url).lstrip("/")
    listed = copies.bucket.list(rest) if magic is None else copies.bucket.matching(rest)
    copies.follow(listed)
    place = copies.root / rest
    before = place.rglob("*") if magic is None else copies.root.glob(rest)
    for file in before:
        if file.is_file() and file.relative_to(copies.root).as_posix() not in listed:
            file.unlink(missing_ok=True)  # the object is gone
    return str(place)


def local_folder(where: str) -> str:
    """Returns the folder that follows one at a URL, into which `bring` copies what is named."""
    if not is_url(where):
        return where
    folder = _copies(where).root
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def bring(folder: Path, names: Iterable[str]) -> None:
    """Copies what a table names, relative to its folder, where that follows a bucket; names that
    lie outside of it, or nowhere, are left to who reads them."""
    if (start := next((root for root in _followed if folder.is_relative_to(root)), None)) is None:
        return
    copies = _followed[start]
    inside = {(folder / name).relative_to(start).as_posix() for name in names if _is_inside(name)}
    listed: dict[str, Seen] = {}
    for above in sorted({name.rpartition("/")[0] for name in inside}):
        listed |= copies.bucket.folder(above)
    copies.follow({name: listed[name] for name in inside & listed.keys()})


def said_by_url(text: str) -> str:
    """Returns a message in which copies are called by the URL that they are of."""
    for root, copies in _followed.items():
        text = text.replace(str(root), copies.bucket.url)
    return text


@contextlib.contextmanager
def by_url(kind: type[SettingError]) -> Iterator[None]:
    """Says errors of a kind by URLs."""
    try:
        yield
    except kind as error:
        raise kind(said_by_url(str(error))) from error


def _is_inside(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.split("/") and "\0" not in name


def _copies(url: str) -> Copies:
    bucket = Bucket(url)
    root = cache_folder() / "data" / short_name(bucket.url)
    if root not in _followed:
        _followed[root] = Copies(bucket, root)
    return _followed[root]
