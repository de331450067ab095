"""Results read from MLflow: final values by one search, curves from artifacts."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from architectures.frozen import SettingError, nearest
from harness.outputs.folder import read_json
from harness.results.tables import Record, Results, assembled

if TYPE_CHECKING:
    from mlflow.entities import Run


def quiet_mlflow() -> ModuleType:
    """mlflow, told to send nothing, and to give up on a dead server within seconds."""
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    quiet = {"LOGGING_LEVEL": "WARNING", "ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    brief = {"HTTP_REQUEST_TIMEOUT": "10", "HTTP_REQUEST_MAX_RETRIES": "1"}
    for name, value in (quiet | brief).items():
        os.environ.setdefault(f"MLFLOW_{name}", value)
    import mlflow

    return mlflow


def load_from_mlflow(uri: str, study: str) -> Results:
    """The same from a tracking store: final values by one search, curves from artifacts.

    Raises SettingError where the store does not hold the study.
    """
    mlflow = quiet_mlflow()
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        raise nearest(study, [e.name for e in client.search_experiments()], f"study in {uri}")
    runs = _search(client, experiment.experiment_id)
    with tempfile.TemporaryDirectory() as scratch:

        def fetch(run: Run, name: str) -> Path:
            # Copies nothing where the artifacts lie on this machine.
            where = f"{run.info.artifact_uri}/{name}"
            return Path(
                mlflow.artifacts.download_artifacts(where, dst_path=scratch, tracking_uri=uri)
            )

        parents = [run for run in runs if run.data.tags.get("fuselab.kind") == "study"]
        if not parents:
            raise SettingError(
                f"study {study!r} in {uri} was not published whole: publish it again"
            )
        asked = read_json(fetch(parents[0], "study.json"))
        children = {run.data.tags.get("fuselab.run"): run for run in runs}
        keys = dict.fromkeys(row["run"] for row in asked["rows"])

        def graph_of(key: str) -> Mapping[str, Any]:
            try:
                return read_json(fetch(children[key], "graph.json")) if key in children else {}
            except (OSError, mlflow.exceptions.MlflowException):
                return {}  # it ended before its model was built

        return assembled(
            asked,
            {k: _published(children[k], fetch) if k in children else Record() for k in keys},
            graph_of,
        )


def _search(client: Any, experiment: str) -> list[Run]:
    """Every run of an experiment."""
    page = client.search_runs([experiment], max_results=1000)
    runs = list(page)
    while page.token:
        page = client.search_runs([experiment], max_results=1000, page_token=page.token)
        runs += page
    return runs


def _published(run: Run, fetch: Callable[[Run, str], Path]) -> Record:
    tags = run.data.tags
    protocol = "protocol."
    return Record(
        status=tags["status"],
        message=tags["message"],
        values={
            column_of(name): _unbounded(value)
            for name, value in run.data.metrics.items()
            if column_of(name)
        },
        protocols={k.removeprefix(protocol): v for k, v in tags.items() if k.startswith(protocol)},
        certificate=read_json(fetch(run, "certificate.json")),
        curves=pd.read_parquet(fetch(run, "curves.parquet")),
    )


def metric_of(column: str) -> str:
    """The MLflow metric that holds a column of final values: `final/`, `level/` or `ledger/`.

    >>> metric_of("retrieval/mean_recall"), metric_of("ledger.steps")
    ('final/retrieval/mean_recall', 'ledger/steps')
    """
    if column.startswith(("level.", "ledger.")):
        return column.replace(".", "/")
    return f"final/{column}"


def column_of(metric: str) -> str:
    """The column of a metric; empty for a curve.

    >>> column_of("level/retrieval/r_at_1/items"), column_of("val/loss")
    ('level.retrieval.r_at_1.items', '')
    """
    kind, _, rest = metric.partition("/")
    if kind in ("level", "ledger"):
        return metric.replace("/", ".")
    return rest if kind == "final" else ""


def _unbounded(value: float) -> float:
    """MLflow keeps the largest number in place of infinity."""
    return float(np.copysign(np.inf, value)) if abs(value) >= sys.float_info.max else float(value)
