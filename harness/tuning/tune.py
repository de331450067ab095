"""Equal tuning: every cell tries the same settings and keeps those with its lowest score.

The table of draws is a scrambled Sobol sequence over the study's search space, drawn once and
enqueued in an Optuna study for each cell, so that a restart changes nothing. Trials are ordinary
runs, of a study called `<name>-tuning`, on a seed that reports nothing and without test data. The
only import of optuna.

Scores are compared within a cell alone: designs that serve different objectives (a dual encoder has
no matching and no masked words) have losses that are sums of different terms.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from architectures.frozen import SettingError, nearest
from harness.outputs.folder import RunFolder, State, read_json, write_json
from harness.study import RUN_SETTINGS, Cell, Study, Tuning, digest

if TYPE_CHECKING:
    import optuna

    from harness.planning.plan import Plan

Runner = Callable[["Plan"], Mapping[str, State]]
"""Brings every run of a plan to an end; train key -> state."""


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


def tune(study: Study, outputs: Path, runner: Runner, *, design_file: str = "") -> TuningResult:
    """Run every trial of every cell, tell Optuna, and write `studies/<name>/tuning/choice.json`.

    The same call again skips trials that are done. Trials that failed or diverged stay in the table
    and cannot be chosen; raises SettingError, after all is written, where a cell has no other.
    """
    from harness.planning.plan import plan

    studies = {cell.name: _optuna_study(study, cell, outputs) for cell in study.cells}
    draws = {cell: _asked(of_cell, study.tuning) for cell, of_cell in studies.items()}
    planned = plan(trial_study(study, draws), outputs, design_file=design_file)
    runner(planned)
    keys = iter(row.spec.train_key() for row in planned.rows)
    trials = tuple(
        _trial(cell, number, values, RunFolder(outputs, next(keys)), study.tuning.score)
        for cell, table in draws.items()
        for number, values in enumerate(table)
    )
    for trial in trials:
        _tell(studies[trial.cell], trial)
    result = TuningResult(trials=trials, chosen=_choose(trials))
    _write(study, outputs, result)
    if missing := [cell for cell in draws if cell not in result.chosen]:
        raise SettingError(
            f"no trial of {', '.join(missing)} came to an end: see {_folder(study, outputs)}, or "
            "narrow tuning.space"
        )
    return result


def tuned(study: Study, outputs: Path) -> dict[str, dict[str, Any]]:
    """Cell -> what its tuning did and chose, its settings under `chosen`. Raises SettingError where
    the study was not tuned, or was tuned when it asked for something else."""
    command = f"run `fuselab tune {study.name}` first"
    choice = read_json(_folder(study, outputs) / "choice.json")
    if choice is None:
        raise SettingError(f"study {study.name!r} was not tuned: {command}")
    for cell in study.cells:
        if choice["digests"].get(cell.name) != _digest(study, cell):
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


def draws_of(tuning: Tuning) -> list[dict[str, float]]:
    """The table of draws: one setting of the whole space for each trial, from the tuning seed."""
    from scipy.stats import qmc

    sampler = qmc.Sobol(len(tuning.space), scramble=True, rng=np.random.default_rng(tuning.seed))
    # The sequence is balanced at powers of two only; the first so many of it are used.
    units = sampler.random_base2(math.ceil(math.log2(tuning.trials)))[: tuning.trials]
    table = []
    for row in units:
        values = {}
        for (path, span), unit in zip(tuning.space.items(), row.tolist(), strict=True):
            if span.log:
                value = math.exp(math.log(span.low) + unit * math.log(span.high / span.low))
            else:
                value = span.low + unit * (span.high - span.low)
            values[path] = min(max(value, span.low), span.high)
        table.append(values)
    return table


def trial_study(study: Study, draws: Mapping[str, Sequence[Mapping[str, float]]]) -> Study:
    """The study whose cells are trials: one seed, and no downstream task, so no test data."""
    for path in study.tuning.space:
        if path.partition(".")[0] not in ("optimizer", "objectives"):
            raise nearest(path, ["optimizer.*", "objectives.*"], "setting in tuning.space")
    cells = tuple(
        Cell(
            variant=cell.variant,
            settings={**cell.settings, **values},
            label=f"{cell.name} trial {number}",
            role=cell.role,
        )
        for cell in study.cells
        for number, values in enumerate(draws[cell.name])
    )
    changed = {
        "name": f"{study.name}-tuning",
        "question": f"Which settings suit each cell of {study.name}?",
        "cells": cells,
        "control": f"{study.control} trial 0",
        "seeds": (study.tuning.seed,),
        "tuning": study.tuning.model_copy(update={"seed": study.tuning.seed + 1}),
        "tasks": (),
    }
    return study.model_copy(update=changed)


# -- Optuna


def _optuna_study(study: Study, cell: Cell, outputs: Path) -> optuna.Study:
    """The study of one cell in the journal, with every draw enqueued; a changed question is
    another study."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = _folder(study, outputs)
    folder.mkdir(parents=True, exist_ok=True)
    found = optuna.create_study(
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
        study_name=f"{cell.name} {_digest(study, cell)}",
        direction="minimize",
        load_if_exists=True,
    )
    for values in draws_of(study.tuning)[len(found.trials) :]:
        found.enqueue_trial(values)
    return found


