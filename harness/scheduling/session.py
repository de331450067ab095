"""One command's worth of runs: the queue, what is running, and what became of the rest.

It knows a pool that runs are given to, not what the pool is made of (`schedule.py` does). The
queue stays here and the pool gets no more than fits, so that stopping has nothing to cancel: the
first Ctrl-C starts nothing new and asks what runs for a checkpoint, the second leaves at once.
"""

from __future__ import annotations

import collections
import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from harness.outputs.copies import refreshed, removed
from harness.outputs.files import FINISHED, RETRIED, Locked, State, outside
from harness.outputs.folder import RunFolder
from harness.outputs.records import DamagedFile, Status
from harness.runs.missing import failed_scores, forget_failures, missing_scores
from harness.scheduling.progress import Line, Pace, Screen
from harness.scheduling.silence import Silence
from harness.scheduling.stop import STOP_SECONDS, Stop
from harness.training.data.buckets import BucketError
from harness.training.loop.budget import steps_of
from harness.training.settings.spec import RunSpec

Hook = Callable[[Sequence[str]], object]
"""Called in the driver with the train keys of runs whose state or checkpoint changed."""

POLL_SECONDS = 1.0
TELL_SECONDS = 60.0
"""How long news of a run that goes on waits for others: telling costs time that runs need."""
REFRESH_SECONDS = 5.0
"""How old may be what is known of a run that writes into a bucket."""
DEATHS_FORGIVEN = 2
"""How often a run whose process died is started again by one command."""


class ProcessDied(RuntimeError):
    """The process of a run ended without an answer; the message says why, where that is known."""


class OutOfMemory(ProcessDied):
    """The process was ended because its machine ran out of memory."""


class Pool(Protocol):
    """Where runs are done. A start returns a handle, which has an answer when the run ended."""

    def slots(self, spec: RunSpec) -> int:
        """How many runs like this one fit at once."""

    def start(self, spec: RunSpec, *, fresh: bool) -> Hashable:
        """Begin a run; `fresh`: in a process that no other run uses after it."""

    def ended(self, handles: Collection[Hashable], seconds: float) -> list[Hashable]:
        """Handles with an answer; returns at the first one, or after so many seconds."""

    def answer(self, handle: Hashable) -> State | None:
        """The state a run ended in; None: nothing was done, the process was in doubt. Raises
        ProcessDied, or what the work raised."""


