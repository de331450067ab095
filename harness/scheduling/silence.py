"""A run that notes nothing any more is said so, and its process is ended where it stays silent."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

from harness.outputs.folder import RunFolder
from harness.outputs.records import Status
from harness.words import duration

HUNG_SECONDS = 1800.0
"""After this long a process that noted nothing is taken to hang: six times what is mentioned, and
longer than any validation should take."""


class Silence:
    """Silence knows which runs were mentioned, and which processes were ended."""

    def __init__(self) -> None:
        self._mentioned: set[str] = set()
        self._ended: set[str] = set()

    def of(self, folder: RunFolder, status: Status) -> str:
        """Returns what is to be said of a run that runs: once of each silence, and once where its
        process was ended, after which it goes on from its checkpoint. Empty: nothing."""
        key, silent = folder.key, status.silence()
        if not silent:
            self._mentioned.discard(key)
            self._ended.discard(key)
            return ""
        if silent > HUNG_SECONDS and key not in self._ended and self._end(folder, status):
            self._ended.add(key)
            return f"silent for {duration(silent)}; its process hangs and is ended"
        if key in self._mentioned:
            return ""
        self._mentioned.add(key)
        return f"silent for {duration(silent)}; its process is stopped, or hangs"

    @staticmethod
    def _end(folder: RunFolder, status: Status) -> bool:
        """Kills the process of a run; says whether it could. Not one of another machine, not this
        one, and none that let go of the run, whose number may be another process's by now."""
        host, _, number = status.process.rpartition(":")
        here = host == socket.gethostname() and number != str(os.getpid())
        if not here or not folder.is_locked():
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(int(number), signal.SIGKILL)
            return True
        return False
