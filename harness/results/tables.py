"""Run folders, or MLflow, in; one tidy table out. The only reader of either; no torch.

Both readers give the same tables. Only what a finished checkpoint covers is read: measurements
after it are made again when the run goes on. `SCHEMA` and `CURVES` say what every column means.

    runs      one row for each cell and seed of the study, also where the run waits or failed
    curves    one row for each value measured, in the order measured
    digests   one row for each digest of a run's pairing certificate
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from architectures.frozen import SettingError, nearest
from harness.outputs.folder import RunFolder, read_json
from harness.results.pairing import Finding, pairing
from harness.training.loop.budget import Ledger

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = [
    "CURVES", "DIGESTS", "SCHEMA", "Finding", "Record", "Results", "column_of", "covered_lines",
    "load", "load_from_mlflow", "metric_of", "pairing", "quiet_mlflow", "record_of",
]  # fmt: skip

SCHEMA = {
    "study": "name of the study",
    "cell": "name of the cell; a cell and a seed make a row",
    "role": "compared, or floor: shown beside the contrasts",
    "seed": "training seed, the block of the analysis",
    "run": "train key; names the run folder; cells that ask for the same share it",
    "status": "waiting, running, done, diverged, out_of_memory, failed or interrupted",
    "message": "why, for a run that did not end well; at most 500 characters",
    "design": "name in the registry",
    "config.<field>": "field of the design's config, defaults written out",
    "set.<path>": "the study's setting that this cell changes",
    "not_applicable": "objectives and tasks that the design cannot serve, with the reason",
    "text_layers": "layers of text alone",
    "fusion_layers": "layers in which image and text meet",
    "itc_reads": "which states the ITC heads read",
    "<task>/<value>": "final score",
    "<task>/protocol": "how the task was answered",
    "level.<task>.<name>.successes": "items answered correctly",
    "level.<task>.<name>.items": "items asked",
    "level.<task>.<name>.chance": "share of them that guessing, or the majority answer, gets right",
    "ledger.<field>": "what was spent, see `harness.training.loop.budget.Ledger`",
    "batches": "digest chain of all batches fed up to the last checkpoint",
    "code": "digest of the training sources",
}
CURVES = {
    "study": "name of the study",
    "cell": "name of the cell",
    "role": "compared or floor",
    "run": "train key",
    "seed": "training seed",
    "step": "optimizer steps made",
    "samples": "image-caption pairs seen",
    "seconds": "training seconds, without start-up, measuring and scoring",
    "name": "what was measured, as val/itm_accuracy",
    "value": "the value; not finite where the run diverged",
}
DIGESTS = {
    "run": "train key",
    "kind": "batches: the chain at a measured step; roles: the initial weights of a role",
    "name": "the step, or the role",
    "digest": "hexadecimal",
    "size": "roles: how many parameters",
    "drawn_as": "roles: what it starts as: itself, its slot's source, or part of a whole model",
}
MEASURED = ("step", "samples", "seconds", "name", "value")
FACTS = ("text_layers", "fusion_layers", "itc_reads")
LONGEST_MESSAGE = 500


@dataclasses.dataclass(frozen=True)
class Results:
    """A study and what became of it."""

    study: dict[str, Any]
    """`study.json`: the study as asked under `study`, its cells and seeds under `rows`."""
    runs: pd.DataFrame
    """Columns of SCHEMA."""
    curves: pd.DataFrame
    """Columns of CURVES."""
    digests: pd.DataFrame = dataclasses.field(
        default_factory=lambda: pd.DataFrame(columns=list(DIGESTS))
    )
    """Columns of DIGESTS."""
    graphs: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Cell -> its design as a graph (`architectures.views.graph`), of cells with a built run."""