class Session:
    """What one command does with its runs, by train key."""

    def __init__(
        self,
        runs: Mapping[str, RunSpec],
        outputs: Path,
        *,
        retry_failed: bool = False,
        labels: Mapping[str, str] | None = None,
        on_change: Hook | None = None,
    ) -> None:
        self._runs, self._retry_failed, self._on_change = runs, retry_failed, on_change
        self._folders = {key: RunFolder(outputs, key) for key in runs}
        for folder in self._folders.values() if retry_failed else ():
            forget_failures(folder)
        self._labels = {key: (labels or {}).get(key, key) for key in runs}
        self._steps = {
            k: steps_of(spec.train.budget, spec.train.batch_size) for k, spec in runs.items()
        }
        self.states: dict[str, State] = {
            k: f.recovered_status().state for k, f in self._folders.items()
        }
        self.waiting = collections.deque(key for key in runs if self._wanted(key))
        self._busy: dict[Hashable, str] = {}
        self._fresh = {key for key in self.waiting if self.states[key] in RETRIED}
        self._deaths: collections.Counter[str] = collections.Counter()
        self._told: dict[str, object] = {}
        self._spoke = time.monotonic()
        self._untold: set[str] = set()
        self._silence = Silence()
        self._asked = False
        self._pace, self._screen = Pace(), Screen()

    def _wanted(self, key: str) -> bool:
        """Whether there is something to do: not finished with every score, and not given up."""
        if self.states[key] in FINISHED:
            return bool(missing_scores(self._folders[key], self._runs[key]))
        return self._retry_failed or self.states[key] not in RETRIED

    def go(self, pool: Pool) -> None:
        """Work the queue off. Raises SystemExit when a signal stopped it."""
        self.states.update(dict.fromkeys(self.waiting, "waiting"))
        with self._screen, Stop() as stop:
            while self._busy or (self.waiting and not stop.asked):
                if stop.asked:
                    self._ask_for_checkpoints()
                else:
                    self._fill(pool)
                ended = self._take(pool)
                self._look(pool, ended)
                if stop.overdue():
                    break
        if stop.asked:
            self._say_goodbye()
            raise SystemExit(128 + stop.asked)

    def finish(self) -> dict[str, State]:
        """Tell the hook what it failed to take before, and return every run's state."""
        if self._untold and self._on_change:
            self._on_change(sorted(self._untold))
        return self.states

    # -- the queue

    def _fill(self, pool: Pool) -> None:
        """Start what fits, in order; a run that another process holds waits for its turn."""
        for key in list(self.waiting):
            together = [*self._busy.values(), key]
            if sum(1 / pool.slots(self._runs[k]) for k in together) > 1 + 1e-6:
                return
            if self._folders[key].is_locked():
                continue
            self.waiting.remove(key)
            refreshed(self._folders[key].path)
            self.states[key] = self._folders[key].recovered_status().state
            if self._wanted(key):
                self._start(pool, key)
            else:
                self._settle(key, self.states[key], "by another process")

    def _start(self, pool: Pool, key: str) -> None:
        removed(self._folders[key].stop_file)
        self.states[key] = "running"
        self._pace.begin(key, max(self._status(key).checkpoint_step, 0))
        self._busy[pool.start(self._runs[key], fresh=key in self._fresh)] = key
        self._screen.note(f"{self._labels[key]}: started")

    def _take(self, pool: Pool) -> list[str]:
        """Wait a moment for answers and act on them; the runs that answered."""
        if not self._busy:
            time.sleep(POLL_SECONDS)  # what waits is in another process's hands
            return []
        keys = []
        for handle in pool.ended(self._busy, POLL_SECONDS):
            key = self._busy.pop(handle)
            refreshed(self._folders[key].path)
            self._pace.end(key, self._status(key).step)
            removed(self._folders[key].stop_file)
            self._act(key, pool, handle)
            keys.append(key)
        return keys

    def _act(self, key: str, pool: Pool, handle: Hashable) -> None:
        try:
            state = pool.answer(handle)
        except OutOfMemory as death:
            self._fail(key, "out_of_memory", str(death))
        except ProcessDied as death:
            self._mourn(key, death)
        except Locked:
            self._again(key)
        except Exception as error:
            # A run records its own failures; this one happened before or after it could.
            why, text = outside(error), f"{type(error).__name__}: {error}"
            self._fail(key, "interrupted" if why else "failed", why or text)
        else:
            if state is None:
                self._again(key, fresh=True)
            else:
                self._settle(key, state, self._status(key).message)
                for task, why in failed_scores(self._folders[key]).items():
                    self._screen.say(f"{self._labels[key]}: {task} could not be scored ({why})")

    def _mourn(self, key: str, death: ProcessDied) -> None:
        self._deaths[key] += 1
        if self._deaths[key] > DEATHS_FORGIVEN:
            self._fail(key, "failed", f"{death}, {self._deaths[key]} times in a row")
        else:
            self._screen.say(f"{self._labels[key]}: {death}; it goes on from its checkpoint")
            self._again(key, fresh=True)

    def _again(self, key: str, *, fresh: bool = False) -> None:
        self.states[key] = "waiting"
        self.waiting.appendleft(key)
        if fresh:
            self._fresh.add(key)

    def _fail(self, key: str, state: State, message: str) -> None:
        with contextlib.suppress(OSError):  # no space left: it then reads as interrupted
            self._folders[key].set_status(state, message)
        self._settle(key, state, message)

    def _settle(self, key: str, state: State, message: str) -> None:
        self.states[key] = state
        why = f" ({message})" if message else ""
        self._screen.say(f"{self._labels[key]}: {state.replace('_', ' ')}{why}")

    # -- what is seen

    def _status(self, key: str) -> Status:
        """The status as written. Not `RunFolder.status`: it looks for the owner of the lock by
        taking it for a moment, in which a run that starts would find it taken."""
        try:
            return self._folders[key].written_status()
        except DamagedFile:
            return Status()

    def _look(self, pool: Pool, ended: Sequence[str]) -> None:
        """Show progress, and tell the hook what changed."""
        with contextlib.suppress(BucketError):  # those that run go on meanwhile
            refreshed(*(self._folders[k].path for k in self._busy.values()), every=REFRESH_SECONDS)
        statuses = {key: self._status(key) for key in [*ended, *self._busy.values()]}
        steps = {key: statuses[key].step for key in self._busy.values()}
        to_go = {k: max(self._steps[k] - steps.get(k, 0), 0) for k in [*self.waiting, *steps]}
        at_once = min(len(to_go), pool.slots(self._runs[next(iter(to_go))])) if to_go else 1
        lines = [
            Line(
                ", ".join(filter(None, (self._labels[k], statuses[k].message))),
                step,
                self._steps[k],
                self._pace.left({k: step}, to_go[k], 1),
            )
            for k, step in steps.items()
        ]
        left = self._pace.left(steps, sum(to_go.values()), at_once)
        self._screen.show(collections.Counter(self.states.values()), lines, left)
        for key in steps:
            if silence := self._silence.of(self._folders[key], statuses[key]):
                self._screen.say(f"{self._labels[key]}: {silence}")
        self._tell({k: (self.states[k], s.checkpoint_step) for k, s in statuses.items()})

    def _tell(self, marks: Mapping[str, object]) -> None:
        """Call the hook for what changed. Its failure ends no run: `finish` calls it again."""
        now = time.monotonic()
        patient = now - self._spoke < TELL_SECONDS
        changed = [
            key
            for key, mark in marks.items()
            if self._told.get(key) != mark and not (patient and self.states[key] == "running")
        ]
        if changed:
            self._spoke = now
        self._told.update({key: marks[key] for key in changed})
        if not changed or not self._on_change:
            return
        if self._untold:
            self._untold.update(changed)
            return
        try:
            self._on_change(changed)
        except Exception as error:
            self._untold.update(changed)
            self._screen.say(f"not published now, tried again at the end: {error}")

    # -- stopping

    def _ask_for_checkpoints(self) -> None:
        """Again at every look: a run that has only begun to start has no folder yet."""
        if not self._asked:
            self._screen.say(
                f"stopping: waiting up to {STOP_SECONDS:.0f} s for checkpoints; "
                "Ctrl-C again leaves at once"
            )
        self._asked = True
        for key in self._busy.values():
            if self._folders[key].path.exists():
                self._folders[key].ask_to_stop()

    def _say_goodbye(self) -> None:
        for key in self._busy.values():
            self.states[key] = "interrupted"
            self._screen.say(f"{self._labels[key]}: no answer in {STOP_SECONDS:.0f} s, left")
        counts = collections.Counter(self.states.values())
        kept = ", ".join(f"{n} {state}" for state, n in counts.items())
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        self._screen.say(
            f"stopped: {kept}. What is done is kept, what was interrupted goes on from its "
            f"last checkpoint. To go on: {command}"
        )
