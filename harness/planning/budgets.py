"""Turns budgets in FLOPs and in seconds into optimizer steps: once for each design, before it
trains.

How much of the unit a step takes is counted (FLOPs, on torch's meta device) or measured (seconds,
alone on this machine at the study's threads), written to `outputs/budgets/` under what it depends
on, and read from there ever after: a rerun, a resumed run, more seeds and another study with the
same cell have the same steps. From there on a run is one of so many steps, and its description
says nothing else: it is the same run as under a budget in steps.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from harness.outputs.files import exclusive
from harness.outputs.records import Record, read_if_there
from harness.planning.plan import Plan
from harness.training.settings.loop import Budget
from harness.training.settings.spec import RunSpec, digest
from harness.words import count

if TYPE_CHECKING:
    from harness.training.data.corpus import Corpus

WARMING, LEAST, MOST = 3, 10, 100
"""Steps before the clock runs, and the fewest and the most that are timed."""
LONG_ENOUGH = 5.0
"""Seconds after which no more steps than the fewest are timed."""

BUSY = 0.5
"""Other processes at work from which on a measured time is doubtful."""


class StepCost(Record):
    """Says how much of a unit one optimizer step of a design takes: `budgets/<key>.json`."""

    remedy: ClassVar[str] = (
        "delete it: it is counted or measured again, and where the steps come out otherwise the "
        "runs are others"
    )
    unit: str
    amount: float
    """Of the unit, for one step."""
    design: str
    timed: int = 0
    """How many steps were timed; 0: counted."""
    load: float = 0.0
    """How many processes ran or waited on this machine just before."""
    device: str = ""
    """What it was timed on, and by how many threads."""


def converted(planned: Plan, outputs: Path, say: Callable[[str], object] = str) -> Plan:
    """Returns a plan whose runs all have a number of steps or samples.

    Raises `SettingError` where the data cannot be read or the device is not here, `Locked` where
    another process times a step, and `DamagedFile`.
    """
    rows, costs = [], dict[str, StepCost]()
    for row in planned.rows:
        train = row.spec.train
        if train.budget.per_design:
            key = key_of(row.spec, train.budget.unit)
            if key not in costs:
                costs[key] = _step_cost(row.spec, outputs, say)
            steps = max(1, round(train.budget.amount / costs[key].amount))
            train = train.model_copy(update={"budget": Budget(steps=steps)})
            spec = row.spec.model_copy(update={"train": train})
            row = dataclasses.replace(row, spec=spec, step_cost=costs[key].amount)
        rows.append(row)
    return dataclasses.replace(planned, rows=tuple(rows))


def key_of(spec: RunSpec, unit: str) -> str:
    """Returns the digest of all that a step's cost in this unit depends on: how strong an objective
    is does not matter, so all trials of a cell's tuning have the same steps; what the budget is
    does where towers are frozen, for a part of the run or until every picture was shown."""
    train = spec.train
    equal = {f"{name}.weight": 1.0 for name in train.objectives.active()}
    shape = train.model_copy(update={"objectives": train.objectives.with_fields(equal)})
    settings = shape.changed_fields()
    beside = {"seed", "budget", "optimizer", "measure", *(["numerics"] * (unit != "seconds"))}
    if "freeze" in settings and unit != "threads":
        beside -= {"budget", "numerics"}
    return digest([unit, {name: its for name, its in settings.items() if name not in beside}])


def notes(planned: Plan, outputs: Path) -> Iterator[str]:
    """Says which steps a budget comes to in each cell, and where whole steps cannot keep to it."""
    from harness.results.pairing import LARGEST_DIFFERENCE

    for row in planned.rows:
        budget = planned.study.settings_of(row.cell).budget
        if row.seed != planned.study.seeds[0] or not budget.per_design:
            continue
        spent = row.spec.train.budget.amount * row.step_cost
        line = (
            f"{row.cell.name}: {count(budget.amount)} {budget.unit} are "
            f"{row.spec.train.budget.amount:,.0f} steps of {count(row.step_cost)} {budget.unit}"
        )
        if abs(spent / budget.amount - 1) > LARGEST_DIFFERENCE / 2:
            line += (
                f", which are {spent / budget.amount:.1%} of it: so few whole steps cannot "
                "spend it equally; raise the budget"
            )
        cost = read_if_there(StepCost, _file(outputs, row.spec, budget.unit))
        if cost and cost.timed:
            line += f"; timed once, over {cost.timed} steps on {cost.device}"
            if cost.load > BUSY:
                line += (
                    f", while {cost.load:.1f} other processes ran there: delete "
                    f"{_file(outputs, row.spec, budget.unit)} before the first run to time it again"
                )
        yield line


def _file(outputs: Path, spec: RunSpec, unit: str) -> Path:
    return outputs / "budgets" / f"{key_of(spec, unit)}.json"


def _step_cost(spec: RunSpec, outputs: Path, say: Callable[[str], object]) -> StepCost:
    """Returns what was kept of a step's cost; counts or measures it where nothing was."""
    folder, unit = outputs / "budgets", spec.train.budget.unit
    path = _file(outputs, spec, unit)
    if kept := read_if_there(StepCost, path):
        return kept
    with exclusive(folder / "lock", "the step of a design is being timed"):
        if kept := read_if_there(StepCost, path):  # by another process, just now
            return kept
        from harness.runs.assemble import counted_flops, load_data

        say(f"budget in {unit}: {'counting' if unit == 'flops' else 'timing'} a step of "
            f"{spec.train.design}")  # fmt: skip
        corpus = load_data(spec, outputs)
        if unit == "flops":
            amount = counted_flops(spec, corpus) * spec.train.batch_size
            cost = StepCost(unit=unit, amount=amount, design=spec.train.design)
        else:
            cost = _timed(spec, corpus)
        cost.write(path)
    return cost


def _timed(spec: RunSpec, corpus: Corpus) -> StepCost:
    """Times steps of a run in this process, as training does, and takes the median."""
    from harness.outputs.environment import environment
    from harness.runs.assemble import build_design, training_batches
    from harness.training.loop import numerics
    from harness.training.loop.trainer import Trainer

    load = os.getloadavg()[0]
    numerics.prepare(spec.train.numerics)
    train = spec.train.model_copy(update={"budget": Budget(steps=WARMING + MOST)})
    long_enough = spec.model_copy(update={"train": train})
    design = build_design(long_enough, corpus.tokenizer.vocabulary)
    trainer = Trainer(train, design, training_batches(long_enough, corpus), [])
    for _ in range(WARMING):
        trainer.one_step()
    seconds: list[float] = []
    while len(seconds) < LEAST or (len(seconds) < MOST and sum(seconds) < LONG_ENOUGH):
        begun = time.perf_counter()
        trainer.one_step()
        seconds.append(time.perf_counter() - begun)
    numerics.release()
    here = environment(spec.train.numerics)
    return StepCost(
        unit="seconds",
        amount=statistics.median(seconds),
        design=train.design,
        timed=len(seconds),
        load=load,
        device=f"{here.device}, {here.threads} threads",
    )
