"""Plans, runs, tunes and reads a study from Python; the command line says the same with words.

from pathlib import Path
from harness.lab import Lab
from studies.demo import STUDY

lab = Lab(Path("outputs"))
lab.run(STUDY)
results = lab.results(STUDY.name)
print(results.runs[["cell", "seed"]].assign(score=results.values("retrieval/mean_recall")))
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import JsonValue

from architectures.frozen import SettingError, checked
from harness.outputs.copies import opened, refreshed
from harness.outputs.files import State, TrackingError
from harness.outputs.folder import study_file
from harness.study import Cell, Study

if TYPE_CHECKING:
    import numpy as np

    from harness.outputs.tuning_records import CellChoice
    from harness.planning.plan import Plan, PlannedRun
    from harness.results.tables import Results
    from harness.results.to_mlflow import Tracker
    from harness.scheduling.schedule import How
    from harness.tuning.choice import TuningResult


T = TypeVar("T")


REFRESH_SECONDS = 5.0
"""How old may be what is known of outputs at a URL."""


class Lab:
    """Lab is an outputs folder and a tracking store, and what can be done with studies in them."""

    def __init__(self, outputs: Path | str, tracking: str | None = None) -> None:
        """Opens outputs in a folder or at a URL, as `s3://bucket/outputs`. Raises SettingError and
        `BucketError`."""
        self.outputs = opened(outputs)
        self.tracking = tracking

    def plan(self, study: Study, *, tuned: bool = False) -> Plan:
        """Plans every run of a study, checked; nothing is trained, but a budget in FLOPs or seconds
        is turned into steps. See `planning.plan`. Raises SettingError for all that can be known to
        be wrong before anything is spent."""
        from harness.planning.budgets import converted
        from harness.planning.checks import check, check_measurements
        from harness.planning.extension import extended
        from harness.planning.plan import plan
        from harness.planning.threads import threaded

        study = threaded(extended(study, self.outputs), self.outputs)
        tuning = {}
        if tuned:
            from harness.tuning.choice import tuned as chosen

            tuning = chosen(study, self.outputs)
        planned = plan(study, self.outputs, tuning=tuning)
        check(planned, tuned=tuned)
        planned = converted(planned, self.outputs)
        check_measurements(planned)
        return planned

    def extend(
        self,
        study: Study,
        *,
        seeds: Sequence[int] = (),
        cells: Sequence[Cell] = (),
        tuned: bool = False,
    ) -> Plan:
        """Adds seeds and cells to a study for good, checked, and returns its plan; nothing is run.
        See `planning.extension`. Raises SettingError where they do not fit, or the study was run
        under other settings than these.
        """
        from harness.planning import checks, extension
        from harness.planning.plan import write_study
        from harness.results.folders import study_record

        before = self.plan(study, tuned=tuned)
        extension.check_same(before, self.outputs)
        planned = self.plan(extension.grown(before.study, seeds, cells), tuned=tuned)
        extension.write_extension(before, seeds, cells, self.outputs)
        if study_file(self.outputs, study.name).exists():  # so status and report have it at once
            kept = study_record(self.outputs, study.name).notes
            new = [
                line for line in extension.notes(planned.study, self.outputs) if line not in kept
            ]
            left_over = checks.former_runs(planned, self.outputs)
            write_study(planned, self.outputs, [*kept, *new], left_over)
        return planned

    def run(
        self, study: Study, *, tuned: bool = False, only: str = "", **how: Any
    ) -> dict[str, State]:
        """Brings a study's runs to an end and publishes them; returns train key -> state.

        `only`: a pattern of cell names, as `6+6` or `split*`; the study itself stays whole. `how`:
        fields of `scheduling.schedule.How`. Finished runs are skipped and interrupted ones go on,
        so the same call again completes a study. Raises SettingError before anything is decoded
        where a name or a value is wrong.
        """
        options = self._how(how)
        _ = self.store  # an address that cannot be is said now
        planned = self.plan(study, tuned=tuned)
        self._check_device(planned, options)
        rows = [row for row in planned.rows if fnmatch.fnmatchcase(row.cell.name, only or "*")]
        if not rows:
            cells = ", ".join(cell.name for cell in study.cells)
            raise SettingError(f"--only {only!r} fits no cell; cells: {cells}")
        return self._run(planned, rows, options)

    def _how(self, how: dict[str, JsonValue]) -> How:
        from harness.scheduling.on_ray import reach
        from harness.scheduling.schedule import How

        options = checked(How, how)
        if options.address and not options.local:
            reach(options.address)
        return options

    def _check_device(self, planned: Plan, how: How) -> None:
        """Raises `SettingError` where a run cannot be done here: the device, --local."""
        from harness.planning.several import refuse_several
        from harness.training.loop.numerics import check_device

        refuse_several(planned, local=how.local)
        for row in planned.rows if not how.address else ():
            check_device(row.spec.train.numerics)

    def _run(self, planned: Plan, rows: Sequence[PlannedRun], how: How) -> dict[str, State]:
        """Runs the rows of a plan, and publishes what they give as they go."""
        from harness.planning import budgets, checks, extension, prepare, start_notes
        from harness.planning.freeze_notes import freeze_notes
        from harness.planning.matching import match_notes
        from harness.planning.plan import write_study
        from harness.planning.prepare import notes_of, prepared
        from harness.planning.task_notes import task_notes
        from harness.scheduling.progress import Screen
        from harness.scheduling.schedule import run_all

        screen = Screen()
        corpora = prepared(planned, self.outputs, screen.say)
        prepare.make_all(planned, corpora, self.outputs, screen.say)
        notes = [*notes_of(corpora), *start_notes.notes(planned, corpora, self.outputs)]
        notes += [*task_notes(planned, corpora), *freeze_notes(planned, corpora)]
        notes += match_notes(planned.matched)
        notes += [*checks.same_runs(planned), *checks.final_weights(planned)]
        notes += budgets.notes(planned, self.outputs)
        notes += extension.notes(planned.study, self.outputs)
        notes += checks.left_over(planned, self.outputs)
        tracker = self._tracker(screen.say)  # makes the schema before any worker starts
        former = checks.former_runs(planned, self.outputs)
        record = write_study(planned, self.outputs, notes, former)
        labels = {row.spec.train_key(): f"{row.cell.name} seed {row.seed}" for row in rows}
        states = run_all(
            [spec for spec in planned.specs if spec.train_key() in labels],
            self.outputs,
            labels=labels,
            on_change=(lambda keys: tracker.publish(record, keys)) if tracker else None,
            **dict(how),
        )
        # Also the runs that were done before: of another study, or for another store.
        self._tried(lambda: tracker.publish(record) if tracker else None, screen.say)
        return states

    def _tracker(self, say: Callable[[str], object]) -> Tracker | None:
        """Returns the way into the store; None, and a line that says why, where it cannot be used:
        the run folders hold everything, so it stops no run."""
        from harness.results.to_mlflow import Tracker

        return self._tried(lambda: Tracker(self.outputs, self.tracking), say)

    def _tried(self, publish: Callable[[], T | None], say: Callable[[str], object]) -> T | None:
        try:
            return publish()
        except TrackingError as error:
            say(f"tracking: {error}")
            return None

    @property
    def store(self) -> str:
        """Returns the address of the tracking store."""
        from harness.results.store import default_uri

        return self.tracking or default_uri(self.outputs)

    def publish(self, study: str = "") -> list[str]:
        """Brings the tracking store up to date with the run folders; returns the names of the
        studies that it then has. Empty: every study. Raises TrackingError where the store cannot be
        used."""
        from harness.outputs.folder import studies
        from harness.results.folders import study_record
        from harness.results.to_mlflow import Tracker

        records = {study: study_record(self.outputs, study)} if study else studies(self.outputs)
        tracker = Tracker(self.outputs, self.tracking)
        for record in records.values():
            tracker.publish(record)
        return list(records)

    def failed_scores(self, states: Iterable[str]) -> dict[str, dict[str, str]]:
        """Returns train key -> task -> why it could not be scored, of runs that have such."""
        from harness.outputs.folder import RunFolder
        from harness.runs.missing import failed_scores

        failures = {key: failed_scores(RunFolder(self.outputs, key)) for key in states}
        return {key: tasks for key, tasks in failures.items() if tasks}

    def warm_start(self, study: Study) -> list[Path]:
        """Makes what a study's runs start from, or finds it made: see `warm_start`. A study that
        names no recipe gets the default one.
        """
        from harness.planning import prepare
        from harness.planning.prepare import prepared
        from harness.scheduling.progress import Screen
        from harness.training.settings.warm_start import WarmStart

        if all(study.settings_of(cell).warm_start is None for cell in study.cells):
            study = study.model_copy(update={"warm_start": WarmStart()})
        planned = self.plan(study)
        corpora = prepared(planned, self.outputs)
        return prepare.make_all(planned, corpora, self.outputs, Screen().say)

    def notes(self, study: str) -> list[str]:
        """Says what a reader should know of the data of a study that was run."""
        from harness.results.folders import study_record

        return list(study_record(self.outputs, study).notes)

    def results(self, study: str, *, from_tracking: bool = False) -> Results:
        """Returns the tables of a study: from the run folders, or from the tracking store."""
        from harness.outputs.reads import note_read, read_at

        refreshed(self.outputs, every=REFRESH_SECONDS)
        noted = functools.partial(note_read, self.outputs, study)
        if not from_tracking:
            from harness.results.folders import load

            return dataclasses.replace(load(self.outputs, study), note_read=noted)
        from harness.results.from_mlflow import load_from_mlflow
        from harness.results.store import opened

        opened(self.outputs, self.store, create=False)
        results = load_from_mlflow(self.store, study)
        # Of those here the store may not know yet.
        read = (*results.read_at, *read_at(self.outputs, study))
        return dataclasses.replace(results, read_at=read, note_read=noted)

    def predictions(self, run: str, task: str) -> Mapping[str, np.ndarray]:
        """Reads what a task kept of a run's items: name -> array; nothing where it kept none.
        Raises DamagedFile."""
        from harness.outputs.folder import RunFolder

        return RunFolder(self.outputs, run).predictions(task)

    def tune(self, study: Study, **how: Any) -> TuningResult:
        """Tunes every cell equally; `how`: fields of `scheduling.schedule.How`. See `tune.tune`.
        Raises Locked where another process tunes this study."""
        from harness.planning.extension import extended
        from harness.results.folders import study_record
        from harness.tuning import tune

        options = self._how(how)
        _ = self.store
        study = extended(study, self.outputs)
        self._check_device(self.plan(study), options)

        def runner(planned: Plan) -> dict[str, State]:
            return self._run(planned, planned.rows, options)

        result = tune.tune(study, self.outputs, runner)
        if tracker := self._tracker(print):
            record = study_record(self.outputs, tune.name_of_trials(study))
            chosen = {trial.run for trial in result.chosen.values()}
            self._tried(lambda: tracker.tag_trials(record, result.trials, chosen), print)
        return result

    def tuning(self, study: str) -> dict[str, CellChoice] | None:
        """Returns what tuning chose for each cell of a study, or None where it was not tuned."""
        from harness.tuning.choice import choices

        return choices(study, self.outputs)
