"""What tuning tried and chose: its records, where they lie, and how they are read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from architectures.frozen import SettingError
from harness.outputs.records import read_if_there
from harness.outputs.tuning_records import CellChoice, TrialRecord, TuningChoice
from harness.study import Cell, Study
from harness.training.settings import versions
from harness.training.settings.spec import digest


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningResult:
    """What was tried and what was chosen."""

    trials: tuple[TrialRecord, ...]
    chosen: Mapping[str, TrialRecord]
    """Cell -> its best trial."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Header of `rows`."""
        return ("cell", "trial", *self.trials[0].values, "score", "status", "seconds", "chosen")

    @property
    def rows(self) -> list[tuple[str | int, ...]]:
        """Every trial, for a table."""
        return [
            (t.cell, t.number, *(f"{v:.3g}" for v in t.values.values()),
             "" if t.score is None else f"{t.score:.4f}", t.status, f"{t.seconds:.0f}",
             "yes" if self.chosen.get(t.cell) == t else "")
            for t in self.trials
        ]  # fmt: skip


def tuned(study: Study, outputs: Path) -> dict[str, CellChoice]:
    """Cell -> what its tuning did and chose. Raises SettingError where the study was not tuned, or
    was tuned when it asked for something else."""
    command = f"run `fuselab tune {study.name}` first"
    choice = read_if_there(TuningChoice, choice_file(study.name, outputs))
    if choice is None:
        raise SettingError(f"study {study.name!r} was not tuned: {command}")
    for cell in study.cells:
        if choice.digests.get(cell.name) != digest_of(study, cell):
            raise SettingError(
                f"cell {cell.name!r} was not tuned with its settings of now (search space, trials, "
                f"budget, data, ...): {command}"
            )
        if cell.name not in choice.cells:
            raise SettingError(f"no trial of cell {cell.name!r} came to an end: {command}")
    return {cell.name: choice.cells[cell.name] for cell in study.cells}


def choices(study: str, outputs: Path) -> dict[str, CellChoice] | None:
    """Cell -> what its tuning did and chose, for reports; None where the study was not tuned."""
    choice = read_if_there(TuningChoice, choice_file(study, outputs))
    return choice.cells if choice else None


def write_choice(study: Study, outputs: Path, result: TuningResult) -> None:
    """Writes what was tried and chosen."""
    cells = {}
    for name, best in result.chosen.items():
        own = [trial for trial in result.trials if trial.cell == name]
        assert best.score is not None
        cells[name] = CellChoice(
            trials=len(own),
            done=sum(trial.score is not None for trial in own),
            device_seconds=sum(trial.seconds for trial in own),
            score=best.score,
            chosen=best.values,
        )
    TuningChoice(
        score=study.tuning.score,
        digests={cell.name: digest_of(study, cell) for cell in study.cells},
        cells=cells,
        trials=result.trials,
    ).write(choice_file(study.name, outputs), durable=True)


def folder_of(study: str, outputs: Path) -> Path:
    """Where a study's tuning lies."""
    return outputs / "studies" / study / "tuning"


def choice_file(study: str, outputs: Path) -> Path:
    """Where a study's `TuningChoice` lies."""
    return folder_of(study, outputs) / "choice.json"


def digest_of(study: Study, cell: Cell) -> str:
    """Digest of all that tuning a cell depends on: its design and settings, the space, trials and
    seed."""
    settings = study.settings_of(cell).changed_fields()
    if not study.tuning.task:
        settings.pop("tasks", None)
    variant = cell.variant.changed_fields()
    return digest([versions.SETTINGS, variant, settings, study.tuning.changed_fields()])
