"""Outputs at a URL: each process works in a folder of its own that follows the bucket.

What is written whole goes to the bucket at once, in the same order (`files.atomic_file`), so that
what a kill leaves there is what it leaves in a folder: a status comes after all that it speaks of.
What lies in the bucket is the truth: a file of a working copy that is not what the bucket has is
fetched again, or goes. Checkpoints, weights and predictions are fetched where they are read. In an
ordinary outputs folder every function here does nothing but what it would do without a bucket.

CACHE/outputs/<digest of the URL>/   CACHE: see `buckets.cache_folder`
  0/, 1/, ...         working copies: a process takes the first that no other one has
  0.lock              held by that process, with its token
  shared/             decoded data, warm starts, the MLflow store: for all processes
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

from architectures.frozen import path_named
from harness.outputs.leases import Leases
from harness.training.data.at_urls import Copies
from harness.training.data.buckets import (
    Bucket,
    BucketError,
    Seen,
    cache_folder,
    is_url,
    short_name,
)

RECORDS = ("runs", "studies", "budgets")
"""Folders that every process wants to know of."""
PAGES = ("reports", "looks")
"""Folders that are sent, and fetched only where they are asked for."""
SHARED = ("cache", "warm_start")
"""Folders that all processes of a machine have in common."""
HEAVY = frozenset({"checkpoint.pt", "weights.pt"})
NOTE_SECONDS = 5.0
"""Least time between two notes of a run's progress in the bucket."""

_open: dict[Path, WorkingCopy] = {}


def opened(outputs: Path | str, *, pull: bool = True) -> Path:
    """Returns the outputs folder of a path or URL; at a URL that is the working copy of this
    process. `pull`: brings its records up to date.

    Raises `SettingError` and `BucketError` where the URL cannot be used.
    """
    if not is_url(outputs):
        return path_named(outputs).resolve()
    bucket = Bucket(outputs)
    copy = next((each for each in _open.values() if each.bucket.url == bucket.url), None)
    if copy is None:
        bucket.list("studies", patient=False)  # says at once what is wrong
        copy = WorkingCopy(bucket)
        _open[copy.root] = copy
    if pull:
        copy.pull(*RECORDS)
    return copy.root


def copy_of(path: Path) -> WorkingCopy | None:
    """Returns the working copy that a path lies in, if it does."""
    for root, copy in _open.items():
        if path.is_relative_to(root):
            return copy
    return None


def place_of(outputs: Path) -> Path | str:
    """Says where outputs lie for any machine: a working copy's URL, or the folder itself."""
    copy = copy_of(outputs)
    return copy.bucket.url if copy else outputs


def shown(path: Path) -> str:
    """Returns a path as a user knows it: in a working copy, the URL."""
    copy = copy_of(path)
    name = copy.name(path) if copy else ""
    return f"{copy.bucket.url}/{name}".removesuffix("/.") if copy else str(path)


def machine_folder(outputs: Path) -> Path:
    """Says where what belongs to this machine lies, as the MLflow store of a working copy."""
    copy = copy_of(outputs)
    return copy.shared if copy else outputs


def there(path: Path) -> bool:
    """Says whether a file is there, or in the bucket."""
    copy = copy_of(path)
    return path.exists() or bool(copy and copy.name(path) in copy.listed)


def fetched(path: Path) -> Path:
    """Returns a file, fetched from the bucket where it is only there."""
    copy = copy_of(path)
    if copy and not path.exists() and copy.name(path) in copy.listed:
        copy.fetch(copy.name(path))
    return path


def fetched_folder(path: Path) -> None:
    """Makes a folder all that the bucket has of it, heavy files too."""
    if copy := copy_of(path):
        copy.pull(copy.name(path), whole=True, held=True)


def refreshed(*paths: Path, every: float = 0.0) -> None:
    """Brings records below some folders up to date, where that was longer ago than so many
    seconds; below an outputs folder, all."""
    for path in paths:
        if copy := copy_of(path):
            names = RECORDS if path == copy.root else (copy.name(path),)
            copy.pull(*(name for name in names if copy.age(name) >= every))


def sent(path: Path, *, durable: bool = True) -> None:
    """Puts a file into the bucket. `durable`: also where it notes the progress of a run, which else
    is put there now and then."""
    if copy := copy_of(path):
        copy.send(copy.name(path), durable)


def sent_folder(path: Path) -> None:
    """Makes what the bucket has of a folder all of it, and nothing else."""
    if copy := copy_of(path):
        names = [copy.name(file) for file in sorted(path.rglob("*")) if file.is_file()]
        for name in names:
            copy.send(name)
        for name in copy.bucket.list(copy.name(path)).keys() - {*names}:
            copy.remove(name)


def removed(path: Path) -> int:
    """Removes a file, also from the bucket; returns its bytes, 0 where there is none."""
    size = path.lstat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    copy = copy_of(path)
    return copy.remove(copy.name(path)) or size if copy else size


