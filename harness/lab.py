"""Plan, run, tune and read a study from Python; the command line says the same with words.

from pathlib import Path
from harness.lab import Lab
from studies.demo import STUDY

lab = Lab(Path("outputs"))
lab.run(STUDY)
results = lab.results(STUDY.name)
print(results.runs[["cell", "seed"]].assign(score=results.values("retrieval/mean_recall")))
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from architectures.frozen import SettingError
from harness.outputs.files import State
from harness.study import Study

if TYPE_CHECKING:
    from harness.outputs.records import CellChoice
    from harness.planning.plan import Plan, PlannedRun
    from harness.results.tables import Results
    from harness.tuning.choice import TuningResult


class How(TypedDict, total=False):
    """How runs are brought to an end: see `schedule.run_all`."""

    local: bool
    retry_failed: bool
    address: str | None
    gpu_share: float


class Lab:
    """An outputs folder and a tracking store, and what can be done with studies in them."""

    def __init__(self, outputs: Path, tracking: str | None = None) -> None:
        self.outputs = outputs.expanduser().resolve()
        self.tracking = tracking

    def plan(self, study: Study, *, tuned: bool = False) -> Plan:
        """Every run of a study, checked; nothing is trained. See `plan.plan`."""
        from harness.planning.plan import plan

        tuning = {}
        if tuned:
            from harness.tuning.choice import tuned as chosen

            tuning = chosen(study, self.outputs)
        return plan(study, self.outputs, tuning=tuning)

    def run(
        self,
        study: Study,
        *,
        tuned: bool = False,
        only: str = "",
        **how: Unpack[How],
    ) -> dict[str, State]:
        """Bring a study's runs to an end and publish them; train key -> state.

        `only`: a pattern of cell names, as `6+6` or `split*`; the study itself stays whole. `how`
        goes to `schedule.run_all`: local, retry_failed, address, gpu_share. Finished runs are
        skipped and interrupted ones go on, so the same call again completes a study.
        """
        planned = self.plan(study, tuned=tuned)
        rows = [row for row in planned.rows if fnmatch.fnmatchcase(row.cell.name, only or "*")]
        if not rows:
            cells = ", ".join(cell.name for cell in study.cells)
            raise SettingError(f"--only {only!r} fits no cell; cells: {cells}")
        return self.run_planned(planned, rows, **how)

    def run_planned(
        self, planned: Plan, rows: Sequence[PlannedRun] | None = None, **how: Unpack[How]
    ) -> dict[str, State]:
        """Run the rows of a plan (default: all), and publish what they give as they go."""
        from harness.planning import prepare, start_notes
        from harness.planning.plan import write_study
        from harness.planning.prepare import notes_of, prepared
        from harness.results.to_mlflow import Tracker
        from harness.scheduling.progress import Screen
        from harness.scheduling.schedule import run_all

        corpora = prepared(planned, self.outputs)
        prepare.make_all(planned, corpora, self.outputs, Screen().say)
        notes = [*notes_of(corpora), *start_notes.notes(planned, corpora, self.outputs)]
        tracker = Tracker(self.outputs, self.tracking)  # makes the schema before any worker starts
        described = write_study(planned, self.outputs, notes)
        rows = planned.rows if rows is None else rows
        labels = {row.spec.train_key(): f"{row.cell.name} seed {row.seed}" for row in rows}
        states = run_all(
            [spec for spec in planned.specs if spec.train_key() in labels],
            self.outputs,
            labels=labels,
            on_change=lambda keys: tracker.publish(described, keys),
            **how,
        )
        # Also the runs that were done before: of another study, or for another store.
        tracker.publish(described)
        return states

    def warm_start(self, study: Study) -> list[Path]:
        """Make what a study's runs start from, or find it made: see `warm_start`. A study that
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

    def starts(self, planned: Plan) -> list[str]:
        """What the runs of a plan start from besides random weights, and what that costs."""
        from harness.planning import start_notes
        from harness.planning.prepare import prepared

        return start_notes.notes(planned, prepared(planned, self.outputs), self.outputs)

    def notes(self, study: str) -> list[str]:
        """What a reader should know of the data of a study that was run."""
        from harness.results.folders import study_record

        return list(study_record(self.outputs, study).notes)

    def results(self, study: str, *, from_tracking: bool = False) -> Results:
        """The tables of a study: from the run folders, or from the tracking store."""
        from harness.results.folders import load
        from harness.results.from_mlflow import load_from_mlflow
        from harness.results.to_mlflow import Tracker

        if from_tracking:
            return load_from_mlflow(Tracker(self.outputs, self.tracking).uri, study)
        return load(self.outputs, study)

    def tune(self, study: Study, **how: Unpack[How]) -> TuningResult:
        """Tune every cell equally; `how` goes to `schedule.run_all`. See `tune.tune`."""
        from harness.tuning import tune

        def runner(planned: Plan) -> dict[str, State]:
            return self.run_planned(planned, **how)

        return tune.tune(study, self.outputs, runner)

    def tuning(self, study: str) -> dict[str, CellChoice] | None:
        """What tuning chose for each cell of a study, or None where it was not tuned."""
        from harness.tuning.choice import choices

        return choices(study, self.outputs)

    def log_report(self, study: str, folder: Path) -> None:
        """Put the report's files beside the study in the tracking store."""
        from harness.results.to_mlflow import Tracker

        Tracker(self.outputs, self.tracking).log_report(study, folder)
