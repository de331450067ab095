"""What the terminal shows while runs go on: one bar for all, one line for each that runs.

Where the output is no terminal (a log file, CI), a plain line for every change of a run's state and
a summary at most every half minute.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.words import clock

QUIET_SECONDS = 30.0
"""Longest silence between plain summaries."""


@dataclasses.dataclass(frozen=True)
class Line:
    """One running run."""

    label: str
    step: int
    steps: int
    seconds_left: float | None
    """None: too early to say."""


class Pace:
    """Seconds per step, measuring and scoring included, from what this session saw."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[float, int]] = {}
        self._moving: set[str] = set()
        self._seconds, self._steps = 0.0, 0

    def begin(self, key: str, step: int) -> None:
        """An attempt at a run begins, at the step of its checkpoint."""
        self._since[key] = (time.monotonic(), step)

    def end(self, key: str, step: int) -> None:
        """An attempt ended."""
        self._moving.add(key)  # too short to be seen moving: its start-up counts
        seconds, steps = self._so_far(key, step)
        self._moving.remove(key)
        del self._since[key]
        self._seconds, self._steps = self._seconds + seconds, self._steps + steps

    def _so_far(self, key: str, step: int) -> tuple[float, int]:
        """Counted from when the run was first seen moving: start-up says nothing of the rest."""
        now, (when, first) = time.monotonic(), self._since[key]
        if key not in self._moving and step > first:
            self._moving.add(key)
            self._since[key] = (now, step)
            return 0.0, 0
        return (now - when, step - first) if step > first else (0.0, 0)

    def left(self, running: Mapping[str, int], steps_to_go: int, at_once: int) -> float | None:
        """Seconds until `steps_to_go` are made, `at_once` runs at a time; None: not known yet.

        `running`: key of a run -> the step it has reached.
        """
        pieces = [self._so_far(key, step) for key, step in running.items()]
        seconds = self._seconds + sum(s for s, _ in pieces)
        steps = self._steps + sum(n for _, n in pieces)
        return steps_to_go * seconds / steps / max(at_once, 1) if steps else None


class Screen:
    """Shows counts, running runs and the time left; a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        self._spoke = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """A plain line, above the bars where there are any."""
        self._spoke = time.monotonic()
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """A line that is only needed where there are no bars."""
        if not self._live:
            self.say(text)

    def show(self, counts: Mapping[str, int], lines: Sequence[Line], left: float | None) -> None:
        """`counts`: state -> runs, of all runs asked for."""
        if self._live:
            self._live.update(_picture(counts, lines, left), refresh=True)
        elif time.monotonic() - self._spoke >= QUIET_SECONDS:
            steps = ", ".join(f"{line.label} {line.step}/{line.steps}" for line in lines)
            self.say(f"{_summary(counts)}; {clock(left)} left; {steps}")


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """A bar on the terminal that moves, and the time, while something goes on that may take long;
    elsewhere nothing."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(escape(what), total=None)
        yield


def _summary(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in counts.items() if n)


def _picture(counts: Mapping[str, int], lines: Sequence[Line], left: float | None) -> Group:
    total = sum(counts.values())
    ended = total - counts.get("waiting", 0) - counts.get("running", 0)
    table = Table.grid(padding=(0, 2))
    table.add_row("all runs", ProgressBar(total, ended, width=30), f"{ended}/{total}", clock(left))
    for line in lines:
        bar = ProgressBar(max(line.steps, 1), line.step, width=30)
        step = f"{line.step}/{line.steps}" if line.step else "starting"
        table.add_row(escape(line.label), bar, step, clock(line.seconds_left))
    return Group(table, Text(_summary(counts)))
