"""Reads results from run folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from architectures.frozen import nearest
from harness.outputs.copies import shown
from harness.outputs.files import read_json
from harness.outputs.folder import RunFolder, study_file
from harness.outputs.measured import MeasuredLine
from harness.outputs.reads import read_at
from harness.outputs.records import (
    Certificate,
    DamagedFile,
    Environment,
    LedgerRecord,
    ScoresRecord,
    Status,
    StudyRecord,
    StudyRow,
    read_if_there,
)
from harness.results.curves import curves_of
from harness.results.tables import (
    LONGEST_MESSAGE,
    Graph,
    Results,
    RunRecord,
    assembled,
)

T = TypeVar("T")


def study_record(outputs: Path, study: str) -> StudyRecord:
    """Reads a study as it was asked. Raises SettingError for an unknown one, and `DamagedFile`."""
    try:
        return StudyRecord.read(study_file(outputs, study))
    except FileNotFoundError:
        names = sorted(path.parent.name for path in outputs.glob("studies/*/study.json"))
        raise nearest(
            study, names, f"study under {shown(outputs / 'studies')} (option --outputs)"
        ) from None


def load(outputs: Path, study: str) -> Results:
    """Reads the results of a study from its run folders. Raises SettingError for an unknown study.

    A run of which a file is damaged is a row that says so, with the file and what to do. Raises
    `DamagedFile` where it is the study, or who read its report.
    """
    record = study_record(outputs, study)
    folders = {key: RunFolder(outputs, key) for key in record.keys}
    run_records = {key: record_of(folder) for key, folder in folders.items()}
    results = assembled(record, run_records, lambda key: graph_of(folders[key]))
    return dataclasses.replace(results, read_at=read_at(outputs, study))


def record_of(folder: RunFolder) -> RunRecord:
    """Returns what a run folder says, up to its last checkpoint."""
    damage: list[str] = []

    def read(reader: Callable[[], T], instead: T) -> T:
        try:
            return reader()
        except DamagedFile as error:
            damage.append(str(error))
            return instead

    status = read(folder.status, Status())
    lines = read(lambda: folder.covered_lines(status), list[MeasuredLine]())
    certificate = read(lambda: read_if_there(Certificate, folder.certificate), None)
    ledger = read(lambda: read_if_there(LedgerRecord, folder.ledger), None)
    scores = read(folder.score_records, list[ScoresRecord]())
    finetuned = read(lambda: folder.finetuned_lines(scores), list[MeasuredLine]())
    tasks = read(lambda: folder.finetuned_ledgers(scores), list[LedgerRecord]())
    environment = read(lambda: read_if_there(Environment, folder.environment), None)
    if certificate:
        batches = batches_of(lines) or certificate.batches
        covered = {step: x for step, x in batches.items() if step <= status.checkpoint_step}
        certificate = certificate.model_copy(update={"batches": covered})
    return RunRecord(
        status="damaged" if damage else status.state,
        message=(damage[0] if damage else _message(status, scores))[:LONGEST_MESSAGE],
        ledger=_numbers(ledger, tasks),
        scores=tuple(scores),
        certificate=certificate,
        environment=environment,
        curves=curves_of([*lines, *finetuned]),
        last_step=max((line.step for line in lines), default=-1),
    )


def batches_of(lines: Sequence[MeasuredLine]) -> dict[int, str]:
    """Returns step -> digest chain of all batches fed up to it, in the order of steps: at measured
    steps, and at those that every run keeps."""
    chains = {line.step: line.chain for line in lines if line.chain}
    for line in lines:
        chains |= line.chains
    return dict(sorted(chains.items()))


def states_of(outputs: Path, study: str) -> list[tuple[StudyRow, Status]]:
    """Says how far every run of a study is, without reading what it measured. Raises SettingError
    for an unknown study. A damaged status is one that says so."""
    record = study_record(outputs, study)
    statuses = {key: RunFolder(outputs, key).recovered_status() for key in record.keys}
    return [(row, statuses[row.run]) for row in record.rows]


def _message(status: Status, scores: Sequence[ScoresRecord]) -> str:
    """Says why a run did not end well; of one that is done, which scores failed."""
    failures = [f"{record.task} failed: {record.failure}" for record in scores if record.failure]
    return "; ".join([status.message] * bool(status.message) + failures)


def _numbers(ledger: LedgerRecord | None, tasks: Sequence[LedgerRecord]) -> dict[str, float]:
    spent = dataclasses.asdict(ledger.spent) if ledger else {}
    if spent:
        spent["finetuning_flops"] = sum(each.spent.flops for each in tasks)
        spent["finetuning_seconds"] = sum(each.spent.train_seconds for each in tasks)
    return {field: float(value) for field, value in spent.items() if value is not None}


def graph_of(folder: RunFolder) -> Graph:
    """Returns the design of a run as a graph; empty where its file is not there or damaged."""
    try:
        graph = read_json(folder.graph)
    except (ValueError, OSError):
        return {}
    return graph if isinstance(graph.get("nodes"), list) else {}