def _asked(found: optuna.Study, tuning: Tuning) -> list[dict[str, float]]:
    """Ask for every trial that waits; the settings of all of them, as they were enqueued."""
    import optuna

    space: dict[str, optuna.distributions.BaseDistribution] = {
        path: optuna.distributions.FloatDistribution(span.low, span.high, log=span.log)
        for path, span in tuning.space.items()
    }
    waiting = optuna.trial.TrialState.WAITING
    for _ in found.get_trials(deepcopy=False, states=(waiting,)):
        found.ask(fixed_distributions=space)
    return [trial.system_attrs["fixed_params"] for trial in found.trials]


def _tell(found: optuna.Study, trial: Trial) -> None:
    import optuna

    if trial.score is not None:
        found.tell(trial.number, trial.score, skip_if_finished=True)
    elif trial.status not in ("waiting", "running", "interrupted"):
        failed = optuna.trial.TrialState.FAIL
        found.tell(trial.number, state=failed, skip_if_finished=True)


# -- what the runs say


def _trial(
    cell: str, number: int, values: Mapping[str, float], folder: RunFolder, score: str
) -> Trial:
    status, measured = folder.status()["state"], folder.metric_lines()
    last = measured[-1]["values"] if measured and status == "done" else {}
    if last and score not in last:
        raise nearest(score, last, "tuning.score")
    value = last.get(score, math.nan)
    return Trial(
        cell=cell,
        number=number,
        values=values,
        run=folder.key,
        status=status,
        score=value if math.isfinite(value) else None,
        seconds=read_json(folder.ledger, {}).get("device_seconds", 0.0),
    )


def _choose(trials: Sequence[Trial]) -> dict[str, Trial]:
    """Cell -> the trial with the lowest score, of equal ones the first."""
    scored = [(trial.score, trial.number, trial) for trial in trials if trial.score is not None]
    ranked = sorted(scored, key=lambda entry: entry[:2], reverse=True)
    return {trial.cell: trial for _, _, trial in ranked}


def _write(study: Study, outputs: Path, result: TuningResult) -> None:
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
        "digests": {cell.name: _digest(study, cell) for cell in study.cells},
        "cells": cells,
        "trials": [dataclasses.asdict(trial) for trial in result.trials],
    }
    write_json(_folder(study, outputs) / "choice.json", choice)


def _folder(study: Study, outputs: Path) -> Path:
    return outputs / "studies" / study.name / "tuning"


def _digest(study: Study, cell: Cell) -> str:
    """Of all that tuning a cell depends on: its design and settings, the space, trials and seed."""
    settings = study.settings_of(cell).model_dump(
        mode="json", include=set(RUN_SETTINGS) - {"tasks"}
    )
    return digest([cell.variant.model_dump(), settings, study.tuning.model_dump(mode="json")])
