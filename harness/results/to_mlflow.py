"""Writes what run folders say into MLflow. The only writer; called by the driver alone.

One experiment for each study, a parent run for the study, a child run for each of its runs with
parameters, curves, final values and files. Publishing again changes nothing, and the store can be
rebuilt from the run folders: publish every study into an empty one. Only what a finished
checkpoint covers is published, so a run that goes on adds to its curves and repeats nothing.

Values that are not finite: NaN stays NaN, infinity becomes the largest number MLflow can hold, and
reads back as infinity by `harness.results.tables`.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from harness.outputs.files import TrackingError, write_json
from harness.outputs.folder import RunFolder
from harness.outputs.reads import read_at
from harness.outputs.records import DamagedFile, StudyRecord, StudyRow
from harness.outputs.tuning_records import TrialRecord
from harness.results import store
from harness.results.entries import (
    described,
    files_of,
    finetunings_of,
    history,
    json_or_empty,
    metric_name,
    metrics_of,
    milliseconds,
    parameters_of,
    tags_of,
)
from harness.results.folders import record_of
from harness.results.from_mlflow import READS_TAG, all_runs, quiet_mlflow, reads_of
from harness.training.settings.spec import digest

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Metric, Run

METRICS, PARAMETERS = 500, 100
"""Most in one call, of tags as of parameters."""
FINETUNED = "fuselab.finetuned"
"""Tag that lists the fine-tunings whose curves are published."""
FEW = 10
"""Runs that are looked for one by one; of more, all of the experiment are read."""
ENDED: Mapping[str, str] = {
    "done": "FINISHED",
    "diverged": "FAILED",
    "out_of_memory": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}


class Tracker:
    """A tracker is the way into one tracking store."""

    def __init__(self, outputs: Path, uri: str | None = None) -> None:
        """Opens the store, and makes that of the outputs folder where there is none: do so before
        any worker starts. Raises TrackingError, within seconds, where it cannot be used."""
        self.outputs, self.uri = outputs.resolve(), uri or store.default_uri(outputs)
        self._client = store.opened(self.outputs, self.uri, create=True)
        self._mlflow = quiet_mlflow()
        self._own = self.uri == store.default_uri(self.outputs)
        # Beside a store in a file; a server says itself where files go.
        self._files = store.files_of(self.outputs) if self.uri.startswith("sqlite:") else None

    def publish(self, study: StudyRecord, keys: Iterable[str] | None = None) -> None:
        """Brings the store up to date. `keys`: train keys of the runs that changed, by default all
        of the study's. Raises TrackingError where the store is gone."""
        rows: dict[str, list[StudyRow]] = {}
        for row in study.rows:
            rows.setdefault(row.run, []).append(row)
        with store.lock(self.outputs), self._explained():
            experiment = self._experiment(study.name)
            parent = self._parent(experiment, study)
            wanted = list(rows if keys is None else keys)
            runs = self._runs(experiment, wanted)
            for key in wanted:
                folder = RunFolder(self.outputs, key)
                if folder.spec.exists():
                    self._publish(experiment, parent, rows[key], folder, runs.get(key))
            self._end(parent, study)

    def log_answer(
        self,
        study: StudyRecord,
        verdicts: Mapping[str, Mapping[str, str]],
        scores: Mapping[str, Mapping[str, float]],
        report: Path | None = None,
        seen: Collection[int] = (),
    ) -> None:
        """Puts a study's answer at its parent run: `verdicts`: endpoint -> cell -> the verdict in
        words, as tags; `scores`: endpoint -> cell -> its mean score, as metrics; `report`: a folder
        of files; `seen`: at which numbers of seeds it was read. The first endpoint goes by the name
        of `primary`."""
        with store.lock(self.outputs), self._explained():
            parent = self._parent(self._experiment(study.name), study, seen)
            entities = self._mlflow.entities
            tags = {"primary": study.primary, "control": study.control}
            for score, of_cells in verdicts.items():
                what = "verdict" if score == study.primary else f"verdict/{score}"
                tags |= {f"{what}.{metric_name(cell)}": text for cell, text in of_cells.items()}
            means = {
                f"{'primary' if score == study.primary else f'endpoint/{score}'}/"
                f"{metric_name(cell)}": value
                for score, of_cells in scores.items()
                for cell, value in of_cells.items()
            }
            values = [entities.Metric(name, value, 0, 0) for name, value in means.items()]
            self._client.log_batch(parent, values)
            marks = [entities.RunTag(*pair) for pair in tags.items()]
            for place in range(0, len(marks), PARAMETERS):
                self._client.log_batch(parent, tags=marks[place : place + PARAMETERS])
            if report:
                self._client.log_artifacts(parent, str(report), "report")

    def tag_trials(
        self, study: StudyRecord, trials: Iterable[TrialRecord], chosen: Collection[str]
    ) -> None:
        """Says of every trial's run which trial it is, and whether its cell chose it (`chosen`:
        train keys)."""
        with store.lock(self.outputs), self._explained():
            runs = self._runs(self._experiment(study.name))
            for trial in trials:
                if trial.run in runs:
                    tags = {
                        "fuselab.trial": str(trial.number),
                        "fuselab.trial_of": trial.cell,
                        "fuselab.chosen": "yes" if trial.run in chosen else "no",
                    }
                    self._log(runs[trial.run], [], tags=tags)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what MLflow raises into one line with the remedy."""
        try:
            yield
        except (self._mlflow.exceptions.MlflowException, OSError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
            raise TrackingError(
                f"not published to {self.uri}: {reason}. The run folders hold everything: "
                "`fuselab publish` puts it there later"
            ) from error

    # -- experiments and runs

    def _experiment(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment:
            if experiment.lifecycle_stage == "deleted":  # on MLflow's page
                self._client.restore_experiment(experiment.experiment_id)
            return experiment.experiment_id
        return self._client.create_experiment(name, self._files and f"{self._files}/{name}")

    def _runs(self, experiment: str, keys: Sequence[str] = ()) -> dict[str, Run]:
        """Maps train keys to their runs in an experiment; of a few keys, without reading all
        others.
        """
        if 0 < len(keys) <= FEW:
            where = [f"tags.`fuselab.run` = '{key}'" for key in keys]
            runs = [run for one in where for run in self._client.search_runs([experiment], one)]
        else:
            runs = all_runs(self._client, experiment)
        return {run.data.tags["fuselab.run"]: run for run in runs if "fuselab.run" in run.data.tags}

    def _end(self, parent: str, study: StudyRecord) -> None:
        """Ends the study's parent run when all of its runs have ended, or opens it again."""
        states = {RunFolder(self.outputs, key).recovered_status().state for key in study.keys}
        if states <= ENDED.keys():
            self._client.set_terminated(parent, "FINISHED")
        else:
            self._client.update_run(parent, "RUNNING")

    def _parent(self, experiment: str, study: StudyRecord, seen: Collection[int] = ()) -> str:
        where = "tags.`fuselab.kind` = 'study'"
        run = next(iter(self._client.search_runs([experiment], where, max_results=1)), None)
        if run is None:
            tags = {"fuselab.kind": "study", "mlflow.note.content": study.question}
            run = self._client.create_run(experiment, tags=tags, run_name=study.name)
        content = study.as_json()
        if run.data.tags.get("fuselab.digest") != digest(content):
            self._files_of(run, {"study.json": content})
            self._client.set_tag(run.info.run_id, "fuselab.digest", digest(content))
        tags, reads = run.data.tags, set(seen)
        with contextlib.suppress(DamagedFile):  # what reads the study says so
            reads |= {*read_at(self.outputs, study.name)}
        if reads - {*reads_of(tags)}:
            numbers = sorted({*reads, *reads_of(tags)})
            self._client.set_tag(run.info.run_id, READS_TAG, " ".join(map(str, numbers)))
        return run.info.run_id

    def _publish(
        self,
        experiment: str,
        parent: str,
        rows: Sequence[StudyRow],
        folder: RunFolder,
        run: Run | None,
    ) -> None:
        """Publishes one run: nothing where nothing changed, else what is new."""
        record, cells = record_of(folder), [row.cell for row in rows]
        content_digest = digest([cells, described(record)])
        if run is None:
            seed = rows[0].seed
            tags = {"fuselab.kind": "run", "fuselab.run": folder.key, "mlflow.parentRunId": parent}
            name = f"{cells[0]}, seed {seed}"
            run = self._client.create_run(
                experiment, tags={**tags, "seed": str(seed)}, run_name=name
            )
        if run.data.tags.get("fuselab.digest") == content_digest:
            return
        tags = {"status": record.status, "message": record.message, "cell": " | ".join(cells)}
        if record.status == "damaged":  # what was published before stays
            self._log(run, [], tags={**tags, "fuselab.digest": content_digest})
            return
        self._files_of(run, files_of(record, folder), record.curves)
        end = milliseconds(folder.recovered_status().updated)
        if ended := ENDED.get(record.status):
            self._client.set_terminated(run.info.run_id, ended, end)
        else:
            self._client.update_run(run.info.run_id, "RUNNING")
        # The tags come last: what they vouch for is there.
        tags |= {
            **tags_of(record),
            **{
                "fuselab.digest": content_digest,
                "fuselab.step": str(record.last_step),
                FINETUNED: finetunings_of(record),
            },
        }
        params = {} if run.data.params else parameters_of(folder)
        if params:
            self._log_data(run, folder)
        published = int(run.data.tags.get("fuselab.step", -1))
        finetuned = run.data.tags.get(FINETUNED, "").split()
        metrics = metrics_of(record, folder, published, finetuned)
        self._log(run, metrics, params, tags)

    def _log_data(self, run: Run, folder: RunFolder) -> None:
        """Names the data that a run was trained on, by the digest of their content."""
        spec, entities = json_or_empty(folder.spec), self._mlflow.entities
        if not {"train", "asked"} <= spec.keys():  # damaged
            return
        data = spec["asked"]["data"]
        dataset = entities.Dataset(
            name=str(data.get("train") if data["kind"] == "pictures" else "scenes")[-500:],
            digest=spec["train"]["data"][:36],
            source_type="fuselab",
            source=json.dumps(data),
        )
        inputs = entities.DatasetInput(
            dataset, [entities.InputTag("mlflow.data.context", "training")]
        )
        self._client.log_inputs(run.info.run_id, datasets=[inputs])

    def _log(
        self,
        run: Run,
        metrics: Sequence[Metric],
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Logs everything in as few calls as MLflow's limits allow."""
        entities, run_id = self._mlflow.entities, run.info.run_id
        if self._own and metrics:
            newest = {metric.key: metric for metric in metrics}
            earlier = [metric for metric in metrics if newest[metric.key] is not metric]
            with contextlib.suppress(sqlite3.Error):  # then all go by the client
                store.add_history(self.outputs, history(run_id, earlier))
                metrics = list(newest.values())
        pairs = [entities.Param(*pair) for pair in (params or {}).items()]
        while len(metrics) > METRICS or len(pairs) > PARAMETERS:
            self._client.log_batch(run_id, metrics[:METRICS], pairs[:PARAMETERS])
            metrics, pairs = metrics[METRICS:], pairs[PARAMETERS:]
        marks = [entities.RunTag(*pair) for pair in (tags or {}).items()]  # written last
        self._client.log_batch(run_id, metrics, pairs, marks)

    def _files_of(
        self, run: Run, files: Mapping[str, JsonValue], curves: pd.DataFrame | None = None
    ) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            for name, content in files.items():
                # In one line, which takes a tenth of the time; MLflow's page indents it.
                write_json(Path(scratch, name), content, indent=None)
            if curves is not None:
                curves.to_parquet(Path(scratch, "curves.parquet"), index=False)
            self._client.log_artifacts(run.info.run_id, scratch)
