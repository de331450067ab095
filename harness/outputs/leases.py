"""Leases say which process of all machines holds a folder of a bucket.

Who wants a folder puts a claim there, under `leases/`, and then lists the claims: with another one
that lives it takes its own back and has lost. Of two at once whoever lists later sees the other, so
that never both hold, on any bucket whose listing shows what was written; who both lost try again at
different moments. A holder renews its claim; one that was not renewed for `LEASE_SECONDS`, by the
bucket's own clock, is dead, and at once where its process was of this machine and has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.training.data.buckets import Bucket, BucketError, Seen

LEASE_SECONDS = 60.0
"""How long a claim that nobody renews still holds."""
BEAT_SECONDS = 10.0
"""How often a claim is renewed."""
ATTEMPTS = 3
"""How often a claim is put where another one is there, for two that came at once."""


class Locked(RuntimeError):
    """Locked says that another process trains this run right now."""


class Leases:
    """Leases are what one process holds of a bucket."""

    def __init__(
        self, bucket: Bucket, lock_file: Path, token: str, beside: Callable[[str], object]
    ) -> None:
        """`lock_file`: held by this process, with its token. `beside`: done for every folder that
        is held, each time its claim is renewed."""
        self._bucket, self._token, self._beside = bucket, token, beside
        about = {"host": socket.gethostname(), "lock": str(lock_file), "token": token}
        self._about = json.dumps(about).encode()
        self._renewed: dict[str, float] = {}
        """Folder that is held -> when its claim was renewed last."""
        self._lost: set[str] = set()
        self._turn = threading.RLock()
        self._beating = False

    @contextlib.contextmanager
    def held(self, folder: str, busy: str) -> Iterator[None]:
        """Holds a folder. Raises `Locked` where another process does, which begins with `busy`."""
        self._take(folder, busy)
        try:
            yield
        finally:
            with self._turn:  # no beat may put the claim there again
                self._renewed.pop(folder, None)
                self._lost.discard(folder)
                with contextlib.suppress(BucketError):  # it then ends by itself
                    self._bucket.remove(self._claim(folder))

    @contextlib.contextmanager
    def waited(self, folder: str, busy: str) -> Iterator[None]:
        """Holds a folder, after whoever holds it now."""
        while True:
            with contextlib.suppress(Locked), contextlib.ExitStack() as stack:
                stack.enter_context(self.held(folder, busy))
                held = stack.pop_all()
                break
            time.sleep(BEAT_SECONDS / 2)
        with held:
            yield

    def holds(self, name: str) -> bool:
        """Says whether this process holds the folder that an object lies in."""
        return self._holder(name) is not None

    def is_held(self, folder: str) -> bool:
        """Says whether any process holds a folder."""
        if folder in self._renewed:
            return True
        claims = self._bucket.list(f"leases/{folder}")
        return any(self._lives(name, seen, time.time()) for name, seen in claims.items())

    def check(self, name: str, *, patient: bool = True) -> None:
        """Raises `Locked` where an object lies in a folder that this process held until another one
        took it over, because nothing was heard for too long."""
        folder = self._holder(name)
        if folder is None:
            return
        if time.monotonic() - self._renewed.get(folder, 0.0) > LEASE_SECONDS / 2:
            self._renew(folder, patient=patient)
        if folder in self._lost:
            raise Locked(f"{folder} was taken over by another process")

    def _holder(self, name: str) -> str | None:
        held = [*self._renewed]
        return next((f for f in held if name == f or name.startswith(f"{f}/")), None)

    def _claim(self, folder: str) -> str:
        return f"leases/{folder}/{self._token}"

    def _take(self, folder: str, busy: str) -> None:
        own = self._claim(folder)
        with self._turn:
            if folder in self._renewed:
                raise Locked(f"{busy} by this process")
            self._renewed[folder] = time.monotonic()
        try:
            for attempt in range(ATTEMPTS):
                time.sleep(random.random() * attempt)
                self._bucket.write(own, self._about)
                claims = self._bucket.list(f"leases/{folder}")
                now = claims.pop(own, Seen(0, "", time.time())).time
                if not any(self._lives(name, seen, now) for name, seen in claims.items()):
                    for dead in claims:
                        self._bucket.remove(dead)
                    self._begin_to_beat()
                    return
                self._bucket.remove(own)
            raise Locked(f"{busy} by another process")
        except BaseException:
            with self._turn:
                self._renewed.pop(folder, None)
            raise

    def _lives(self, claim: str, seen: Seen, now: float) -> bool:
        """Says whether the process of a claim is alive, as far as can be known from here."""
        if now - seen.time > LEASE_SECONDS:
            return False
        try:
            about = json.loads(self._bucket.read(claim))
            return about["host"] != socket.gethostname() or _is_taken(about["lock"], about["token"])
        except FileNotFoundError:
            return False
        except (ValueError, KeyError, TypeError):
            return True

    def _begin_to_beat(self) -> None:
        if not self._beating:
            self._beating = True
            threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            for folder in [*self._renewed]:
                with contextlib.suppress(BucketError):  # tried again at the next beat
                    self._renew(folder)
                    self._beside(folder)

    def _renew(self, folder: str, *, patient: bool = False) -> None:
        """Renews a claim; one that is gone was taken over."""
        with self._turn:
            if folder not in self._renewed:
                return
            begun, claim = time.monotonic(), self._claim(folder)
            if self._bucket.has(claim, patient=patient):
                self._bucket.write(claim, self._about, patient=patient)
                self._renewed[folder] = begun
            else:
                self._lost.add(folder)


def _is_taken(lock_file: str, token: str) -> bool:
    """Says whether the process of this token still holds its lock file; true where that is on
    another machine of the same name."""
    try:
        with Path(lock_file).open("r") as file:
            if file.read() != token:
                return False
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return True
    return False
