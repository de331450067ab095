"""Turns what is published of a run into MLflow's metrics, parameters, tags and files."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from harness.outputs.files import read_json
from harness.outputs.folder import RunFolder
from harness.outputs.measured import MeasuredLine
from harness.outputs.records import DamagedFile
from harness.results.from_mlflow import ENVIRONMENT_TAG, LEVEL_PARTS, PARTS_TAG, part_tag
from harness.results.tables import RunRecord
from harness.training.settings.spec import digest

if TYPE_CHECKING:
    from mlflow.entities import Metric

LONGEST = 500
"""Characters of a parameter; the whole spec is among the files."""
LONGEST_NAME = 150
"""Characters of a cell's name in names of tags and metrics, which have 250 at most."""
LONGEST_TAG = 7_000
"""Characters of a tag: MLflow cuts what is longer than 8,000."""
POINTS = 100
"""Of a curve, in the store: a picture shows no more, and the store stays small."""


def metrics_of(
    record: RunRecord, folder: RunFolder, published: int, finetuned: Collection[str] = ()
) -> list[Metric]:
    """Returns measurements after the step published last, those of fine-tuning that were not
    published (`finetuned`: keys of those that were), and final values; at the times they were made,
    because MLflow keeps one of several rows that agree in key, step, time and value. Of more than
    `POINTS` every so many, and the newest of each curve: `curves.parquet` has all."""
    from mlflow.entities import Metric

    new = [scores for scores in record.scores if scores.finetuning not in finetuned]
    curves = _curves(_lines(folder.covered_lines), published)
    curves += _curves(_lines(lambda: folder.finetuned_lines(new)), -1)
    when, step = milliseconds(folder.recovered_status().updated), max(record.last_step, 0)
    return curves + [Metric(name, value, when, step) for name, value in _final(record)]


def history(run_id: str, metrics: Iterable[Metric]) -> list[tuple[str, float, int, str, int, bool]]:
    """Returns metrics as rows of MLflow's table: 0 beside a mark stands for NaN, the largest number
    for infinity."""
    largest = sys.float_info.max
    rows = []
    for m in metrics:
        nan = math.isnan(m.value)
        value = 0.0 if nan else max(-largest, min(m.value, largest))
        rows.append((m.key, value, m.timestamp, run_id, m.step, nan))
    return rows


def finetunings_of(record: RunRecord) -> str:
    """Returns the keys of a run's fine-tunings, as a tag says which are published."""
    return " ".join(sorted({scores.finetuning for scores in record.scores} - {""}))


def _curves(lines: Sequence[MeasuredLine], published: int) -> list[Metric]:
    from mlflow.entities import Metric

    stride = -(-len(lines) // POINTS)
    newest = {name: line for line in lines for name in line.values}
    return [
        Metric(name, value, milliseconds(line.time), line.step)
        for place, line in enumerate(lines)
        if line.step > published
        for name, value in line.values.items()
        if place % stride == 0 or newest[name] is line
    ]


def _lines(read: Callable[[], list[MeasuredLine]]) -> list[MeasuredLine]:
    """Returns measured lines; none where the file is damaged, which the run's row says."""
    try:
        return read()
    except DamagedFile:
        return []


def metric_name(cell: str) -> str:
    """Returns a cell's name as MLflow takes it in names of tags and metrics, which are short: of a
    long one its beginning and what tells it from others."""
    name = re.sub(r"[^\w\-. :/]", "_", cell)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 17]}-{digest(cell)}"


def json_or_empty(path: Path) -> dict[str, Any]:
    """Returns the content of a JSON file; empty where there is none or it is damaged."""
    try:
        return read_json(path)
    except (ValueError, OSError):
        return {}


def _final(record: RunRecord) -> Iterator[tuple[str, float]]:
    """Returns final values by the names of their metrics: `final/`, `level/` and `ledger/`."""
    for task in record.scores:
        for score in task.with_seconds:
            yield f"final/{task.task}/{score.name}", score.value
        for level in task.levels:
            for part in LEVEL_PARTS:
                yield f"level/{task.task}/{level.name}/{part}", float(getattr(level, part))
    for field, value in record.ledger.items():
        yield f"ledger/{field}", value


def _about_scores(record: RunRecord) -> dict[str, JsonValue]:
    """Says of scores what metrics cannot: task -> protocol, units, directions, names of levels."""
    return {
        task.task: {
            "protocol": task.protocol,
            "scores": [
                {key: value for key, value in dataclasses.asdict(score).items() if key != "value"}
                for score in task.with_seconds
            ],
            "levels": [level.name for level in task.levels],
        }
        for task in record.scores
    }


def _environment(record: RunRecord) -> dict[str, str]:
    there = record.environment
    return {ENVIRONMENT_TAG: json.dumps(there.as_json())} if there else {}


def tags_of(record: RunRecord) -> dict[str, str]:
    """Returns what metrics cannot say, as JSON in tags."""
    about = json.dumps(_about_scores(record))
    parts = [about[start : start + LONGEST_TAG] for start in range(0, len(about), LONGEST_TAG)]
    numbered = {part_tag(number): part for number, part in enumerate(parts)}
    return {**numbered, PARTS_TAG: str(len(parts)), **_environment(record)}


def described(record: RunRecord) -> dict[str, JsonValue]:
    """Returns all that is published of a run, to tell whether anything changed."""
    return {
        **{"status": record.status, "message": record.message, "ledger": dict(record.ledger)},
        "scores": [task.as_json() for task in record.scores],
        "certificate": record.certificate.as_json() if record.certificate else None,
        "environment": record.environment.as_json() if record.environment else None,
        "curves": len(record.curves),
    }


def milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def files_of(record: RunRecord, folder: RunFolder) -> dict[str, Any]:
    """Returns a run's JSON files by name; its certificate has batches up to the last checkpoint."""
    paths = [folder.spec, folder.status_file, folder.ledger, folder.graph, folder.environment]
    files = {path.name: json_or_empty(path) for path in paths if path.exists()}
    scores = {f"scores/{task.task}.json": task.as_json() for task in record.scores}
    certificate = record.certificate
    return {
        **files,
        **scores,
        **({"certificate.json": certificate.as_json()} if certificate else {}),
    }


def parameters_of(folder: RunFolder) -> dict[str, str]:
    """Returns what trains the run, flat: `optimizer.learning_rate` and so on. What is asked of it
    may differ between two studies that share it, and MLflow's parameters cannot be changed."""
    flat = _flat(json_or_empty(folder.spec).get("train", {}))
    return {path: str(value)[:LONGEST] for path, value in flat}


def _flat(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else name)
    else:
        yield path, value
