"""Studies are data: products, keys, and words for what is wrong."""

import pytest
from pydantic import ValidationError

from architectures.frozen import SettingError
from harness.study import (
    Budget,
    Cell,
    FineTune,
    Measure,
    Numerics,
    Objectives,
    Optimizer,
    Pictures,
    Retrieval,
    Scenes,
    Study,
    Variant,
    add_one_in,
    grid,
    leave_one_out,
    scale,
)
from harness.training.data.corpus import content_key
from harness.training.settings import versions
from harness.training.settings.spec import Asked, RunSpec, TrainSpec
from harness.training.settings.warm_start import WarmStart


def study(**fields: object) -> Study:
    cells = grid(Variant("split_bert"), text_layers=(2, 6))
    given = {"name": "s", "question": "?", "cells": cells, "control": "split_bert text_layers=6"}
    return Study(**{**given, **fields})  # type: ignore[arg-type]


def spec(**fields: object) -> RunSpec:
    """A run of these fields of its two records."""
    train: dict[str, object] = {
        "design": "split_bert",
        "config": {"text_layers": 6},
        "budget": Budget(steps=3),
        "batch_size": 8,
        "seed": 0,
        "versions": {"design": "1"},
        "data": "abc",
    }
    asked: dict[str, object] = {
        "data": Pictures(train="a.parquet"),
        "tasks": (Retrieval(),),
        "task_versions": {"retrieval": "1"},
    }
    for name, value in fields.items():
        part, _, field = name.partition("__")
        {"train": train, "asked": asked}[part][field] = value
    return RunSpec(train=TrainSpec(**train), asked=Asked(**asked))  # type: ignore[arg-type]


def test_grid_is_the_product_of_fields_and_settings() -> None:
    cells = grid(Variant("d", a=1), {"objectives.mlm.weight": (0, 1)}, k=(1, 2))
    assert [cell.name for cell in cells] == [
        "d a=1 k=1 weight=0", "d a=1 k=1 weight=1", "d a=1 k=2 weight=0", "d a=1 k=2 weight=1",
    ]  # fmt: skip


@pytest.mark.parametrize("order", [1, -1])
def test_changes_that_need_each_other_are_made_together(order: int) -> None:
    changes = {"objectives.itc.queue": 8, "objectives.itc.candidates": "teacher", "batch_size": 4}
    changed = study().with_fields(dict(list(changes.items())[::order]))
    assert (changed.objectives.itc.queue, changed.batch_size) == (8, 4)
    with pytest.raises(
        SettingError, match=r"queue holds features of the teacher: set itc\.candidates"
    ):
        study().with_field("objectives.itc.queue", 8)
    cell = Cell(variant=Variant("split_bert"), settings=changes, label="taught")
    assert study(cells=(cell,), control="taught").settings_of(cell).objectives.itc.queue == 8
    with pytest.raises(SettingError, match=r"batch_size\.a: batch_size holds a plain value"):
        study().with_field("batch_size.a", 1)


def test_leave_one_out_and_the_ladder() -> None:
    full = Cell(variant=Variant("d", pooler=True), label="full")
    parts = {"ITM": {"objectives.itm.weight": 0.0}, "pooler": {"design.pooler": False}}
    removed = leave_one_out(full, parts)
    assert [cell.name for cell in removed] == ["full", "without ITM", "without pooler"]
    assert removed[1].settings == {"objectives.itm.weight": 0.0}
    assert removed[2].variant.fields == {"pooler": False} and removed[2].settings == {}
    ladder = add_one_in(full, parts)
    assert ladder[2].settings == {"objectives.itm.weight": 0.0}
    assert ladder[2].variant.fields == {"pooler": False}


def test_a_study_survives_json() -> None:
    asked = study(budget=Budget(steps=3), data=Scenes(objects=(1, 3)))
    assert Study.model_validate_json(asked.model_dump_json()) == asked


