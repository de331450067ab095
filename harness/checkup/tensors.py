"""Compares weights and checkpoints with their digests, and makes torn states of runs good."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from architectures.frozen import SettingError
from harness.outputs.copies import removed, sent, there
from harness.outputs.doctor import Examined, Fault, spec_of
from harness.outputs.folder import LoopFolder, RunFolder
from harness.outputs.records import DamagedFile, Status
from harness.runs.kept import read_checkpoint, read_weights
from harness.training.loop.budget import steps_of


def tensors(outputs: Path, keys: Iterable[str]) -> Examined:
    """Reads the weights and checkpoints of these runs and of what they learnt."""
    faults, seen = list[Fault](), 0
    for key in keys:
        run = RunFolder(outputs, key)
        for folder in (run, *run.finetunings()):
            if there(folder.weights):
                seen += 1
                faults += _tried(lambda folder=folder: read_weights(folder))  # type: ignore[misc]
            if there(folder.checkpoint):
                seen += 1
                aside = _set_aside(run, folder)
                faults += _tried(lambda folder=folder: read_checkpoint(folder), aside)  # type: ignore[misc]
    return Examined(part="weights and checkpoints", seen=f"{seen} files", faults=tuple(faults))


def _tried(read: Callable[[], object], cure: Callable[[], str] | None = None) -> Iterator[Fault]:
    try:
        read()
    except (ValueError, OSError, DamagedFile) as error:
        what, _, remedy = str(error).partition("; ")
        yield Fault(text=what, remedy=remedy, cure=cure)


def _set_aside(run: RunFolder, folder: LoopFolder) -> Callable[[], str]:
    """Returns what moves a torn checkpoint out of the way of its run, which then begins again."""

    def move() -> str:
        with run.lock():
            aside = folder.checkpoint.with_name("checkpoint.pt.damaged")
            folder.checkpoint.replace(aside)
            sent(aside)
            removed(folder.checkpoint)
        return f"moved {folder.checkpoint} to {aside.name}: the run begins again"

    return move


def states(outputs: Path, keys: Iterable[str]) -> Examined:
    """Looks for runs whose status is torn or lost, or covers less than a finished run measured."""
    faults, seen = list[Fault](), 0
    for key in keys:
        folder = RunFolder(outputs, key)
        if not folder.path.is_dir():
            continue
        seen += 1
        if why := _wrong_status(folder):
            remedy = "its curves and state are not shown until it is written anew"
            faults.append(Fault(text=why, remedy=remedy, cure=_new_status(folder)))
    return Examined(part="states", seen=f"of {seen} runs", faults=tuple(faults))


def _wrong_status(folder: RunFolder) -> str:
    """Says what is wrong with a run's status; empty where nothing is."""
    try:
        status, lines = folder.written_status(), folder.metric_lines()
    except DamagedFile as error:
        torn = error.path == folder.status_file
        return f"{folder.status_file} is damaged" if torn else ""
    last = max((line.step for line in lines), default=-1)
    if there(folder.weights) and status.state == "waiting":
        return f"{folder.status_file} is lost, and the run has its final weights"
    if status.state == "done" and status.checkpoint_step < last:
        return f"{folder.status_file} hides what was measured after step {status.checkpoint_step}"
    return ""


def _new_status(folder: RunFolder) -> Callable[[], str]:
    def write() -> str:
        with folder.lock():
            lines = folder.metric_lines()
            last = max((line.step for line in lines), default=0)
            if _is_done(folder):
                status = Status(state="done", step=last, steps=last, checkpoint_step=last)
            else:
                step = int(read_checkpoint(folder)["step"]) if there(folder.checkpoint) else 0
                status = Status(
                    state="interrupted", step=step, steps=_steps(folder), checkpoint_step=step or -1
                )
            status = status.model_copy(update={"updated": _last_time(folder)})
            status.write(folder.status_file)
        return f"wrote {folder.status_file} anew: {status.state} at step {status.step}"

    return write


def _is_done(folder: RunFolder) -> bool:
    return there(folder.weights) or folder.recovered_status().state == "done"


def _steps(folder: RunFolder) -> int:
    try:
        spec = spec_of(folder)
    except SettingError:
        return 0
    return steps_of(spec.train.budget, spec.train.batch_size) if spec else 0


def _last_time(folder: RunFolder) -> float:
    """Returns when the run last wrote anything that stays."""
    return max((line.time for line in folder.metric_lines()), default=0.0)
