"""Equal tuning: every cell tries the same settings and keeps those with its lowest score.

The table of draws is a scrambled Sobol sequence over the study's search space, a function of the
study alone. Trials are ordinary runs, of a study called `<name>-tuning`, on a seed that reports
nothing and without test data. Optuna's journal is written from them. The only import of optuna.

Scores are compared within a cell alone: designs that serve different objectives (a dual encoder has
no matching and no masked words) have losses that are sums of different terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from architectures.frozen import SettingError, nearest
from harness.outputs.copies import there
from harness.outputs.files import RETRIED, State, atomic_file, exclusive
from harness.outputs.folder import LoopFolder, RunFolder
from harness.outputs.records import LedgerRecord, read_if_there
from harness.outputs.tuning_records import TrialRecord
from harness.study import Cell, Study, Tuning
from harness.tuning.choice import TuningResult, digest_of, folder_of, write_choice

if TYPE_CHECKING:
    import optuna

    from harness.planning.plan import Plan

Runner = Callable[["Plan"], Mapping[str, State]]
"""Brings every run of a plan to an end; train key -> state."""


def tune(study: Study, outputs: Path, runner: Runner) -> TuningResult:
    """Runs every trial of every cell, and writes `studies/<name>/tuning/`: `choice.json`, and
    Optuna's journal of all trials.

    The same call again skips trials that are done. Trials that failed or diverged stay in the table
    and cannot be chosen; raises SettingError, after all is written, where a cell has no other, and
    `Locked` where another process tunes the study.
    """
    from harness.planning.budgets import converted
    from harness.planning.plan import plan

    draws = draws_of(study.tuning)
    with exclusive(folder_of(study.name, outputs) / "lock", f"study {study.name} is being tuned"):
        planned = converted(plan(trial_study(study, draws), outputs), outputs)
        runner(planned)
        tried = _trials_of_task if study.tuning.task else _trials
        trials = tuple(tried(study, planned, draws, outputs))
        result = TuningResult(trials=trials, chosen=_choose(trials))
        write_choice(study, outputs, result)
        _write_journal(study, outputs, trials)
    if missing := [cell.name for cell in study.cells if cell.name not in result.chosen]:
        lost = [trial for trial in trials if trial.cell in missing]
        status = RunFolder(outputs, lost[0].run).recovered_status()
        why = f" ({lost[0].status}: {status.message})" if status.message else ""
        # One that was stopped goes on by the same command; another needs other settings.
        whole = all(trial.status in RETRIED for trial in lost)
        way = "narrow tuning.space" if whole else "give the same command again"
        raise SettingError(
            f"no trial of {', '.join(missing)} came to an end{why}: see "
            f"{folder_of(study.name, outputs)}, or {way}"
        )
    return result


def name_of_trials(study: Study) -> str:
    """Name of the study whose cells are the trials."""
    return f"{study.name}-tuning"


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


def trial_study(study: Study, draws: Sequence[Mapping[str, float]]) -> Study:
    """The study whose cells are trials: one seed, and no downstream task, so no test data. Where
    the fine-tuning of a task is tuned, every cell is trained once and learns the task once for each
    trial, and validation data are scored.
    """
    kinds = ["optimizer.*", "objectives.*", "tasks.TITLE.finetune.*"]
    for path in study.tuning.space:
        if path.partition(".")[0] not in ("optimizer", "objectives", "tasks"):
            raise nearest(path, kinds, "setting in tuning.space")
    changed: dict[str, object] = {
        "name": name_of_trials(study),
        "question": f"Which settings suit each cell of {study.name}?",
        "seeds": (study.tuning.seed,),
        "tuning": study.tuning.model_copy(update={"seed": study.tuning.seed + 1}),
    }
    if title := study.tuning.task:
        tasks = [
            task
            for number, values in enumerate(draws)
            for task in study.with_fields(values).tasks
            if task.title == title
        ]
        labelled = tuple(
            task.with_fields({"label": f"{title}_trial_{number}", "split": "val"})
            for number, task in enumerate(tasks)
        )
        return study.model_copy(update={**changed, "tasks": labelled})
    cells = tuple(
        Cell(
            variant=cell.variant,
            settings={**cell.settings, **values},
            label=f"{cell.name} trial {number}",
            role=cell.role,
        )
        for cell in study.cells
        for number, values in enumerate(draws)
    )
    changed |= {"cells": cells, "control": f"{study.control} trial 0", "tasks": ()}
    return study.model_copy(update=changed)


# -- Optuna


def _write_journal(study: Study, outputs: Path, trials: Sequence[TrialRecord]) -> None:
    """Writes every trial as Optuna keeps it, whole or not at all. It is made of the run folders:
    no truth of its own, so a lost or damaged one is nothing lost."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space: dict[str, optuna.distributions.BaseDistribution] = {
        path: optuna.distributions.FloatDistribution(span.low, span.high, log=span.log)
        for path, span in study.tuning.space.items()
    }
    with atomic_file(folder_of(study.name, outputs) / "journal.log", durable=True) as part:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(part)))
        for cell in study.cells:
            name = f"{cell.name} {digest_of(study, cell)}"
            journal = optuna.create_study(storage=storage, study_name=name, direction="minimize")
            for trial in (trial for trial in trials if trial.cell == cell.name):
                done = trial.score is not None
                states = optuna.trial.TrialState
                journal.add_trial(
                    optuna.trial.create_trial(
                        state=states.COMPLETE if done else states.FAIL,
                        value=trial.score,
                        params=trial.values,
                        distributions=space,
                        user_attrs={"run": trial.run, "status": trial.status},
                    )
                )


