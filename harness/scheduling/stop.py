"""Ctrl-C: the first asks for checkpoints and waits, the second leaves at once."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Self

STOP_SECONDS = 60.0
"""How long the first Ctrl-C waits for checkpoints."""


class Stop:
    """Catches Ctrl-C and SIGTERM while it is entered, in the main thread."""

    asked = 0
    """Number of the first signal; 0: none came."""

    def __enter__(self) -> Self:
        self._old = {}
        if threading.current_thread() is threading.main_thread():
            caught = (signal.SIGINT, signal.SIGTERM)
            self._old = {number: signal.signal(number, self._handle) for number in caught}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise SystemExit(128 + number)
        self.asked, self._until = number, time.monotonic() + STOP_SECONDS

    def overdue(self) -> bool:
        return bool(self.asked) and time.monotonic() > self._until
