"""Runs one at a time in this process, without Ray."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Collection, Hashable
from pathlib import Path

from harness.outputs.files import State
from harness.training.settings.spec import RunSpec

Work = Callable[[RunSpec, Path], State]
"""Does one whole run in this process: `harness.runs.run.execute`, or a stand-in for it."""


def work_of(given: Work | None) -> Work:
    if given:
        return given
    from harness.runs.run import execute  # loads torch: only where runs are done

    return execute


class Here:
    """This process, one run at a time, in a thread beside the one that watches."""

    def __init__(self, outputs: Path, work: Work | None) -> None:
        self._outputs, self._work = outputs, work_of(work)

    def slots(self, spec: RunSpec) -> int:
        return 1

    def start(self, spec: RunSpec, *, fresh: bool) -> concurrent.futures.Future[State]:
        future: concurrent.futures.Future[State] = concurrent.futures.Future()

        def run() -> None:
            try:
                future.set_result(self._work(spec, self._outputs))
            except BaseException as error:  # raised again where the answer is asked for
                future.set_exception(error)

        # A daemon: a second Ctrl-C need not wait for it.
        threading.Thread(target=run, daemon=True).start()
        return future

    def ended(self, handles: Collection[Hashable], seconds: float) -> list[Hashable]:
        started = [handle for handle in handles if isinstance(handle, concurrent.futures.Future)]
        return list(concurrent.futures.wait(started, seconds, "FIRST_COMPLETED").done)

    def answer(self, handle: Hashable) -> State | None:
        assert isinstance(handle, concurrent.futures.Future)
        return handle.result()
