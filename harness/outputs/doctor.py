"""Examines an outputs folder without changing it: what is torn, half-written, foreign or forgotten.

Every fault says what helps, and some bring a cure that is safe: it removes what a killed process
left half-written, or writes anew what can be known, and takes nothing that was finished.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from architectures.frozen import SettingError
from harness.outputs.copies import removed
from harness.outputs.files import read_json
from harness.outputs.folder import LoopFolder, RunFolder
from harness.outputs.records import (
    Certificate,
    DamagedFile,
    Environment,
    LedgerRecord,
    ScoresRecord,
    StudyRecord,
    WeightsRecord,
    read_if_there,
)
from harness.outputs.tuning_records import TuningChoice
from harness.training.settings.spec import RunSpec

HALF_WRITTEN = re.compile(r"^\..+\.(\d+)\.(?:part|old)$|.+\.building-[0-9a-f]{32}(?:-damaged)?$")
"""What `atomic_file`, `new_folder` and the cache write before it is whole; the number is that of
the process."""
LEFT = 600.0
"""Seconds without a change after which nobody writes it any more."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault is one thing that is not as it should be."""

    text: str
    remedy: str = ""
    """What helps, for the user to do."""
    cure: Callable[[], str] | None = None
    """Mends it, and says what it did; None: only the user can."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examined:
    """What was examined, what is wrong with it, and what is only worth knowing."""

    part: str
    seen: str
    """What there was to look at, in a few words."""
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()


def half_written(outputs: Path) -> Examined:
    """Looks for what killed processes left half-written, anywhere but in the tracking store."""
    faults, busy = [], 0
    for path in _walk(outputs):
        match = HALF_WRITTEN.match(path.name)
        if match and _left_behind(outputs, path, match.group(1)):
            cure = _removal(path)
            remedy = "a killed process left it; nobody reads it"
            faults.append(Fault(text=f"{path} is half-written", remedy=remedy, cure=cure))
        elif match:
            busy += 1
    notes = (f"{busy} files are being written now, or were ten minutes ago",) if busy else ()
    return Examined(part="half-written files", seen="all", faults=tuple(faults), notes=notes)


def _walk(folder: Path) -> Iterator[Path]:
    """Yields files and folders, a half-written folder without what is in it."""
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield entry
        inside = entry.is_dir() and not entry.is_symlink() and entry.name != "mlartifacts"
        if inside and not HALF_WRITTEN.match(entry.name):
            yield from _walk(entry)


def _left_behind(outputs: Path, path: Path, process: str | None) -> bool:
    """Says whether nobody writes a file: its run is not held, and its process is not here and has
    not touched it for a while, as one of another machine would have."""
    runs = outputs / "runs"
    if runs in path.parents and RunFolder(outputs, path.relative_to(runs).parts[0]).is_locked():
        return False
    alive = process is not None and Path(f"/proc/{process}").exists()
    return not alive and time.time() - path.lstat().st_mtime > LEFT


def _removal(path: Path) -> Callable[[], str]:
    def remove() -> str:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            removed(path)
        return f"removed {path}"

    return remove


def records(outputs: Path, keys: Iterable[str]) -> Examined:
    """Reads every record of these runs, and compares each run with the name of its folder."""
    faults: list[Fault] = []
    folders = [RunFolder(outputs, key) for key in keys]
    folders = [folder for folder in folders if folder.path.is_dir()]
    for folder in folders:
        faults += _spec_faults(folder)
        readers: list[Callable[[], object]] = [
            folder.written_status,
            lambda folder=folder: folder.covered_lines(folder.recovered_status()),  # type: ignore[misc]
            *_loop_readers(folder),
            lambda folder=folder: read_if_there(Certificate, folder.certificate),  # type: ignore[misc]
            lambda folder=folder: read_if_there(Environment, folder.environment),  # type: ignore[misc]
        ]
        for path in folder.score_files():
            readers.append(lambda path=path: ScoresRecord.read(path))  # type: ignore[misc]
        for finetuning in folder.finetunings():
            readers += [finetuning.metric_lines, *_loop_readers(finetuning)]
        faults += _damage(readers)
        faults += _graph_faults(folder)
    return Examined(part="records", seen=f"of {len(folders)} runs", faults=tuple(faults))


def _loop_readers(folder: LoopFolder) -> list[Callable[[], object]]:
    return [
        lambda: read_if_there(LedgerRecord, folder.ledger),
        lambda: read_if_there(WeightsRecord, folder.weights_digest),
    ]


def _damage(readers: Iterable[Callable[[], object]]) -> Iterator[Fault]:
    for read in readers:
        try:
            read()
        except DamagedFile as error:
            what, _, remedy = str(error).partition("; ")
            yield Fault(text=what, remedy=remedy)


def spec_of(folder: RunFolder) -> RunSpec | None:
    """Returns the description in a run's folder; None where it has none. Raises SettingError where
    it cannot be read."""
    try:
        content = read_json(folder.spec)
        return RunSpec.model_validate(content) if content else None
    except (ValueError, OSError) as error:
        first = str(error).partition("\n")[0]
        raise SettingError(f"{folder.spec} is damaged, or an earlier fuselab's: {first}") from None


def _spec_faults(folder: RunFolder) -> Iterator[Fault]:
    retrain = "move the folder away; `fuselab run` makes the run again"
    try:
        spec = spec_of(folder)
    except SettingError as error:
        yield Fault(text=str(error), remedy="`fuselab run` writes it again where the run is asked")
        return
    if spec is None:
        yield Fault(text=f"{folder.path} has no spec.json: nobody knows its run", remedy=retrain)
    elif spec.train_key() != folder.key:
        text = f"{folder.path} holds the run {spec.train_key()}, by its spec.json"
        yield Fault(text=f"{text}: a foreign key", remedy=retrain)


def _graph_faults(folder: RunFolder) -> Iterator[Fault]:
    try:
        read_json(folder.graph)
    except (ValueError, OSError):
        remedy = "delete it: reports then leave the design's picture out"
        yield Fault(text=f"{folder.graph} is damaged", remedy=remedy)


def study_records(outputs: Path, name: str = "") -> tuple[dict[str, StudyRecord], Examined]:
    """Reads the studies, and what tuning chose, and compares rows with the runs that they name."""
    studies, faults = dict[str, StudyRecord](), list[Fault]()
    paths = sorted(outputs.glob(f"studies/{name or '*'}/study.json"))
    for path in paths:
        try:
            studies[path.parent.name] = record = StudyRecord.read(path)
        except DamagedFile as error:
            what, _, remedy = str(error).partition("; ")
            faults.append(Fault(text=what, remedy=remedy))
            continue
        faults += _row_faults(outputs, path, record)
        choice = path.parent / "tuning" / "choice.json"
        faults += _damage([lambda choice=choice: read_if_there(TuningChoice, choice)])  # type: ignore[misc]
    seen = ", ".join(path.parent.name for path in paths) or "none"
    return studies, Examined(part="studies", seen=seen, faults=tuple(faults))


def _row_faults(outputs: Path, path: Path, record: StudyRecord) -> Iterator[Fault]:
    again = "run the study again: finished runs are kept"
    if record.name != path.parent.name:
        yield Fault(text=f"{path} is of the study {record.name}: a foreign record", remedy=again)
    for row in record.rows:
        try:
            spec = spec_of(RunFolder(outputs, row.run))
        except SettingError:
            continue  # which the records of runs say
        if spec and (row.design, row.seed) != (spec.train.design, spec.train.seed):
            run = f"{spec.train.design} at seed {spec.train.seed}"
            text = f"{path}: cell {row.cell!r} at seed {row.seed} names the run {row.run}, {run}"
            yield Fault(text=text, remedy=again)


def orphans(outputs: Path, studies: Mapping[str, StudyRecord]) -> Examined:
    """Lists run folders that no study asks for, with their size: they are finished work, so they
    are no fault."""
    wanted = {key for record in studies.values() for key in record.keys}
    left = {key for record in studies.values() for key in record.left_over}
    runs = sorted(path for path in outputs.glob("runs/*") if path.is_dir())
    alone = [path for path in runs if path.name not in wanted]
    notes = [
        f"{path} is asked for by no study of now"
        f"{' (a study asked for it under earlier settings)' * (path.name in left)}: "
        f"{_mib(path):.1f} MiB; delete it where you do not want it back"
        for path in alone
    ]
    return Examined(part="orphans", seen=f"{len(alone)} of {len(runs)} runs", notes=tuple(notes))


def _mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def entries(outputs: Path) -> Examined:
    """Compares decoded data and warm starts with the sums that were written beside them."""
    from harness.training.data.cache import MANIFEST, is_whole

    places = sorted(
        path
        for room in ("cache", "warm_start")
        for path in outputs.glob(f"{room}/*")
        if path.is_dir() and not HALF_WRITTEN.match(path.name)
    )
    faults = tuple(
        Fault(
            text=f"{path} is not what was written to it ({MANIFEST})",
            remedy="the next `fuselab run` that needs it makes it again",
        )
        for path in places
        if not is_whole(path)
    )
    return Examined(part="data and warm starts", seen=f"{len(places)} folders", faults=faults)
