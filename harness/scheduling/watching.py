"""Watches a study from outside: how far its runs are, by what they write, whoever does them."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from harness.outputs.copies import refreshed
from harness.outputs.folder import RunFolder
from harness.outputs.records import DamagedFile, Status
from harness.results.folders import study_record
from harness.scheduling.progress import Line, Pace
from harness.words import clock, duration

TO_COME = ("waiting", "running", "interrupted")
"""States that another command, or time, brings on."""
REFRESH_SECONDS = 2.0
"""How old may be what is known of outputs at a URL."""


@dataclasses.dataclass(frozen=True)
class View:
    """A view holds what a study looks like at a moment."""

    counts: Mapping[str, int]
    """State -> runs."""
    lines: tuple[Line, ...]
    """The runs that are running."""
    seconds_left: float | None
    """None: not known yet."""
    troubles: Mapping[str, str]
    """Cell and seed of a run that did not end well, or is silent -> why, in a line."""

    @property
    def ended(self) -> bool:
        """Whether nothing is left to come."""
        return not any(self.counts.get(state) for state in TO_COME)

    def in_words(self) -> str:
        """Says it in a line."""
        counts = [f"{n} {state.replace('_', ' ')}" for state, n in self.counts.items()]
        steps = [f"{line.label} {line.step}/{line.steps}" for line in self.lines]
        left = [] if self.ended else [f"{clock(self.seconds_left)} left"]
        return "; ".join([", ".join(counts), *left, *steps])


class Watch:
    """Watch looks at a study again and again; the time left comes from what it saw before."""

    def __init__(self, outputs: Path, study: str) -> None:
        """Raises SettingError for an unknown study, and `DamagedFile`."""
        self.outputs, self.study = outputs, study
        self._pace, self._begun = Pace(), set[str]()
        study_record(outputs, study)

    def look(self) -> View:
        """Reads how far every run is. Raises `DamagedFile` where it is the study's record."""
        refreshed(self.outputs, every=REFRESH_SECONDS)
        record = study_record(self.outputs, self.study)  # to which seeds may have been added
        rows = {row.run: row for row in record.rows}
        labels = {key: f"{row.cell} seed {row.seed}" for key, row in rows.items()}
        statuses = {key: self._status(key) for key in rows}
        running = {key: s.step for key, s in statuses.items() if s.state == "running"}
        for key in self._begun - set(running):
            self._pace.end(key, statuses[key].step if key in statuses else 0)
        for key in set(running) - self._begun:
            self._pace.begin(key, running[key])
        self._begun = set(running)
        to_go = {
            key: max((s.steps or rows[key].steps) - s.step, 0)
            for key, s in statuses.items()
            if s.state in TO_COME
        }
        lines = tuple(
            Line(
                labels[key],
                step,
                statuses[key].steps or rows[key].steps,
                self._pace.left({key: step}, to_go[key], 1),
            )
            for key, step in running.items()
        )
        return View(
            counts=collections.Counter(s.state for s in statuses.values()),
            lines=lines,
            seconds_left=self._pace.left(running, sum(to_go.values()), len(running)),
            troubles={labels[key]: why for key, s in statuses.items() if (why := _trouble(s))},
        )

    def _status(self, key: str) -> Status:
        """The status as written: to ask whether its owner lives takes the run's lock for a moment,
        in which a run that starts would find it taken."""
        try:
            return RunFolder(self.outputs, key).written_status()
        except DamagedFile as error:
            return Status(state="interrupted", message=str(error))


def _trouble(status: Status) -> str:
    """Says in a line why a run does not get on; empty: it does."""
    if silent := status.silence():
        return f"silent for {duration(silent)}: its process was ended, or hangs"
    if status.state in ("waiting", "running") or not status.message:
        return ""
    return f"{status.state.replace('_', ' ')}: {' '.join(status.message.split())[:200]}"
