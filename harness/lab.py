"""Plan, run, tune and read a study from Python; the command line says the same with words.

from pathlib import Path
from harness.lab import Lab
from studies.demo import STUDY

lab = Lab(Path("outputs"))
lab.run(STUDY)
print(lab.results(STUDY.name).runs[["cell", "seed", "retrieval/mean_recall"]])
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from architectures.frozen import SettingError
from harness.folder import State, read_json
from harness.study import RunSpec, Study

if TYPE_CHECKING:
    from harness.plan import Plan
    from harness.results import Results


class Lab:
    """An outputs folder and a tracking store, and what can be done with studies in them."""

    def __init__(self, outputs: Path, tracking: str | None = None) -> None:
        self.outputs = outputs.expanduser().resolve()
        self.tracking = tracking

    def plan(self, study: Study, *, design_file: str = "", tuned: bool = False) -> Plan:
        """Every run of a study, checked; nothing is trained. See `plan.plan`."""
        from harness.plan import plan
        from harness.tune import tuned as chosen

        settings = chosen(study, self.outputs) if tuned else {}
        return plan(study, self.outputs, design_file=design_file, tuned=settings)

    def run(
        self,
        study: Study,
        *,
        design_file: str = "",
        tuned: bool = False,
        only: str = "",
        **how: Any,
    ) -> dict[str, State]:
        """Bring a study's runs to an end and publish them; train key -> state.

        `only`: a pattern of cell names, as `6+6` or `split*`; the study itself stays whole. `how`
        goes to `schedule.run_all`: local, retry_failed, address, gpu_share. Finished runs are
        skipped and interrupted ones go on, so the same call again completes a study.
        """
        from harness.plan import prepared, write_study

        planned = self.plan(study, design_file=design_file, tuned=tuned)
        keys = {
            row.spec.train_key(): f"{row.cell} seed {row.seed}"
            for row in planned.rows
            if fnmatch.fnmatchcase(row.cell, only or "*")
        }
        if not keys:
            cells = ", ".join(cell.name for cell in study.cells)
            raise SettingError(f"--only {only!r} fits no cell; cells: {cells}")
        prepared(planned, self.outputs)
        write_study(planned, self.outputs)
        specs = [spec for spec in planned.specs if spec.train_key() in keys]
        return self.run_specs(study.name, specs, keys, **how)

    def run_specs(
        self, study: str, specs: list[RunSpec], labels: Mapping[str, str], **how: Any
    ) -> dict[str, State]:
        """Run specs that belong to a study which is written down, and publish what they give."""
        from harness.schedule import run_all
        from harness.track import Tracker

        tracker = Tracker(self.outputs, self.tracking)
        described = read_json(self.outputs / "studies" / study / "study.json")

        def publish(keys: Any) -> None:
            tracker.publish(described, keys)

        return run_all(specs, self.outputs, labels=labels, on_change=publish, **how)

    def results(self, study: str, *, from_tracking: bool = False) -> Results:
        """The tables of a study: from the run folders, or from the tracking store."""
        from harness import results
        from harness.track import Tracker

        if from_tracking:
            return results.load_from_mlflow(Tracker(self.outputs, self.tracking).uri, study)
        return results.load(self.outputs, study)

    def tune(self, study: Study, *, design_file: str = "", **how: Any) -> Any:
        """Tune every cell equally; see `tune.tune`."""
        from harness import tune

        return tune.tune(study, self.outputs, design_file=design_file, **how)

    def tuning(self, study: str) -> dict[str, Any] | None:
        """What tuning chose for a study, or None where it was not tuned."""
        return read_json(self.outputs / "studies" / study / "tuning" / "choice.json")

    def log_report(self, study: str, folder: Path) -> None:
        """Put the report's files beside the study in the tracking store."""
        from harness.track import Tracker

        Tracker(self.outputs, self.tracking).log_report(study, folder)
