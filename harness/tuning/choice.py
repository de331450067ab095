"""What tuning tried and chose: its records, where they lie, and how they are read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from architectures.frozen import SettingError
from harness.outputs.folder import State, read_json, write_json
from harness.study import RUN_SETTINGS, Cell, Study
from harness.training.settings.spec import digest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting tried by one cell."""

    cell: str
    number: int
    values: Mapping[str, float]
    """Dotted path of a setting -> the value drawn."""
    run: str
    """Train key."""
    status: State
    score: float | None
    """Last value of the study's `tuning.score`; None where the run did not come to an end."""
    seconds: float
    """Device seconds spent."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningResult:
    """What was tried and what was chosen."""

    trials: tuple[Trial, ...]
    chosen: Mapping[str, Trial]
    """Cell -> its best trial."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Header of `rows`."""
        return ("cell", "trial", *self.trials[0].values, "score", "status", "seconds", "chosen")

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """Every trial, for a table."""
        return [
            (t.cell, t.number, *(f"{v:.3g}" for v in t.values.values()),
             "" if t.score is None else f"{t.score:.4f}", t.status, f"{t.seconds:.0f}",
             "yes" if self.chosen.get(t.cell) == t else "")
            for t in self.trials
        ]  # fmt: skip


def tuned(study: Study, outputs: Path) -> dict[str, dict[str, Any]]:
    """Cell -> what its tuning did and chose, its settings under `chosen`. Raises SettingError where
    the study was not tuned, or was tuned when it asked for something else."""
    command = f"run `fuselab tune {study.name}` first"
    choice = read_json(folder_of(study, outputs) / "choice.json")
    if choice is None:
        raise SettingError(f"study {study.name!r} was not tuned: {command}")
    for cell in study.cells:
        if choice["digests"].get(cell.name) != digest_of(study, cell):
            raise SettingError(
                f"cell {cell.name!r} was not tuned with its settings of now (search space, trials, "
                f"budget, data, ...): {command}"
            )
        if cell.name not in choice["cells"]:
            raise SettingError(f"no trial of cell {cell.name!r} came to an end: {command}")
    return {cell.name: choice["cells"][cell.name] for cell in study.cells}


def choices(study: str, outputs: Path) -> dict[str, dict[str, Any]] | None:
    """Cell -> what its tuning did and chose, for reports; None where the study was not tuned."""
    choice = read_json(outputs / "studies" / study / "tuning" / "choice.json")
    return choice and choice["cells"]


def write_choice(study: Study, outputs: Path, result: TuningResult) -> None:
    cells = {}
    for name, best in result.chosen.items():
        own = [trial for trial in result.trials if trial.cell == name]
        cells[name] = {
            "trials": len(own),
            "done": sum(trial.score is not None for trial in own),
            "device_seconds": sum(trial.seconds for trial in own),
            "score": best.score,
            "chosen": dict(best.values),
        }
    choice = {
        "score": study.tuning.score,
        "note": "lowest score of each cell; scores of different designs are not comparable",
        "digests": {cell.name: digest_of(study, cell) for cell in study.cells},
        "cells": cells,
        "trials": [dataclasses.asdict(trial) for trial in result.trials],
    }
    write_json(folder_of(study, outputs) / "choice.json", choice)


def folder_of(study: Study, outputs: Path) -> Path:
    return outputs / "studies" / study.name / "tuning"


def digest_of(study: Study, cell: Cell) -> str:
    """Of all that tuning a cell depends on: its design and settings, the space, trials and seed."""
    settings = study.settings_of(cell).model_dump(
        mode="json", include=set(RUN_SETTINGS) - {"tasks"}
    )
    return digest([cell.variant.model_dump(), settings, study.tuning.model_dump(mode="json")])
