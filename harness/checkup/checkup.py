"""Examines all of an outputs folder or one study of it, part by part, and mends what is safe."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from architectures.frozen import SettingError, nearest
from harness.checkup.machine import machine
from harness.checkup.tensors import states, tensors
from harness.outputs import doctor
from harness.outputs.copies import shown
from harness.outputs.doctor import Examined, Fault, spec_of
from harness.outputs.files import TrackingError
from harness.outputs.folder import RunFolder
from harness.outputs.records import DamagedFile, StudyRecord
from harness.results.folders import load
from harness.results.pairing import pairing
from harness.results.tables import Results


def examined(outputs: Path, study: str = "", tracking: str | None = None) -> Iterator[Examined]:
    """Yields what was examined, cheap parts first. `study`: that study's runs alone; empty: all.

    Nothing is changed. Raises `SettingError` where there is no such study.
    """
    yield doctor.half_written(outputs)
    every, all_studies = doctor.study_records(outputs)
    if study and study not in every and not (outputs / "studies" / study).is_dir():
        raise nearest(study, every, f"study under {shown(outputs / 'studies')} (option --outputs)")
    studies, seen = doctor.study_records(outputs, study) if study else (every, all_studies)
    yield seen
    keys = _keys(outputs, studies, study)
    yield doctor.records(outputs, keys)
    yield states(outputs, keys)
    yield doctor.orphans(outputs, every)
    yield doctor.entries(outputs)
    yield tensors(outputs, keys)
    yield machine(outputs, keys)
    for name, record in studies.items():
        results = load(outputs, name)
        yield _paired(results)
        yield _tracked(outputs, record, results, tracking)


def _keys(outputs: Path, studies: Mapping[str, StudyRecord], study: str) -> list[str]:
    """Returns the runs to look at: those of the studies, and all that have a folder where no study
    is named."""
    asked = [key for record in studies.values() for key in record.keys]
    there = sorted(path.name for path in outputs.glob("runs/*") if path.is_dir())
    return list(dict.fromkeys(asked if study else [*asked, *there]))


def _paired(results: Results) -> Examined:
    findings = pairing(results)
    broken = tuple(
        Fault(text=finding.text, remedy="a comparison of these runs proves nothing")
        for finding in findings
        if not finding.ok
    )
    counts = results.runs["status"].value_counts(sort=False)
    notes = [f"{n} runs are {status}" for status, n in counts.items() if status != "done"]
    seen = f"{len(findings)} findings of the certificate"
    part = f"pairing of {results.study.name}"
    return Examined(part=part, seen=seen, faults=broken, notes=tuple(notes))


def _tracked(
    outputs: Path, record: StudyRecord, results: Results, tracking: str | None
) -> Examined:
    """Compares states and final scores in the tracking store with those of the run folders."""
    from harness.results.from_mlflow import load_from_mlflow
    from harness.results.store import default_uri, opened
    from harness.results.to_mlflow import Tracker

    def publish() -> str:
        Tracker(outputs, tracking).publish(record)
        return f"published {record.name}"

    part, uri = f"tracking of {record.name}", tracking or default_uri(outputs)
    remedy = f"`fuselab publish {record.name}` writes it anew from the run folders"
    try:
        opened(outputs, uri, create=False)
        stored = load_from_mlflow(uri, record.name)
    except (TrackingError, SettingError, ValueError, KeyError) as error:
        why = f"the tracking store cannot be read: {str(error).partition(chr(10))[0]}"
        fault = Fault(text=why, remedy=remedy, cure=publish)
        return Examined(part=part, seen="the store", faults=(fault,))
    behind = _said(results) != _said(stored)
    text = "the tracking store says other states or scores than the run folders"
    faults = (Fault(text=text, remedy=remedy, cure=publish),) if behind else ()
    return Examined(part=part, seen=f"{len(results.scores)} scores", faults=faults)


def _said(results: Results) -> set[tuple[str, ...]]:
    """Returns the state of every run that has a folder, and every final score, as texts."""
    states = results.runs[results.runs["status"] != "waiting"][["run", "status"]]
    scores = results.scores[["run", "task", "score", "value"]]
    return {*_rows(states), *_rows(scores)}


def _rows(table: pd.DataFrame) -> set[tuple[str, ...]]:
    return {tuple(map(repr, row)) for row in table.itertuples(index=False)}


def mended(faults: Iterator[Fault]) -> Iterator[str]:
    """Mends what can be mended, and yields what was done."""
    for fault in faults:
        if fault.cure:
            try:
                yield fault.cure()
            except (OSError, ValueError, RuntimeError) as error:
                yield f"not mended: {fault.text} ({error})"


def done_again(outputs: Path, study: str, steps: int) -> Examined:
    """Does steps of one of the study's runs again, chosen at random among those that measured
    anything, and compares bits. See `again.again`. `study`: empty for any run."""
    from harness.checkup.again import again

    records, _ = doctor.study_records(outputs, study)
    wanted = list(dict.fromkeys(key for record in records.values() for key in record.keys))
    folders = [RunFolder(outputs, key) for key in wanted]
    measured = [folder for folder in folders if folder.weights_digest.exists()]
    measured = measured or [folder for folder in folders if folder.metrics.exists()]
    if not measured:
        raise SettingError("--rerun: no run has measured anything yet")
    folder = random.choice(measured)
    label = next(
        f"{record.name}/{row.cell}/{row.seed}"
        for record in records.values()
        for row in record.rows
        if row.run == folder.key
    )
    try:
        if (spec := spec_of(folder)) is None:
            raise SettingError("it has no spec.json")
        came = again(spec, outputs, steps)
    except (ValueError, DamagedFile) as error:  # what it needs is gone or torn
        fault = Fault(text=f"{label}: {error}", remedy="no step of it can be done again")
        return Examined(part="done again", seen="nothing", faults=(fault,))
    seen = (
        f"{label}: steps {came.first} to {came.last}, {came.values} values of curves and "
        f"{came.digests} digests of batches"
    )
    why = "the sources that train have changed since" if came.other_code else "see the machine"
    faults = tuple(
        Fault(text=f"{label}, {text}", remedy=f"the run cannot be had again here: {why}")
        for text in came.differences
    )
    notes = ("the sources that train have changed since, and give the same",) * (
        came.other_code and not faults
    )
    return Examined(part="done again", seen=seen, faults=faults, notes=notes)
