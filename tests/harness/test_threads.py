"""Threads of a study are measured once, where it asks for that, and kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from architectures.frozen import SettingError
from harness.lab import Lab
from harness.planning import threads
from harness.planning.plan import plan, write_study
from harness.study import Cell, Study, Variant, matched
from harness.training.settings.spec import RunSpec


@pytest.fixture
def measured(tiny: Study) -> Study:
    return tiny.with_field("numerics.threads", 0)


def plant(monkeypatch: pytest.MonkeyPatch, rates: dict[int, float]) -> list[tuple[int, int]]:
    """Sets what runs make together by their threads; returns the list of what was measured."""
    calls = []

    def together(spec: RunSpec, outputs: Path, threads: int, runs: int) -> float:
        calls.append((threads, runs))
        return rates[threads]

    monkeypatch.setattr(threads, "_together", together)
    monkeypatch.setattr(os, "cpu_count", lambda: max(rates))
    return calls


@pytest.mark.parametrize(
    ("rates", "choice"),
    [
        ({1: 300.0, 2: 200.0}, 1),
        ({1: 200.0, 2: 300.0}, 2),
        ({1: 200.0, 2: 202.0}, 1),
        ({1: 100.0, 2: 140.0, 3: 139.0, 6: 90.0}, 2),
    ],
)
def test_the_fastest_together_is_taken_and_kept(
    measured: Study,
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    rates: dict[int, float],
    choice: int,
) -> None:
    calls = plant(monkeypatch, rates)
    planned = Lab(outputs).plan(measured)
    assert calls == [(n, max(rates) // n) for n in rates]
    assert {row.spec.train.numerics.threads for row in planned.rows} == {choice}
    named = measured.with_field("numerics.threads", choice)
    assert planned.specs == Lab(outputs).plan(named).specs  # the same runs as where it is named
    (note,) = threads.notes(planned, outputs)
    assert all(f"{rate:,.0f} samples/s" in note for rate in rates.values())

    plant(monkeypatch, {n: 1000.0 * n for n in rates})  # a second plan measures nothing
    assert Lab(outputs).plan(measured).specs == planned.specs


def test_no_more_stand_side_by_side_than_the_study_has_runs(
    measured: Study, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = measured.model_copy(update={"cells": measured.cells[:1], "seeds": (0,)})
    calls = plant(monkeypatch, {1: 9.0, 2: 1.0})
    assert Lab(outputs).plan(alone).study.numerics.threads == 2
    assert calls == [(2, 1)]


@pytest.mark.parametrize("changes", [{"numerics.device": "cuda"}, {"numerics.workers": 2}])
def test_what_cannot_be_measured_is_refused(
    measured: Study, outputs: Path, changes: dict[str, object]
) -> None:
    with pytest.raises(SettingError, match="name a number where"):
        Lab(outputs).plan(measured.with_fields(changes))


@pytest.mark.parametrize("threads_of_all", [0, 1])
def test_a_cell_alone_is_not_measured(measured: Study, outputs: Path, threads_of_all: int) -> None:
    cell = measured.cells[0].model_copy(update={"settings": {"numerics.threads": 0}})
    study = measured.model_copy(update={"cells": (cell, *measured.cells[1:])})
    with pytest.raises(SettingError, match=f"cell '{cell.name}': numerics.threads 0 .* study, or"):
        Lab(outputs).plan(study.with_field("numerics.threads", threads_of_all))


def test_a_control_is_measured_at_the_size_that_it_is_given(
    tiny: Study, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control may itself cost what another cell costs; the size does not hang on the threads."""
    deep = Variant("full_text_deep_fusion", text_layers=1)
    control = Cell(variant=deep, label="deep", matched=matched("parameters", to="k1"))
    fields = {"cells": (tiny.cells[0], control), "control": "deep"}
    study = tiny.model_copy(update=fields).with_field("numerics.threads", 0)
    measured = []

    def together(spec: RunSpec, outputs: Path, threads: int, runs: int) -> float:
        measured.append(spec.train.config["fusion_layers"])
        return float(threads)

    monkeypatch.setattr(threads, "_together", together)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    planned = Lab(outputs).plan(study)
    assert measured == [2, 2]
    assert planned.matched["deep"].fields == {"fusion_layers": 2}
    assert {row.spec.train.numerics.threads for row in planned.rows} == {2}
    assert "of full_text_deep_fusion" in next(threads.notes(planned, outputs))
    write_study(planned, outputs)
    assert Lab(outputs).plan(study).specs == planned.specs and measured == [2, 2]


def test_a_process_that_fails_says_why(measured: Study, outputs: Path) -> None:
    spec = plan(measured, outputs).specs[0]
    train = spec.train.model_copy(update={"design": "nothing"})
    broken = spec.model_copy(update={"train": train})
    with pytest.raises(SettingError, match="unknown design 'nothing'"):
        threads._together(broken, outputs, 1, 1)


@pytest.mark.slow
def test_runs_train_side_by_side(
    measured: Study, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    (note,) = threads.notes(Lab(outputs).plan(measured), outputs)
    assert "2 side by side with 1 make" in note and "1 side by side with 2 make" in note
