"""Budgets in FLOPs and seconds come to steps once, and a run knows the steps alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from architectures.frozen import SettingError
from harness.lab import Lab
from harness.outputs.folder import RunFolder, study_file
from harness.outputs.records import StudyRecord
from harness.planning import budgets
from harness.planning.budgets import StepCost, converted, key_of
from harness.planning.plan import plan
from harness.results.pairing import pairing
from harness.study import Budget, Cell, FineTune, Study, Variant
from harness.training.loop.budget import is_compared, steps_of
from harness.training.loop.trainer import Trainer


def with_budget(study: Study, **budget: float) -> Study:
    return study.model_copy(update={"budget": Budget.model_validate(budget), "seeds": (0,)})


def steps(study: Study, outputs: Path) -> dict[str, int | None]:
    rows = converted(plan(study, outputs), outputs).rows
    return {row.cell.name: row.spec.train.budget.steps for row in rows}


def a_step_takes(study: Study, outputs: Path, seconds: float) -> None:
    """Writes down that a step of every cell takes so long, twice as long in each next cell."""
    for row in plan(study, outputs).rows:
        cost = StepCost(unit="seconds", amount=seconds, design=row.spec.train.design, timed=10)
        cost.write(outputs / "budgets" / f"{key_of(row.spec, 'seconds')}.json")
        seconds *= 2


def test_flops_come_to_steps_by_what_is_counted(tiny: Study, outputs: Path) -> None:
    from harness.runs.assemble import counted_flops, load_data

    flops = with_budget(tiny, flops=5e8)
    for row in plan(flops, outputs).rows:
        of_a_step = 8 * counted_flops(row.spec, load_data(row.spec, outputs))
        assert steps(flops, outputs)[row.cell.name] == round(5e8 / of_a_step)
    assert len(set(steps(flops, outputs).values())) == 3


def test_flops_of_frozen_towers_are_spent_whatever_the_schedule(tiny: Study, outputs: Path) -> None:
    """What a step costs depends on how many there are: a part is frozen, and states are kept."""
    from harness.runs.assemble import counted_flops, load_data

    cells = tuple(
        Cell(variant=Variant("split_bert", text_layers=1), label=label, settings=settings)
        for label, settings in {
            "learns": {},
            "half": {"freeze.image": {"until": 0.5}, "freeze.text": {"after": 0.5}},
            "frozen": {"freeze.image": True, "freeze.text": True},
        }.items()
    )
    study = tiny.model_copy(update={"cells": cells, "control": "learns"})
    planned = converted(plan(with_budget(study, flops=5e9), outputs), outputs)
    for row in planned.rows:
        spent = steps_of(row.spec.train.budget, 8) * 8
        spent *= counted_flops(row.spec, load_data(row.spec, outputs))
        assert spent == pytest.approx(5e9, rel=0.01)
    of_cell = [row.spec.train.budget.steps or 0 for row in planned.rows]
    assert of_cell == sorted(set(of_cell))
    twice = converted(plan(with_budget(study, flops=1e10), outputs), outputs).rows[1]
    assert twice.spec.train.budget.steps not in of_cell


def test_seconds_of_frozen_towers_are_refused(tiny: Study, outputs: Path) -> None:
    study = with_budget(tiny, seconds=2.0).with_field("freeze.image", True)
    with pytest.raises(SettingError, match=r"cell 'k1': a budget in seconds .* name budget\.flops"):
        plan(study, outputs)


def test_a_run_is_the_same_under_steps(tiny: Study, outputs: Path) -> None:
    rows = converted(plan(with_budget(tiny, flops=5e8), outputs), outputs).rows
    of_steps = plan(with_budget(tiny, steps=rows[0].spec.train.budget.steps or 0), outputs).rows
    assert rows[0].spec.train_key() == of_steps[0].spec.train_key()


def test_what_was_counted_or_timed_once_stays(
    tiny: Study, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = with_budget(tiny, flops=5e8)
    before = steps(study, outputs)
    monkeypatch.setattr("harness.runs.assemble.counted_flops", lambda *_: 1.0)
    assert steps(study, outputs) == before
    assert steps(study.model_copy(update={"seeds": (0, 7)}), outputs) == before
    tuned = study.with_fields({"optimizer.learning_rate": 1e-3, "objectives.itm.weight": 0.3})
    assert steps(tuned, outputs) == before
    other = study.with_field("batch_size", 16)
    assert set(steps(other, outputs).values()) == {round(5e8 / 16)}


def test_seconds_come_to_steps_by_a_step_timed_alone(
    tiny: Study, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr(budgets.time, "perf_counter", lambda: next(clock) / 8)  # 1/8 s a step
    made: list[int] = []
    real = Trainer.one_step
    monkeypatch.setattr(Trainer, "one_step", lambda self: (made.append(1), real(self)))
    study = with_budget(tiny, seconds=2.0)
    assert steps(study, outputs) == {"k1": 16, "k2": 16, "dual_encoder": 16}
    timed = len(made)
    assert timed == 3 * (budgets.WARMING + 40)  # 40 steps make five seconds
    assert steps(study, outputs)["k1"] == 16 and len(made) == timed  # never again
    cost = StepCost.read(next(iter((outputs / "budgets").glob("*.json"))))
    assert (cost.timed, cost.amount) == (40, 0.125) and cost.device.endswith("1 threads")


def test_runs_of_different_lengths_are_compared_over_the_shorter(
    tiny: Study, outputs: Path
) -> None:
    study = with_budget(tiny, seconds=1.0).with_field("tasks", ())
    study = study.with_fields({"primary": "validation/itc_loss", "equal_within": 0.1})
    a_step_takes(study, outputs, 1 / 19)
    assert steps(study, outputs) == {"k1": 19, "k2": 10, "dual_encoder": 5}
    lab = Lab(outputs)
    lab._tracker = lambda say: None  # type: ignore[method-assign]  # a store is another test's
    assert set(lab.run(study, local=True).values()) == {"done"}
    record = StudyRecord.read(study_file(outputs, "tiny"))
    assert [row.steps for row in record.rows] == [19, 10, 5]
    assert record.budget_unit == "seconds" and record.settings["budget"]["seconds"] == 1.0
    assert any("19 steps of 0.0526 seconds" in note for note in record.notes)
    assert any("105.3% of it" in note for note in record.notes)  # ten of 2/19 s
    results = lab.results("tiny")
    assert list(results.runs["ledger.steps"]) == [19, 10, 5]
    findings = pairing(results)
    text = "seed 0: 3 cells have the same batches (the first 5 steps of 5 to 19)"
    assert findings[0].ok and findings[0].text == text
    over = [finding.text for finding in findings if not finding.ok]
    assert over == ["k2: 1.05 seconds, the control k1: 1 seconds"]

    folder = RunFolder(outputs, record.rows[1].run)  # a batch of k2 was another one
    lines = folder.metric_lines()
    lines[1].chains[3] = "x"
    folder.rewrite_metrics(lines)
    broken = [finding.text for finding in pairing(lab.results("tiny")) if not finding.ok]
    assert "seed 0: batches differ from step 3 on: k1, dual_encoder / k2" in broken


def test_a_stop_between_measurements_keeps_the_digests(tiny: Study, outputs: Path) -> None:
    from harness.results.folders import batches_of
    from harness.runs.run import execute

    spec = plan(with_budget(tiny, steps=6), outputs).rows[0].spec
    folder = RunFolder(outputs, spec.train_key())
    real = Trainer.one_step

    def step_and_stop(self: Trainer) -> None:
        real(self)
        if self.step == 3:
            folder.stop_file.touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "one_step", step_and_stop)
        assert execute(spec, outputs) == "interrupted"
    assert execute(spec, outputs) == "done"
    assert list(batches_of(folder.metric_lines())) == [1, 2, 3, 4, 5, 6]


def test_most_of_a_run_is_compared_whatever_its_length() -> None:
    for length in range(1, 5_000):
        last = next(step for step in range(length, 0, -1) if is_compared(step))
        assert last >= length * 16 / 17
    assert sum(map(is_compared, range(1, 1_000_000))) < 300


def test_what_cannot_be_is_refused(tiny: Study, outputs: Path) -> None:
    with pytest.raises(SettingError, match="exactly one of samples, steps, flops, seconds"):
        Budget(steps=4, flops=1e9)
    with pytest.raises(SettingError, match="fine-tuning has a budget in steps or samples"):
        FineTune(budget=Budget(seconds=4))
    with pytest.raises(SettingError, match="turned into steps by the plan"):
        steps_of(Budget(flops=1e9), 64)
    mean = with_budget(tiny, flops=5e8).with_field("final", {"kind": "mean", "measurements": 9})
    with pytest.raises(SettingError, match=r"final\.measurements is 9, but"):
        Lab(outputs).plan(mean)
