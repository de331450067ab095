"""Every field of every setting, given what it cannot be: generated from the types of the fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from architectures import registry
from architectures.frozen import Frozen, SettingError, checked
from harness.study import Pictures, Study, WarmStart
from harness.training.settings.tasks import KINDS
from tests.harness.bad_inputs.conftest import FOREIGN, Refused

NUMBERS = ["many", [], {}, "", float("nan"), float("inf")]
WRONG: dict[str, list[Any]] = {
    "integer": [*NUMBERS, 1.5, 1e30],
    "number": NUMBERS,
    "string": [7, [], {}],
    "boolean": ["maybe", 7, []],
    "array": [7, "x", {}, [[]], [None]],
    "object": [7, "x", [], {"a": 7}],
}
"""Type of a field in JSON's words -> values of other types, or none at all."""


def wrong_values(schema: dict[str, Any]) -> Iterator[Any]:
    """Values that a field of this schema cannot have."""
    for kind in schema.get("anyOf", [schema]):
        if "enum" in kind or "const" in kind:
            yield from ("betr", 7, [])
            continue
        if "oneOf" in kind or "$ref" in kind:
            yield from (7, "x", [], {"kind": "none"})
            continue
        yield from WRONG.get(kind.get("type", ""), [])
        for bound, beyond in (("minimum", -1), ("maximum", 1)):
            if bound in kind:
                yield kind[bound] + beyond
        for bound in ("exclusiveMinimum", "exclusiveMaximum"):
            if bound in kind:
                yield kind[bound]
    if "anyOf" not in schema:
        yield None


