"""Run folders, or MLflow, in; one tidy table out. The only reader of either; no torch.

Both readers give the same tables. Only what a finished checkpoint covers is read: measurements
after it are made again when the run goes on. `SCHEMA` and `CURVES` say what every column means.

    runs      one row for each cell and seed of the study, also where the run waits or failed
    curves    one row for each value measured, in the order measured
    digests   one row for each digest of a run's pairing certificate
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from harness.training.loop.ledger import Ledger

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


def curves_of(lines: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    rows = [
        (line["step"], line["samples"], line["seconds"], name, value)
        for line in lines
        for name, value in line["values"].items()
    ]
    table = pd.DataFrame(rows, columns=list(MEASURED))
    return table.astype({"step": int, "samples": int, "seconds": float, "value": float})


# -- from MLflow


# -- the tables


def assembled(
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
