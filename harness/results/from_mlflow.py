"""Reads results from MLflow: final values by one search, curves and digests from artifacts."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import pandas as pd
from pydantic import JsonValue

from architectures.frozen import SettingError, nearest
from harness.outputs.files import read_json
from harness.outputs.format_1 import score_of
from harness.outputs.records import (
    Certificate,
    Environment,
    ScoresRecord,
    StudyRecord,
)
from harness.results.curves import MEASURED
from harness.results.tables import Graph, Results, RunRecord, assembled, no_rows

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SCORES_TAG, ENVIRONMENT_TAG = "fuselab.scores", "fuselab.environment"
"""Tags that hold, as JSON, what the metrics' names do not say of scores, and the environment."""
READS_TAG = "fuselab.read_at"
"""Tag of a study that holds at which numbers of seeds its verdicts were read."""
PARTS_TAG = f"{SCORES_TAG}.parts"
"""Over how many tags the first of them is divided, since a tag is short; none: one."""


def reads_of(tags: Mapping[str, str]) -> tuple[int, ...]:
    """Returns at which numbers of seeds a study was read, by the tags of its parent run."""
    return tuple(map(int, tags.get(READS_TAG, "").split()))


def part_tag(number: int) -> str:
    """Returns the name of a part's tag, counted from 0."""
    return f"{SCORES_TAG}.{number}" if number else SCORES_TAG


class AboutScores(TypedDict):
    """AboutScores holds what metrics do not say of a task's scores."""

    protocol: str
    scores: list[dict[str, JsonValue]]
    """Every score but its value."""
    levels: list[str]
    """Names."""


def quiet_mlflow() -> ModuleType:
    """Returns mlflow, told to send nothing, and to give up on a dead server within seconds."""
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    quiet = {"LOGGING_LEVEL": "WARNING", "ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    brief = {"HTTP_REQUEST_TIMEOUT": "10", "HTTP_REQUEST_MAX_RETRIES": "1"}
    for name, value in (quiet | brief).items():
        os.environ.setdefault(f"MLFLOW_{name}", value)
    import mlflow

    return mlflow


def load_from_mlflow(uri: str, study: str) -> Results:
    """Reads the results of a study from a tracking store; the same tables as from its run folders.

    Raises SettingError where the store does not hold the study.
    """
    mlflow = quiet_mlflow()
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        raise nearest(study, [e.name for e in client.search_experiments()], f"study in {uri}")
    runs = all_runs(client, experiment.experiment_id)
    with tempfile.TemporaryDirectory() as scratch:

        def fetch(run: Run, name: str) -> Path:
            # Copies nothing where the artifacts lie on this machine.
            where = f"{run.info.artifact_uri}/{name}"
            return Path(
                mlflow.artifacts.download_artifacts(where, dst_path=scratch, tracking_uri=uri)
            )

        def there(run: Run, name: str) -> Path | None:
            """Returns what `fetch` does; None where the run has no such artifact."""
            try:
                return fetch(run, name)
            except (OSError, mlflow.exceptions.MlflowException):
                return None

        parents = [run for run in runs if run.data.tags.get("fuselab.kind") == "study"]
        if not parents:
            raise SettingError(
                f"study {study!r} in {uri} was not published whole: publish it again"
            )
        study_record = StudyRecord.read(fetch(parents[0], "study.json"))
        children = {run.data.tags.get("fuselab.run"): run for run in runs}

        def graph_of(key: str) -> Graph:
            path = there(children[key], "graph.json") if key in children else None
            return read_json(path) if path else {}  # none: it ended before its model was built

        records = {
            key: _published(children[key], there) if key in children else RunRecord()
            for key in study_record.keys
        }
        results = assembled(study_record, records, graph_of)
        return dataclasses.replace(results, read_at=reads_of(parents[0].data.tags))


def all_runs(client: MlflowClient, experiment: str) -> list[Run]:
    """Returns every run of an experiment."""
    page = client.search_runs([experiment], max_results=1000)
    runs = list(page)
    while page.token:
        page = client.search_runs([experiment], max_results=1000, page_token=page.token)
        runs += page
    return runs


def _published(run: Run, there: Callable[[Run, str], Path | None]) -> RunRecord:
    tags, metrics = run.data.tags, run.data.metrics
    curves = there(run, "curves.parquet")
    environment = tags.get(ENVIRONMENT_TAG)
    return RunRecord(
        status=tags["status"],
        message=tags["message"],
        ledger={
            name.removeprefix("ledger/"): _unbounded(value)
            for name, value in metrics.items()
            if name.startswith("ledger/")
        },
        scores=_scores(tags, metrics),
        certificate=_certificate(there(run, "certificate.json")),
        environment=Environment.of(json.loads(environment)) if environment else None,
        curves=pd.read_parquet(curves) if curves else no_rows(MEASURED),
    )


def _certificate(path: Path | None) -> Certificate | None:
    """Returns the certificate of a run; None where the run ended before it had one."""
    if path is None or not read_json(path):
        return None
    return Certificate.read(path)


def _scores(tags: Mapping[str, str], metrics: Mapping[str, float]) -> tuple[ScoresRecord, ...]:
    """Returns scores whose values are metrics, and whose units and protocols stand in a tag."""
    parts = [tags.get(part_tag(number), "") for number in range(int(tags.get(PARTS_TAG, "1")))]
    about_all = "".join(parts)  # empty in format 1, where names had to say it
    described = json.loads(about_all) if about_all else _by_names(tags, metrics)
    records = []
    for task, about in described.items():
        scores: list[JsonValue] = [
            {**score, "value": _unbounded(metrics[f"final/{task}/{score['name']}"])}
            for score in about["scores"]
        ]
        levels: list[JsonValue] = [
            {"name": level}
            | {part: metrics[f"level/{task}/{level}/{part}"] for part in LEVEL_PARTS}
            for level in about["levels"]
        ]
        records.append(
            ScoresRecord.of(
                {
                    **{"format": 2, "task": task, "protocol": about["protocol"]},
                    **{"scores": scores, "levels": levels},
                }
            )
        )
    return tuple(records)


LEVEL_PARTS = ("successes", "items", "chance")


def _by_names(tags: Mapping[str, str], metrics: Mapping[str, float]) -> dict[str, AboutScores]:
    described: dict[str, AboutScores] = {}
    for name in metrics:
        kind, _, rest = name.partition("/")
        task, _, what = rest.partition("/")
        if kind not in ("final", "level"):
            continue
        protocol = tags.get(f"protocol.{task}", "")
        about = described.setdefault(task, {"protocol": protocol, "scores": [], "levels": []})
        if kind == "final":
            about["scores"].append(score_of(what, 0.0, protocol))
        elif what.endswith("/items"):
            about["levels"].append(what.removesuffix("/items"))
    return described


def _unbounded(value: float) -> float:
    """MLflow keeps the largest number in place of infinity."""
    return float(np.copysign(np.inf, value)) if abs(value) >= sys.float_info.max else float(value)