def test_a_field_is_reached_by_its_path() -> None:
    changed = study().with_field("optimizer.learning_rate", 0.5).with_field("budget.steps", 7)
    assert changed.optimizer.learning_rate == 0.5
    assert changed.budget == Budget(steps=7)
    assert study().with_field("backbone", "tiny").backbone == scale("tiny")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("optimiser.learning_rate", 1, "did you mean 'optimizer'"),
        ("optimizer.learningrate", 1, "did you mean 'optimizer.learning_rate'"),
        ("objectives.mml.weight", 1, "did you mean 'objectives.mlm'"),
        ("objectives.itc.temperature", 0.9, "kept within itc.temperature_range, 0.001 to 0.5"),
        ("objectives.itc.temperature_range", [0, 0.5], "0 < lowest"),
        ("objectives.itc.temperature_range", [0.5, 0.001], "itc.temperature is 0.07"),
        ("backbone", "nono", "did you mean 'nano'"),
        ("backbone.patch_size", 7, "not divisible by patch_size 7"),
        ("budget.samples", -1, "greater than 0"),
        ("control", "6+7", "unknown control"),
        ("seeds", [0, 0], "each once"),
        ("seeds", [10_000], "also a reporting seed"),
        ("looks", [5, 3], "each once, in order"),
        ("looks", [3, 3], "each once, in order"),
        ("looks", [1, 3], "at least two seeds"),
        ("looks", [], "at least two seeds"),
        ("looks", 0, "once or more often"),
        ("name", "a/b", "name"),
        ("batch_size", 1, "greater than or equal to 2"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: object, said: str) -> None:
    with pytest.raises(SettingError, match=said.replace("+", r"\+")):
        study().with_field(path, value)


def test_a_cell_may_only_change_run_settings_that_exist() -> None:
    for settings in ({"seeds": [1]}, {"optimizer.lr": 1}):
        cell = Cell(variant=Variant("d"), settings=settings, label="x")
        with pytest.raises((SettingError, ValidationError), match=r"unknown"):
            study(cells=(cell,), control="x")


def test_the_train_key_is_what_shapes_the_weights() -> None:
    key = spec().train_key()
    same = [
        {"asked__tasks": ()},
        {"asked__not_applicable": {"itm": "no fusion"}},
        {"asked__data": Pictures(train="moved.parquet")},
        {"asked__task_versions": {"retrieval": "2"}},
        {"asked__design_file": "own.py"},
        {"asked__sources": {"abc": "moved.pth"}},
    ]
    other = [
        {"train__seed": 1},
        {"train__data": "abcd"},
        {"train__versions": {"design": "2"}},
        {"train__design": "dual_encoder"},
        {"train__numerics": Numerics(threads=2)},
        {"train__budget": Budget(steps=4)},
        {"train__budget": Budget(samples=3)},
        {"train__batch_size": 9},
        {"train__config": {"text_layers": 5}},
        {"train__backbone": scale("tiny")},
        {"train__objectives": Objectives().with_field("itc.weight", 0.5)},
        {"train__optimizer": Optimizer(eps=1e-7)},
        {"train__measure": Measure(points=3)},
        {"train__warm_start": WarmStart()},
    ]
    assert all(spec(**change).train_key() == key for change in same)
    assert len({key} | {spec(**change).train_key() for change in other}) == 1 + len(other)


def test_the_data_settings_are_in_the_key_by_what_they_give() -> None:
    keys = {content_key(data, 32) for data in (Scenes(), Scenes(seed=1), Scenes(objects=(1, 2)))}
    assert len(keys | {content_key(Scenes(), 64), content_key(Scenes(), 32, 1)}) == 5
    hub = Pictures(train="hub:them/pairs")
    changed = [{"fit": "crop"}, {"seed": 1}, {"augment": "crop"}, {"text.max_tokens": 9}]
    keys = {content_key(hub.with_fields(change), 32) for change in ({}, *changed)}
    assert len(keys) == 5


def test_a_score_key_adds_the_task_and_its_version() -> None:
    task = Retrieval()
    keys = {
        spec().score_key(task),
        spec().score_key(Retrieval(rerank=4)),
        spec(asked__task_versions={"retrieval": "2"}).score_key(task),
        spec(train__seed=1).score_key(task),
    }
    assert len(keys) == 4


def test_what_a_new_loop_teaches_is_scored_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    learnt, as_it_is = Retrieval(finetune=FineTune()), Retrieval()
    before, kept = spec().score_key(learnt), spec().score_key(as_it_is)
    monkeypatch.setattr(versions, "FINETUNE", "raised")
    assert spec().score_key(learnt) != before
    assert spec().score_key(as_it_is) == kept