@dataclasses.dataclass(frozen=True)
class Record:
    """What one run has to say, wherever it was read."""

    status: str = "waiting"
    message: str = ""
    values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Columns `<task>/<value>`, `level...` and `ledger...`."""
    protocols: Mapping[str, str] = dataclasses.field(default_factory=dict)
    certificate: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    curves: pd.DataFrame = dataclasses.field(
        default_factory=lambda: pd.DataFrame(columns=list(MEASURED))
    )


def load(outputs: Path, study: str) -> Results:
    """The results of a study from its run folders. Raises SettingError for an unknown study."""
    path = outputs / "studies" / study / "study.json"
    if not path.exists():
        known = sorted(p.parent.name for p in outputs.glob("studies/*/study.json"))
        raise nearest(study, known, f"study under {outputs / 'studies'}")
    asked = read_json(path)
    keys = dict.fromkeys(row["run"] for row in asked["rows"])
    folders = {key: RunFolder(outputs, key) for key in keys}
    records = {key: record_of(folder) for key, folder in folders.items()}
    return _results(asked, records, lambda key: read_json(folders[key].graph, {}))


def record_of(folder: RunFolder) -> Record:
    """What a run folder says, up to its last checkpoint."""
    status = folder.status()
    covered = status.get("checkpoint_step", -1)
    found = {path.stem: read_json(path) for path in sorted(folder.scores.glob("*.json"))}
    scores = {f"{task}/{k}": v for task, s in found.items() for k, v in s["values"].items()}
    levels = {
        f"level.{task}.{name}.{k}": v
        for task, s in found.items()
        for name, level in s["levels"].items()
        for k, v in level.items()
    }
    ledger = {f"ledger.{k}": v for k, v in read_json(folder.ledger, {}).items()}
    certificate = read_json(folder.certificate, {})
    chain = certificate.get("batches", {})
    batches = {step: digest for step, digest in chain.items() if int(step) <= covered}
    return Record(
        status=status["state"],
        message=status["message"][:LONGEST_MESSAGE],
        values={k: float(v) for k, v in (scores | levels | ledger).items()},
        protocols={task: s["protocol"] for task, s in found.items() if "protocol" in s},
        certificate=certificate | {"batches": batches},
        curves=_curves(covered_lines(folder)),
    )


def covered_lines(folder: RunFolder) -> list[dict[str, Any]]:
    """Measurements up to the last checkpoint, in order."""
    covered = folder.status().get("checkpoint_step", -1)
    return [line for line in folder.metric_lines() if line["step"] <= covered]


def _curves(lines: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    rows = [
        (line["step"], line["samples"], line["seconds"], name, value)
        for line in lines
        for name, value in line["values"].items()
    ]
    table = pd.DataFrame(rows, columns=list(MEASURED))
    return table.astype({"step": int, "samples": int, "seconds": float, "value": float})


# -- from MLflow


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

        return _results(
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


# -- the tables


def _results(
    asked: dict[str, Any],
    records: Mapping[str, Record],
    graph_of: Callable[[str], Mapping[str, Any]],
) -> Results:
    """`graph_of`: key of a run -> its graph, empty where there is none."""
    name, rows = asked["study"]["name"], asked["rows"]
    runs = pd.DataFrame([_row(name, row, records[row["run"]]) for row in rows])
    always = [column for column in SCHEMA if "<" not in column]
    numbers = [asked["study"]["primary"]]
    numbers += [f"ledger.{field.name}" for field in dataclasses.fields(Ledger)]
    runs = runs.reindex(columns=list(dict.fromkeys([*always, *sorted(runs.columns), *numbers])))
    return Results(
        study=asked,
        runs=runs.astype(dict.fromkeys(numbers, float)),
        curves=_all_curves(name, rows, records),
        digests=_digests(records),
        graphs=_graphs(rows, graph_of),
    )


def _graphs(
    rows: Iterable[Mapping[str, Any]], graph_of: Callable[[str], Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Of every cell the first graph that there is: its seeds have the same."""
    found: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["cell"] not in found and (graph := graph_of(row["run"])):
            found[row["cell"]] = graph
    return found


def _row(study: str, row: Mapping[str, Any], record: Record) -> dict[str, Any]:
    facts = record.certificate.get("facts", {})
    chain = record.certificate.get("batches", {})
    why_not = row["not_applicable"].items()
    return {
        **{"study": study, "status": record.status, "message": record.message},
        **{name: row[name] for name in ("cell", "role", "seed", "run", "design")},
        **{f"config.{field}": value for field, value in row["config"].items()},
        **{f"set.{path}": value for path, value in row["settings"].items()},
        "not_applicable": "; ".join(f"{what}: {why}" for what, why in why_not),
        **{name: facts.get(name) for name in FACTS},
        **record.values,
        # A run does not know that its settings were tuned; the study does.
        "ledger.tuning_trials": row["tuning"]["trials"],
        "ledger.tuning_seconds": row["tuning"]["device_seconds"],
        **{f"{task}/protocol": protocol for task, protocol in record.protocols.items()},
        "batches": chain[max(chain, key=int)] if chain else None,
        "code": record.certificate.get("code"),
    }


def _all_curves(
    study: str, rows: Iterable[Mapping[str, Any]], records: Mapping[str, Record]
) -> pd.DataFrame:
    tables = [
        records[row["run"]].curves.assign(
            study=study, **{k: row[k] for k in ("cell", "role", "run", "seed")}
        )
        for row in rows
        if len(records[row["run"]].curves)
    ]
    return (
        pd.concat(tables, ignore_index=True)[list(CURVES)]
        if tables
        else pd.DataFrame(columns=list(CURVES))
    )


def _digests(records: Mapping[str, Record]) -> pd.DataFrame:
    rows = [
        (
            run,
            kind,
            name,
            digest,
            record.certificate.get("sizes", {}).get(name, 0),
            record.certificate.get("drawn_as", {}).get(name, name),
        )
        for run, record in records.items()
        for kind in ("batches", "roles")
        for name, digest in record.certificate.get(kind, {}).items()
    ]
    return pd.DataFrame(rows, columns=list(DIGESTS))
