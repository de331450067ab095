"""A bucket is a folder of objects at a URL (S3, GCS, ...), read and written by whole objects. The
only import of fsspec, which knows the kinds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from architectures.frozen import SettingError, path_named

if TYPE_CHECKING:
    import pyarrow.fs

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+):/{1,2}(?=[^/])")
"""How a URL begins; one slash where a path was made of it. A drive has one letter."""
OPTIONS = {"s3": {"config_kwargs": {"connect_timeout": 10, "retries": {"max_attempts": 2}}}}
"""Kind -> what fsspec is told besides what its own configuration and the environment say."""
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between attempts at what a bucket does not do: half a minute away is waited for."""
EXTRAS = {"s3": "fuselab[s3]", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"""Kind -> what has to be installed for it."""

T = TypeVar("T")


class BucketError(OSError):
    """A bucket cannot be used, now or at all; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a listing says of an object."""

    size: int
    """Bytes."""
    mark: str
    """Another one for another content."""
    time: float
    """When it was written, in seconds since 1970 by the bucket's clock."""


def is_url(where: str | Path) -> bool:
    """Says whether something names a bucket, and no file of this machine."""
    return bool(URL.match(str(where)))


def cache_folder() -> Path:
    """Returns where this machine keeps copies of what lies in buckets: `FUSELAB_CACHE`, or
    `fuselab` under the user's cache. Raises `SettingError` where it cannot be made."""
    above = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = path_named(os.environ.get("FUSELAB_CACHE") or f"{above}/fuselab").resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(
            f"{folder} cannot hold copies of what lies in a bucket ({error.strerror}): name a "
            "folder in FUSELAB_CACHE"
        ) from None
    return folder


def short_name(url: str) -> str:
    """Returns a name for what belongs to a URL."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


class Bucket:
    """A bucket is what lies at a URL; names of its objects are relative to that."""

    def __init__(self, url: str | Path) -> None:
        """Makes the way to it; nothing is asked of it yet. Raises `SettingError` where there is no
        library for such a URL."""
        self.url = URL.sub(r"\1://", str(url)).rstrip("/")
        kind = self.url.partition("://")[0]
        import fsspec

        try:
            self.fs, base = fsspec.core.url_to_fs(
                self.url,
                use_listings_cache=False,
                skip_instance_cache=True,
                **OPTIONS.get(kind, {}),
            )
        except ImportError:
            missing = EXTRAS.get(kind, f"what fsspec wants for {kind}://")
            raise SettingError(f"{self.url} needs a library: pip install '{missing}'") from None
        except (ValueError, TypeError) as error:
            raise SettingError(f"{self.url} is no URL that can be used ({error})") from None
        self.base = str(base).rstrip("/")

    def list(self, name: str = "", *, patient: bool = True) -> dict[str, Seen]:
        """Returns all objects below a name, or of that name. Raises `BucketError`."""
        place = self.place(name)
        return self._listed(self._done(lambda: self.fs.find(place, detail=True), patient))

    def matching(self, pattern: str) -> dict[str, Seen]:
        """Returns the objects whose name a glob matches."""
        place = self.place(pattern)
        infos = self._done(lambda: self.fs.glob(place, detail=True))
        return self._listed({path: its for path, its in infos.items() if its["type"] == "file"})

    def folder(self, name: str) -> dict[str, Seen]:
        """Returns the objects right below a name, without those of folders in it; nothing where it
        is not there."""
        place = self.place(name)
        try:
            infos = self._done(lambda: self.fs.ls(place, detail=True), True, FileNotFoundError)
        except FileNotFoundError:
            return {}
        return self._listed({info["name"]: info for info in infos if info["type"] == "file"})

    def has(self, name: str, *, patient: bool = False) -> bool:
        """Says whether there is an object of that name."""
        try:
            self._done(lambda: self.fs.info(self.place(name)), patient, FileNotFoundError)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str) -> bytes:
        """Returns an object's content. Raises FileNotFoundError and `BucketError`."""
        return self._done(lambda: self.fs.cat_file(self.place(name)), True, FileNotFoundError)

    def write(self, name: str, content: bytes, *, patient: bool = True) -> None:
        """Writes an object, whole or not at all."""
        self._done(lambda: self.fs.pipe_file(self.place(name), content), patient)

    def get(self, files: Mapping[str, Path]) -> None:
        """Copies objects to files: name -> file. Raises FileNotFoundError where one is gone."""
        for file in files.values():
            file.parent.mkdir(parents=True, exist_ok=True)
        places = [self.place(name) for name in files]
        targets = [str(file) for file in files.values()]
        if files:
            self._done(lambda: self.fs.get(places, targets), True, FileNotFoundError)

    def put(self, name: str, file: Path, *, patient: bool = True) -> None:
        """Copies a file to an object, whole or not at all."""
        self._done(lambda: self.fs.put_file(str(file), self.place(name)), patient)

    def remove(self, name: str) -> None:
        """Removes an object; nothing where there is none."""
        with contextlib.suppress(FileNotFoundError):
            self._done(lambda: self.fs.rm_file(self.place(name)), True, FileNotFoundError)

    def remove_all(self, name: str) -> None:
        """Removes all objects below a name."""
        for each in self.list(name):
            self.remove(each)

    def arrow_filesystem(self) -> pyarrow.fs.FileSystem:
        """Returns the bucket's kind as arrow, and so Ray Train, reads and writes it."""
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        return PyFileSystem(FSSpecHandler(self.fs))

    def _listed(self, infos: Mapping[str, Mapping[str, object]]) -> dict[str, Seen]:
        prefix = f"{self.base}/"
        names = {path.removeprefix(prefix): info for path, info in infos.items()}
        # Others cannot be names of files: the mark of a folder, or a way out of it.
        return {name: _seen(info) for name, info in names.items() if _is_file(name)}

    def place(self, name: str) -> str:
        """Returns what fsspec calls an object."""
        return f"{self.base}/{name}" if name else self.base

    def _done(self, call: Callable[[], T], patient: bool = True, *passed: type[Exception]) -> T:
        """Does what a call says, again where it failed and time may help. Raises what is `passed`,
        else `BucketError`."""
        for wait in (*(WAITS if patient else ()), None):
            try:
                return call()
            except passed:
                raise
            except Exception as error:  # every library raises its own
                final = isinstance(error, FileNotFoundError | PermissionError) or _no_key(error)
                if wait is None or final:
                    raise self._error(error) from error
                time.sleep(wait)
        raise AssertionError

    def _error(self, error: Exception) -> BucketError:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, FileNotFoundError):
            remedy = "make the bucket, or mend its name"
        elif isinstance(error, PermissionError) or _no_key(error):
            remedy = "give credentials that may read and write there"
            if self.url.startswith("s3:"):
                remedy += ", as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        else:
            remedy = "look at the network"
            if self.url.startswith("s3:"):
                remedy += " and the endpoint, as AWS_ENDPOINT_URL"
        return BucketError(f"{self.url} cannot be used ({reason}): {remedy}")


def _is_file(name: str) -> bool:
    return not {"", ".", ".."} & {*name.split("/")} and "\0" not in name


def _no_key(error: Exception) -> bool:
    return "redential" in f"{type(error).__name__} {error}"


def _seen(info: Mapping[str, object]) -> Seen:
    """Reads an entry of a listing, which every kind of bucket writes in its own words."""
    marks = [info.get(name) for name in ("ETag", "etag", "md5Hash", "generation", "content_md5")]
    times = [info.get(n) for n in ("LastModified", "last_modified", "updated", "mtime", "created")]
    written = next((each for each in times if each is not None), 0.0)
    mark = next((each for each in marks if each), written)
    size = info.get("size")
    return Seen(size if isinstance(size, int) else 0, str(mark), _seconds(written))


def _seconds(written: object) -> float:
    if isinstance(written, str):
        written = datetime.datetime.fromisoformat(written)
    if isinstance(written, datetime.datetime):
        return written.timestamp()
    return float(written) if isinstance(written, int | float) else 0.0