# -- what the runs say


def _trials(
    study: Study, planned: Plan, draws: Sequence[Mapping[str, float]], outputs: Path
) -> Iterator[TrialRecord]:
    """Yields what every trial gave: each is a run."""
    keys = iter(row.spec.train_key() for row in planned.rows)
    for cell in study.cells:
        for number, values in enumerate(draws):
            folder = RunFolder(outputs, next(keys))
            status = folder.status().state
            yield _trial(cell.name, number, values, folder, folder.key, status, study.tuning.score)


def _trials_of_task(
    study: Study, planned: Plan, draws: Sequence[Mapping[str, float]], outputs: Path
) -> Iterator[TrialRecord]:
    """Yields what every trial gave: each is a fine-tuning of its cell's run."""
    score = study.tuning.score.partition("/")[2]
    for row in planned.rows:
        run = RunFolder(outputs, row.spec.train_key())
        for task, values in zip(planned.study.tasks, draws, strict=True):
            number = planned.study.tasks.index(task)
            if task not in row.spec.asked.tasks:
                reason = row.spec.asked.not_applicable.get(task.title, "")
                raise SettingError(f"cell {row.cell.name!r}: {study.tuning.task}: {reason}")
            its = run.finetuning(row.spec.finetune_key(task))
            status: State = "done" if there(its.weights) else "failed"
            yield _trial(row.cell.name, number, values, its, run.key, status, score)


def _trial(
    cell: str,
    number: int,
    values: Mapping[str, float],
    folder: LoopFolder,
    run: str,
    status: State,
    score: str,
) -> TrialRecord:
    measured = folder.metric_lines()
    last = measured[-1].values if measured and status == "done" else {}
    if last and score not in last:
        raise nearest(score, last, "tuning.score")
    value = last.get(score, math.nan)
    ledger = read_if_there(LedgerRecord, folder.ledger)
    return TrialRecord(
        cell=cell,
        number=number,
        values=dict(values),
        run=run,
        status=status,
        score=value if math.isfinite(value) else None,
        seconds=ledger.spent.device_seconds if ledger else 0.0,
    )


def _choose(trials: Sequence[TrialRecord]) -> dict[str, TrialRecord]:
    """Cell -> the trial with the lowest score, of equal ones the first."""
    scored = [(trial.score, trial.number, trial) for trial in trials if trial.score is not None]
    ranked = sorted(scored, key=lambda entry: entry[:2], reverse=True)
    return {trial.cell: trial for _, _, trial in ranked}