class WorkingCopy:
    """A working copy is the outputs folder of one process, which follows a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket, self.token = bucket, uuid.uuid4().hex
        self.home = cache_folder() / "outputs" / short_name(bucket.url)
        self.shared = self.home / "shared"
        self.shared.mkdir(parents=True, exist_ok=True)
        self.root, self._lock = _free(self.home, self.token)
        for name in SHARED:
            (self.shared / name).mkdir(exist_ok=True)
            with contextlib.suppress(FileExistsError):
                (self.root / name).symlink_to(self.shared / name)
        self.listed: dict[str, Seen] = {}
        """Name -> what the bucket has, as far as it was looked at."""
        self._copies = Copies(bucket, self.root)
        self._pulled: dict[str, float] = {}
        self._noted: dict[str, float] = {}
        self._turn = threading.RLock()
        about = (self.root.with_suffix(".lock"), self.token)
        self.leases = Leases(bucket, *about, beside=self._look_for_stop)

    def close(self) -> None:
        """Lets another process have this copy, as the end of this process does."""
        os.close(self._lock)

    def name(self, path: Path) -> str:
        """Returns the name of a file's object."""
        return path.relative_to(self.root).as_posix()

    def age(self, name: str) -> float:
        """Returns seconds since a folder was brought up to date."""
        return time.monotonic() - self._pulled.get(name, -1e9)

    def pull(self, *folders: str, whole: bool = False, held: bool = False) -> None:
        """Makes folders what the bucket has of them, but for heavy files, unless `whole`. What this
        process holds and writes is left as it is, unless `held`."""
        with self._turn:
            for folder in folders:
                listed = self.bucket.list(folder)
                listed = {n: s for n, s in listed.items() if _goes_along(n, PAGES)}
                own = set() if held else {n for n in self._files(folder) if self.leases.holds(n)}
                self._forget(folder, listed, own)
                self.listed |= listed
                wanted = {n: s for n, s in listed.items() if whole or not _is_heavy(n)}
                if not held:
                    wanted = {n: s for n, s in wanted.items() if not self.leases.holds(n)}
                self._copies.follow(wanted)
                self._pulled[folder] = time.monotonic()

    def _files(self, folder: str) -> list[str]:
        names = [self.name(file) for file in (self.root / folder).rglob("*") if file.is_file()]
        return [name for name in names if _goes_along(name, PAGES)]

    def _forget(self, folder: str, listed: Mapping[str, Seen], but: Set[str]) -> None:
        """Removes files that the bucket does not have, and heavy ones that are others there."""
        for name in [n for n in self.listed if n == folder or n.startswith(f"{folder}/")]:
            if name not in listed:
                del self.listed[name]
        for name in set(self._files(folder)) - but:
            seen = listed.get(name)
            if seen is None or (_is_heavy(name) and not self._copies.same(name, seen)):
                (self.root / name).unlink(missing_ok=True)

    def fetch(self, name: str) -> None:
        with self._turn:
            self._copies.follow(self.bucket.list(name))

    def send(self, name: str, durable: bool = True) -> None:
        """Puts a file into the bucket. Raises `Locked` where it belongs to a run that another
        process has taken over."""
        now = time.monotonic()
        if not _goes_along(name, PAGES):
            return
        progress = not durable and name.endswith("/status.json")
        if progress and now - self._noted.get(name, -1e9) < NOTE_SECONDS:
            return
        self._noted[name] = now
        file = self.root / name
        with contextlib.suppress(*((BucketError,) if progress else ())):  # the next one will do
            self.leases.check(name, patient=not progress)
            self.bucket.put(name, file, patient=not progress)
        with self._turn:
            self.listed[name] = Seen(file.stat().st_size, "", time.time())

    def remove(self, name: str) -> int:
        if not _goes_along(name, PAGES):
            return 0
        self.leases.check(name)
        self.bucket.remove(name)
        with self._turn:
            seen = self.listed.pop(name, None)
        return seen.size if seen else 0

    @contextlib.contextmanager
    def lease(self, folder: str, busy: str) -> Iterator[None]:
        """Holds a folder against all other processes of all machines, its records up to date.
        Raises `Locked` where another one has it, which begins with `busy`."""
        with self.leases.held(folder, busy):
            self.pull(folder, held=True)
            try:
                yield
            finally:
                for name in self._files(folder):
                    if _is_heavy(name):  # the bucket has it: disks of nodes do not fill
                        (self.root / name).unlink(missing_ok=True)

    def _look_for_stop(self, folder: str) -> None:
        """Brings the wish that a run should stop, which another machine may have."""
        if folder.startswith("runs/") and self.bucket.has(f"{folder}/stop"):
            (self.root / folder / "stop").touch()


def _free(home: Path, token: str) -> tuple[Path, int]:
    """Takes the first working copy that no process has, until this one ends; returns its folder,
    and the file descriptor of its lock."""
    for number in itertools.count():
        lock = os.open(home / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        os.truncate(lock, 0)
        os.write(lock, token.encode())
        root = home / str(number)
        root.mkdir(exist_ok=True)
        return root, lock
    raise AssertionError


def _goes_along(name: str, more: tuple[str, ...] = ()) -> bool:
    """Says whether a file has its object: all but hidden ones and locks."""
    parts = name.split("/")
    hidden = any(part.startswith(".") for part in parts)
    return parts[0] in (*RECORDS, *more) and not hidden and parts[-1] != "lock"


def _is_heavy(name: str) -> bool:
    return name.rpartition("/")[2] in HEAVY or name.endswith(".npz")