def fields(record: Frozen, under: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Dotted path and schema of every field of a record and of the records within."""
    schemas = type(record).model_json_schema()["properties"]
    for name in type(record).model_fields:
        value = getattr(record, name)
        if isinstance(value, Frozen):
            yield from fields(value, f"{under}{name}.")
        if name in schemas:
            yield f"{under}{name}", schemas[name]


def unique(values: Iterator[Any]) -> list[Any]:
    return [json.loads(text) for text in dict.fromkeys(json.dumps(value) for value in values)]


@pytest.mark.slow
@pytest.mark.parametrize("data", ["scenes", "pictures"])
@pytest.mark.timeout(400)
def test_every_field_by_set(
    tiny: Study,
    study: Path,
    refused: Refused,
    record_property: Callable[[str, int], None],
    data: str,
) -> None:
    whole = tiny.with_field("warm_start", WarmStart())
    beside = ["--set", "warm_start={}"]
    if data == "pictures":
        whole = whole.with_field("data", Pictures(train="no.parquet"))
        beside += ["--set", 'data={"kind": "pictures", "train": "no.parquet"}']
    count, faults = 0, []
    for path, schema in fields(whole):
        if data == "pictures" and not path.startswith("data."):
            continue
        own = [] if "." not in path else beside
        for value in unique(wrong_values(schema)):
            if (path, value) == ("looks", 7):  # wrong as numbers of seeds, right as how many
                continue
            if (path == "warm_start" and value is None) or (value == {} and path in LIKE_NOTHING):
                continue
            count += 1
            change = f"{path}={json.dumps(value)}"
            faults += refused("plan", study, *own, "--set", change, names=[path])
    record_property("cases", count)
    assert not faults, "\n".join(faults)
    assert count > (100 if data == "pictures" else 600)


LIKE_NOTHING = ("warm_start", "backbone", "objectives", "optimizer", "numerics", "measure")
"""Records whose every field has a default: `{}` is one."""


@pytest.mark.parametrize("name", registry.names())
def test_every_field_of_a_design(name: str, record_property: Callable[[str, int], None]) -> None:
    config = registry.config(name, {})
    faults, count = [], 0
    for path, schema in fields(config):
        for value in unique(wrong_values(schema)):
            try:
                registry.config(name, {path: value})
            except SettingError as error:
                message = str(error)
                if not message.startswith(f"{name}: ") or path not in message:
                    faults.append(f"{path}={value!r}: {message}")
                faults += [f"{path}={value!r}: {message}" for w in FOREIGN if w in message]
                count += 1
            except Exception as error:
                faults.append(f"{path}={value!r}: {type(error).__name__}")
    record_property("cases", count)
    assert not faults, "\n".join(faults)
    assert count > 5


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_task(
    kind: type[Frozen], record_property: Callable[[str, int], None]
) -> None:
    faults, count = [], 0
    for path, schema in fields(kind()):
        *records, field = path.split(".")
        for value in unique(wrong_values(schema)):
            if value == {} and field in (*LIKE_NOTHING, "finetune"):
                continue
            written = {field: value}
            for record in reversed(records):
                written = {record: written}
            with pytest.raises(SettingError) as caught:
                checked(kind, written, "tasks.0.")
            message, count = str(caught.value), count + 1
            if f"tasks.0.{path}" not in message or any(word in message for word in FOREIGN):
                faults.append(f"{path}={value!r}: {message}")
    record_property("cases", count)
    assert not faults, "\n".join(faults)
    assert count > 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("batch_size", "write it as field=value"),
        ("=3", "unknown field ''"),
        ("optimizer..x=3", "unknown field 'optimizer.'"),
        ("optimizer.learning_rate.x=3", "holds a plain value"),
        ("warm_start.seed=3", "warm_start is null: set warm_start as a whole too"),
        ("cells.0.label=3", "cells holds a plain value"),
        ("backbone=tny", "did you mean 'tiny'"),
        ('data={"kind": "picture"}', "did you mean 'pictures'"),
        ('data={"train": 5}', "needs a 'kind'"),
        ("budget.step=3", "did you mean 'steps'"),
        ("[red]x[/red]=3", "unknown field '[red]x[/red]'"),
        ("control=[bold]k1", "unknown control '[bold]k1'"),
        ("control=\x1b[31mk1", r"unknown control '\x1b[31mk1'"),
        ("batch_size=" + "[" * 9000, "(9,002 characters)"),
        ('tuning.space.optimizer.lr={"low": 1, "high": 2}', "unknown field 'optimizer.lr'"),
        ('tuning.space.seeds={"low": 1, "high": 2}', "may name fields of these"),
        ('tuning.space.optimizer.warmup_share={"low": 0.5, "high": 2}', "less than 1"),
        ('tuning.space.optimizer.eps={"low": 3, "high": 2}', "low must be below high"),
        ('tasks=[{"name": "retrieve"}]', "tasks.0"),
        ("tasks=retrieval", "tasks: must be a list"),
        ("name=a/b", "must be a word of letters, digits, _ and -"),
        ("name=" + "a" * 300, "at most 100 characters"),
        ("seeds=[1, -1]", "seeds.1: must be greater than or equal to 0"),
        ("seeds=[1, 10000]", "tuning.seed 10000 is also a reporting seed"),
        ("backbone.image_heads=3", "is not divisible by image_heads 3"),
        ("backbone.init_std=Infinity", "must be a finite number"),
        ("backbone.text_layers=1000000000", "less than or equal to 1000"),
        ("tasks=[]", "primary"),
        ("data.objects=[3, 1]", "objects=(3, 1)"),
        ("data.text.vocabulary=3", "text.vocabulary=3 is less"),
        ("data.text.max_tokens=500", "more than backbone.max_positions"),
        ("data.text.tokenizer=no/where", "data.text.tokenizer 'no/where' cannot be loaded"),
        ("backbone.vision=resnet50", "is no ViT"),
        ("backbone.vision_weights=nowhere.pth", "vision_weights 'nowhere.pth'"),
        ("backbone.text_weights=nowhere/x", "text_weights 'nowhere/x'"),
        ("batch_size=1000", "larger than the training data"),
    ],
)
def test_settings_that_do_not_fit(study: Path, refused: Refused, change: str, words: str) -> None:
    assert not refused("plan", study, "--set", change, names=[words])
