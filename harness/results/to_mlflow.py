"""What run folders say, into MLflow. The only writer; called by the driver alone.

One experiment for each study, a parent run for the study, a child run for each of its runs with
parameters, curves, final values and files. Publishing again changes nothing, and the store can be
rebuilt from the run folders: publish every study into an empty one. Only what a finished
checkpoint covers is published, so a run that goes on adds to its curves and repeats nothing.

Values that are not finite: NaN stays NaN, infinity becomes the largest number MLflow can hold, and
reads back as infinity by `harness.results.tables`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from harness.outputs.files import TrackingError, read_json, write_json
from harness.outputs.folder import RunFolder, studies
from harness.outputs.format_1 import trained_by
from harness.outputs.records import StudyRecord, StudyRow
from harness.results.folders import record_of
from harness.results.from_mlflow import (
    ENVIRONMENT_TAG,
    LEVEL_PARTS,
    SCORES_TAG,
    quiet_mlflow,
)
from harness.results.tables import RunRecord
from harness.training.settings.spec import digest

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Metric, Run

METRICS, PARAMETERS = 500, 100
"""Most in one call."""
LONGEST = 500
"""Characters of a parameter; the whole spec is among the files."""
ENDED: Mapping[str, str] = {
    "done": "FINISHED",
    "diverged": "FAILED",
    "out_of_memory": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}


def default_uri(outputs: Path) -> str:
    """The store of an outputs folder: sqlite, by an absolute path."""
    return f"sqlite:///{outputs.resolve() / 'mlflow.db'}"


def ui_command(outputs: Path, port: int = 5000, uri: str | None = None) -> list[str]:
    """The command that serves MLflow's page on a store (default: the outputs folder's own), to
    this machine only."""
    return [
        sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", uri or default_uri(outputs), "--workers", "1",
        "--default-artifact-root", (outputs.resolve() / "mlartifacts").as_uri(),
    ]  # fmt: skip


class Tracker:
    """The way into one tracking store. Making one creates the schema where there is none: do so
    before any worker starts."""

    def __init__(self, outputs: Path, uri: str | None = None) -> None:
        """Raises TrackingError, within seconds, where the store cannot be reached."""
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._mlflow = quiet_mlflow()
        self.outputs, self.uri = outputs.resolve(), uri or default_uri(outputs)
        # Beside a store in a file; a server says itself where files go.
        in_a_file = self.uri.startswith("sqlite:")
        self._files = (self.outputs / "mlartifacts").as_uri() if in_a_file else None
        self.outputs.mkdir(parents=True, exist_ok=True)
        try:
            self._client = self._mlflow.MlflowClient(tracking_uri=self.uri)
            self._client.search_experiments(max_results=1)
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise TrackingError(
                f"MLflow at {self.uri} cannot be used: {reason}. The run folders hold everything "
                "and can be published later"
            ) from error

    def publish(self, study: StudyRecord, keys: Iterable[str] | None = None) -> None:
        """Brings the store up to date. `keys`: train keys of the runs that changed, by default all
        of the study's."""
        experiment = self._experiment(study.name)
        parent = self._parent(experiment, study)
        rows: dict[str, list[StudyRow]] = {}
        for row in study.rows:
            rows.setdefault(row.run, []).append(row)
        for key in rows if keys is None else keys:
            folder = RunFolder(self.outputs, key)
            if folder.spec.exists():
                self._publish(experiment, parent, rows[key], folder)

    def publish_all(self) -> list[str]:
        """Every study of the outputs folder; their names. Rebuilds an empty store."""
        records = studies(self.outputs)
        for record in records.values():
            self.publish(record)
        return list(records)

    def log_report(self, study: str, folder: Path) -> None:
        """A study's report, beside its parent run."""
        experiment = self._experiment(study)
        parent = self._find(experiment, "tags.`fuselab.kind` = 'study'")
        if parent is None:
            raise TrackingError(f"study {study!r} is not in {self.uri}: publish it first")
        self._client.log_artifacts(parent.info.run_id, str(folder), "report")

    # -- experiments and runs

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found:
            return found.experiment_id
        return self._client.create_experiment(name, self._files and f"{self._files}/{name}")

    def _find(self, experiment: str, where: str) -> Run | None:
        return next(iter(self._client.search_runs([experiment], where, max_results=1)), None)

    def _parent(self, experiment: str, study: StudyRecord) -> str:
        run = self._find(experiment, "tags.`fuselab.kind` = 'study'")
        if run is None:
            tags = {"fuselab.kind": "study", "mlflow.note.content": study.question}
            run = self._client.create_run(experiment, tags=tags, run_name=study.name)
        content = study.as_json()
        if run.data.tags.get("fuselab.digest") != digest(content):
            self._files_of(run, {"study.json": content})
            self._client.set_tag(run.info.run_id, "fuselab.digest", digest(content))
        return run.info.run_id

    def _publish(
        self, experiment: str, parent: str, rows: Sequence[StudyRow], folder: RunFolder
    ) -> None:
        """One run: nothing where nothing changed, else what is new."""
        record, cells = record_of(folder), [row.cell for row in rows]
        told = digest([cells, _described(record)])
        run = self._find(experiment, f"tags.`fuselab.run` = '{folder.key}'")
        if run is None:
            seed = rows[0].seed
            tags = {"fuselab.kind": "run", "fuselab.run": folder.key, "mlflow.parentRunId": parent}
            name = f"{cells[0]}, seed {seed}"
            run = self._client.create_run(
                experiment, tags={**tags, "seed": str(seed)}, run_name=name
            )
        if run.data.tags.get("fuselab.digest") == told:
            return
        tags = {"status": record.status, "message": record.message, "cell": " | ".join(cells)}
        if record.status == "damaged":  # what was published before stays
            self._log(run, [], tags={**tags, "fuselab.digest": told})
            return
        self._log(run, _metrics(record, folder, int(run.data.tags.get("fuselab.step", -1))))
        self._files_of(run, _files(record, folder), record.curves)
        end = _milliseconds(folder.status().updated)
        if ended := ENDED.get(record.status):
            self._client.set_terminated(run.info.run_id, ended, end)
        else:
            self._client.update_run(run.info.run_id, "RUNNING")
        # The tags come last: what they vouch for is there.
        tags |= {
            **{SCORES_TAG: json.dumps(_about_scores(record)), **_environment(record)},
            **{"fuselab.digest": told, "fuselab.step": str(_last_step(record))},
        }
        params = {} if run.data.params else _parameters(folder)
        self._log(run, [], params, tags)

    def _log(
        self,
        run: Run,
        metrics: Sequence[Metric],
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Everything in as few calls as MLflow's limits allow."""
        entities, run_id = self._mlflow.entities, run.info.run_id
        for start in range(0, len(metrics), METRICS):
            self._client.log_batch(run_id, metrics[start : start + METRICS])
        pairs = [entities.Param(*pair) for pair in (params or {}).items()]
        for start in range(0, len(pairs), PARAMETERS):
            self._client.log_batch(run_id, params=pairs[start : start + PARAMETERS])
        if tags:
            self._client.log_batch(run_id, tags=[entities.RunTag(*pair) for pair in tags.items()])

    def _files_of(
        self, run: Run, files: Mapping[str, JsonValue], curves: pd.DataFrame | None = None
    ) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            for name, content in files.items():
                write_json(Path(scratch, name), content)
            if curves is not None:
                curves.to_parquet(Path(scratch, "curves.parquet"), index=False)
            self._client.log_artifacts(run.info.run_id, scratch)


def _metrics(record: RunRecord, folder: RunFolder, published: int) -> list[Metric]:
    """Measurements after the step published last, and final values; at the times they were made,
    because MLflow keeps one of several rows that agree in key, step, time and value."""
    from mlflow.entities import Metric

    curves = [
        Metric(name, value, _milliseconds(line.time), line.step)
        for line in folder.covered_lines()
        if line.step > published
        for name, value in line.values.items()
    ]
    when, step = _milliseconds(folder.status().updated), max(_last_step(record), 0)
    return curves + [Metric(name, value, when, step) for name, value in _final(record)]


def _final(record: RunRecord) -> Iterator[tuple[str, float]]:
    """Final values by the names of their metrics: `final/`, `level/` and `ledger/`."""
    for task in record.scores:
        for score in task.scores:
            yield f"final/{task.task}/{score.name}", score.value
        for level in task.levels:
            for part in LEVEL_PARTS:
                yield f"level/{task.task}/{level.name}/{part}", float(getattr(level, part))
    for field, value in record.ledger.items():
        yield f"ledger/{field}", value


def _about_scores(record: RunRecord) -> dict[str, JsonValue]:
    """What metrics cannot say of scores: task -> protocol, units, directions, names of levels."""
    return {
        task.task: {
            "protocol": task.protocol,
            "scores": [
                {key: value for key, value in dataclasses.asdict(score).items() if key != "value"}
                for score in task.scores
            ],
            "levels": [level.name for level in task.levels],
        }
        for task in record.scores
    }


def _environment(record: RunRecord) -> dict[str, str]:
    there = record.environment
    return {ENVIRONMENT_TAG: json.dumps(there.as_json())} if there else {}


def _described(record: RunRecord) -> dict[str, JsonValue]:
    """All that is published of a run, to tell whether anything changed."""
    return {
        **{"status": record.status, "message": record.message, "ledger": dict(record.ledger)},
        "scores": [task.as_json() for task in record.scores],
        "certificate": record.certificate.as_json() if record.certificate else None,
        "environment": record.environment.as_json() if record.environment else None,
        "curves": len(record.curves),
    }


def _last_step(record: RunRecord) -> int:
    return int(record.curves["step"].max()) if len(record.curves) else -1


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _files(record: RunRecord, folder: RunFolder) -> dict[str, JsonValue]:
    """The run's JSON files by name; the certificate with the batches up to the last checkpoint."""
    paths = [folder.spec, folder.status_file, folder.ledger, folder.graph, folder.environment]
    files = {path.name: read_json(path) for path in paths if path.exists()}
    scores = {f"scores/{task.task}.json": task.as_json() for task in record.scores}
    certificate = record.certificate
    return {
        **files,
        **scores,
        **({"certificate.json": certificate.as_json()} if certificate else {}),
    }


def _parameters(folder: RunFolder) -> dict[str, str]:
    """The spec, flat: `optimizer.learning_rate` and so on."""
    # What is asked of a run may differ between two studies that share it, and MLflow's parameters
    # cannot be changed: only what trains it is there.
    flat = _flat(trained_by(read_json(folder.spec)))
    return {path: str(value)[:LONGEST] for path, value in flat}


def _flat(value: JsonValue, path: str = "") -> Iterator[tuple[str, JsonValue]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else name)
    else:
        yield path, value
