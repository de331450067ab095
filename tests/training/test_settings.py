"""Values of the training settings that cannot be used are refused as they are written, by name."""

import math
from typing import Any

import pytest

from architectures.frozen import SettingError, checked
from harness.study import Cell, Study, Variant

CELLS = (Cell(variant=Variant("dual_encoder")),)
PLAIN = {"name": "x", "question": "Which are refused?", "cells": CELLS, "control": "dual_encoder"}


def study_with(*fields: tuple[str, Any]) -> Study:
    """A study whose file sets these fields."""
    values: dict[str, Any] = dict(PLAIN)
    for path, value in fields:
        *heads, leaf = path.split(".")
        inner = values
        for head in heads:
            inner = inner.setdefault(head, {})
        inner[leaf] = value
    return checked(Study, values)


NUMBERS = (
    *(f"optimizer.{f}" for f in ("learning_rate", "final_share", "warmup_share", "weight_decay")),
    *(f"optimizer.{f}" for f in ("eps", "clip_norm")),
    *(f"objectives.itc.{f}" for f in ("weight", "temperature", "margin", "distil")),
    *(f"objectives.itm.{f}" for f in ("weight", "hard_share")),
    *(f"objectives.mlm.{f}" for f in ("weight", "share", "mask_share", "random_share", "distil")),
    *(f"objectives.teacher.{f}" for f in ("momentum", "ramp_epochs")),
    *(f"warm_start.optimizer.{f}" for f in ("learning_rate", "weight_decay", "eps", "clip_norm")),
)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, -1.0, "much"])
@pytest.mark.parametrize("field", NUMBERS)
def test_a_number_without_sense_is_refused_by_its_whole_name(field: str, value: Any) -> None:
    with pytest.raises(SettingError, match=rf"^{field}: ") as error:
        study_with((field, value))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("optimizer.betas", (0.9, 1.0), r"optimizer\.betas\.1: .*less than 1"),
        ("optimizer.betas", (-0.1, 0.9), r"optimizer\.betas\.0: .*greater than or equal to 0"),
        ("optimizer.betas", (math.nan, 0.9), r"optimizer\.betas\.0: "),
        ("optimizer.betas", (0.9,), r"optimizer\.betas"),
        ("optimizer.warmup_share", 1.0, r"less than 1"),
        ("optimizer.final_share", 1.1, r"less than or equal to 1"),
        ("objectives.itc.temperature", 0.6, r"itc\.temperature is 0\.6, .* 0\.001 to 0\.5"),
        ("objectives.itc.temperature_range", (0.5, 0.01), r"itc\.temperature_range"),
        ("objectives.itc.temperature_range", (0.01, math.inf), r"temperature_range\.1: .*finite"),
        ("objectives.itc.queue", 8, r"set itc\.candidates to 'teacher'"),
        ("objectives.itc.queue", -1, r"^objectives\.itc\.queue: "),
        ("objectives.itc.candidates", "queue", r"^objectives\.itc\.candidates: "),
        ("objectives.mlm.random_share", 0.3, r"mlm\.mask_share \+ mlm\.random_share is 1\.1"),
        ("objectives.teacher.momentum", 1.01, r"^objectives\.teacher\.momentum: "),
        ("numerics.threads", -1, r"^numerics\.threads: "),
        ("numerics.threads", 10**6, r"^numerics\.threads: "),
        ("measure.points", 0, r"^measure\.points: "),
        ("budget.steps", 0, r"budget\.steps|steps: "),
        ("warm_start.batch_size", 1, r"^warm_start\.batch_size: "),
        ("warm_start.bert_samples", math.inf, r"^warm_start\.bert_samples: "),
    ],
)
def test_what_is_out_of_range_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message) as error:
        study_with((field, value))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", ["rerank", "every_pair"])
@pytest.mark.parametrize("value", [0, -3, math.inf, math.nan, 2.5])
def test_a_task_without_sense_is_refused(field: str, value: Any) -> None:
    with pytest.raises(SettingError, match=rf"^tasks\.0\.retrieval\.{field}: "):
        study_with(("tasks", [{"name": "retrieval", field: value}]))


def test_a_task_says_which_it_is() -> None:
    with pytest.raises(SettingError, match=r"^tasks\.0: needs a 'name'"):
        study_with(("tasks", [{"rerank": 4}]))
    (task,) = study_with(("tasks", [{"name": "pairs", "count": 4}])).tasks
    assert (task.name, task.title) == ("pairs", "pairs")


def test_values_at_the_edges_are_taken() -> None:
    edges = {
        "optimizer.betas": (0.0, 0.0),
        "optimizer.warmup_share": 0.0,
        "optimizer.final_share": 1.0,
        "optimizer.clip_norm": 0.0,
        "objectives.itc.temperature": 0.5,
        "objectives.mlm.random_share": 0.2,
        "objectives.teacher.momentum": 1.0,
        "objectives.itm.hard_share": 0.0,
    }
    changed = study_with(*edges.items())
    assert changed.optimizer.betas == (0.0, 0.0) and changed.objectives.itc.temperature == 0.5
