"""Equal tuning: every cell tries the same settings and keeps those with its lowest score.

The table of draws is a scrambled Sobol sequence over the study's search space, drawn once and
enqueued in an Optuna study for each cell, so that a restart changes nothing. Trials are ordinary
runs, of a study called `<name>-tuning`, on a seed that reports nothing and without test data. The
only import of optuna.

Scores are compared within a cell alone: designs that serve different objectives (a dual encoder has
no matching and no masked words) have losses that are sums of different terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from architectures.frozen import SettingError, nearest
from harness.outputs.files import State
from harness.outputs.folder import RunFolder
from harness.outputs.records import LedgerRecord, TrialRecord, read_if_there
from harness.study import Cell, Study, Tuning
from harness.tuning.choice import TuningResult, digest_of, folder_of, write_choice

if TYPE_CHECKING:
    import optuna

    from harness.planning.plan import Plan

Runner = Callable[["Plan"], Mapping[str, State]]
"""Brings every run of a plan to an end; train key -> state."""


def tune(study: Study, outputs: Path, runner: Runner) -> TuningResult:
    """Run every trial of every cell, tell Optuna, and write `studies/<name>/tuning/choice.json`.

    The same call again skips trials that are done. Trials that failed or diverged stay in the table
    and cannot be chosen; raises SettingError, after all is written, where a cell has no other.
    """
    from harness.planning.plan import plan

    studies = {cell.name: _optuna_study(study, cell, outputs) for cell in study.cells}
    draws = {cell: _asked(of_cell, study.tuning) for cell, of_cell in studies.items()}
    planned = plan(trial_study(study, draws), outputs)
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
    write_choice(study, outputs, result)
    if missing := [cell for cell in draws if cell not in result.chosen]:
        where = folder_of(study.name, outputs)
        raise SettingError(
            f"no trial of {', '.join(missing)} came to an end: see {where}, or narrow tuning.space"
        )
    return result


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
    folder = folder_of(study.name, outputs)
    folder.mkdir(parents=True, exist_ok=True)
    found = optuna.create_study(
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
        study_name=f"{cell.name} {digest_of(study, cell)}",
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


def _tell(found: optuna.Study, trial: TrialRecord) -> None:
    import optuna

    if trial.score is not None:
        found.tell(trial.number, trial.score, skip_if_finished=True)
    elif trial.status not in ("waiting", "running", "interrupted"):
        failed = optuna.trial.TrialState.FAIL
        found.tell(trial.number, state=failed, skip_if_finished=True)


# -- what the runs say


def _trial(
    cell: str, number: int, values: Mapping[str, float], folder: RunFolder, score: str
) -> TrialRecord:
    status, measured = folder.status().state, folder.metric_lines()
    last = measured[-1].values if measured and status == "done" else {}
    if last and score not in last:
        raise nearest(score, last, "tuning.score")
    value = last.get(score, math.nan)
    ledger = read_if_there(LedgerRecord, folder.ledger)
    return TrialRecord(
        cell=cell,
        number=number,
        values=dict(values),
        run=folder.key,
        status=status,
        score=value if math.isfinite(value) else None,
        seconds=ledger.spent.device_seconds if ledger else 0.0,
    )


def _choose(trials: Sequence[TrialRecord]) -> dict[str, TrialRecord]:
    """Cell -> the trial with the lowest score, of equal ones the first."""
    scored = [(trial.score, trial.number, trial) for trial in trials if trial.score is not None]
    ranked = sorted(scored, key=lambda entry: entry[:2], reverse=True)
    return {trial.cell: trial for _, _, trial in ranked}
