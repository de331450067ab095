"""Keys last: they are written down, a new field at its default renews none, a changed one does."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from architectures import registry
from architectures.frozen import Frozen
from harness.planning.plan import plan
from harness.planning.shelf import load, names
from harness.study import Pictures, Retrieval, RunSettings, Scenes, Study, Text, Tuning
from harness.training.data.corpus import content_key, training_key
from harness.training.settings.spec import RunSpec, TrainSpec
from harness.training.settings.warm_start import WarmStart
from harness.warm_start import keys
from tests.harness import golden

ANEW = "python -m tests.harness.golden"


# -- what is written down


def test_no_default_changed_without_its_version() -> None:
    problems = list(golden.unraised(golden.kept(), golden.now()))
    assert not problems, "\n".join(problems)


def test_what_is_written_down_is_of_now() -> None:
    kept, now = golden.kept(), golden.now()
    for part in ("versions", "settings", "designs"):
        assert kept[part] == now[part], f"{part} changed: write it down anew by `{ANEW}`"


@pytest.mark.parametrize("name", names(golden.SHELF))
def test_the_keys_of_a_shipped_study(name: str) -> None:
    now, kept = golden.keys_of(name), golden.kept()
    assert now == kept["studies"].get(name), (
        f"the train keys of studies/{name}.py are others now, so all its runs would be trained "
        "again. If the study file or a declared version was changed on purpose, write them down "
        f"anew by `{ANEW}`. If not, a field entered the key: give it a default that means what "
        "was done before it; or the rule changed: raise versions.KEYS; or what the data are known "
        "by: raise _FORMAT of data/corpus.py."
    )


# -- fields that come later


@functools.cache
def grown(kind: type[Frozen]) -> type[Frozen]:
    """The record as it would be with one more field, and so every record within."""
    fields: dict[str, Any] = {"added": (int, 7)}
    for name, field in kind.model_fields.items():
        default = None if field.is_required() else field.get_default()
        if regrown(default) is not default:
            fields[name] = (Any, regrown(default))
    return create_model(kind.__name__, __base__=kind, **fields)


def regrown(value: Any) -> Any:
    """A value with every record within as `grown`; the value itself where there is none."""
    if isinstance(value, Frozen):
        kind = grown(type(value))
        return kind.model_construct(
            **{name: regrown(getattr(value, name)) for name in type(value).model_fields}
        )
    if isinstance(value, Mapping) and any(isinstance(v, Frozen) for v in value.values()):
        return {name: regrown(inner) for name, inner in value.items()}
    if isinstance(value, tuple) and any(isinstance(v, Frozen) for v in value):
        return tuple(regrown(inner) for inner in value)
    return value


def records_within(value: Frozen, path: str = "") -> Iterator[str]:
    """Dotted paths of a record and of all records within it; empty: itself."""
    yield path
    for name in type(value).model_fields:
        inner = getattr(value, name)
        if isinstance(inner, Frozen):
            yield from records_within(inner, f"{path}{name}.")


def with_added(value: Any, path: str) -> Any:
    """A copy with the new field of one record within changed, which nothing checks."""
    head, _, rest = path.partition(".")
    inner = with_added(getattr(value, head), rest) if head else 8
    return BaseModel.model_copy(value, update={head or "added": inner})


def test_a_grown_record_differs_in_the_new_field_alone() -> None:
    more = regrown(RunSettings())
    assert more.optimizer.added == more.objectives.itc.added == more.data.text.added == 7
    plain = more.model_dump(exclude={"data", "tasks"}, warnings=False)
    assert plain["objectives"]["itm"].pop("added") == 7
    assert plain["objectives"]["itm"] == RunSettings().objectives.itm.model_dump()


@pytest.mark.parametrize("name", names(golden.SHELF))
def test_a_field_added_at_its_default_renews_no_key_of_a_study(name: str, tmp_path: Path) -> None:
    for row in plan(load(name, golden.SHELF), tmp_path).rows:
        train: TrainSpec = row.spec.train
        assert regrown(train).key() == row.spec.train_key()
        assert training_key(*_data(regrown(row.spec))) == train.data
        assert content_key(*_data(regrown(row.spec))) == row.spec.asked.content
        for task in row.spec.asked.tasks:
            assert regrown(row.spec).score_key(regrown(task)) == row.spec.score_key(task)
        if train.warm_start:
            assert keys.key(regrown(row.spec)) == keys.key(row.spec)


def _data(spec: RunSpec) -> tuple[Scenes | Pictures, int, int]:
    backbone = spec.train.backbone
    return spec.asked.data, backbone.image_size, backbone.image_channels


def test_a_field_at_another_value_renews_the_key(tiny: Study, tmp_path: Path) -> None:
    study = tiny.model_copy(update={"warm_start": WarmStart()})
    train = plan(study, tmp_path).rows[0].spec.train
    more = regrown(train)
    paths = list(records_within(more))
    assert {"", "optimizer.", "objectives.itc.", "warm_start.optimizer.", "backbone."} <= set(paths)
    renewed = {path: with_added(more, path.rstrip(".")).key() for path in paths if path}
    renewed[""] = with_added(more, "").key()
    assert len({train.key(), *renewed.values()}) == 1 + len(paths)


@pytest.mark.parametrize(
    "data", [Scenes(), Scenes(objects=(1, 3), text=Text(vocabulary=99)), Pictures(train="hub:a/b")]
)
def test_data_are_known_by_what_does_not_stand_at_its_default(data: Scenes | Pictures) -> None:
    more = regrown(data)
    assert content_key(more, 32) == content_key(data, 32)
    others = {content_key(with_added(more, path), 32) for path in ("", "text")}
    assert len({content_key(data, 32), *others}) == 3


@pytest.mark.parametrize("name", registry.names())
def test_a_field_added_to_a_designs_config_is_not_in_the_key(name: str) -> None:
    config = registry.find(name).Config()
    more = regrown(config)
    assert more.changed_fields() == config.changed_fields() == {}
    assert with_added(more, "").changed_fields() == {"added": 8}


@pytest.mark.parametrize("record", [RunSettings(), Tuning(), Retrieval(rerank=4), WarmStart()])
def test_what_tuning_and_scores_are_known_by(record: Frozen) -> None:
    assert regrown(record).changed_fields() == record.changed_fields()
    assert with_added(regrown(record), "").changed_fields() != record.changed_fields()


# -- the golden file's own rule


def test_a_changed_default_asks_for_its_version() -> None:
    old, new = golden.kept(), golden.kept()
    assert not list(golden.unraised(old, new))
    new["settings"]["Optimizer"]["eps"] = 1e-6
    new["designs"]["split_bert"]["defaults"]["pooler"] = True
    del new["designs"]["split_bert"]["defaults"]["cross_every"]
    assert set(golden.unraised(old, new)) == {
        "Optimizer.eps has the default 1e-06, it was 1e-08; raise versions.SETTINGS",
        "split_bert.Config.cross_every is gone; raise the version of split_bert",
        "split_bert.Config.pooler has the default True, it was False; raise the version of "
        "split_bert",
    }
    new["versions"]["SETTINGS"] = "raised"
    new["designs"]["split_bert"]["version"] = "raised"
    assert not list(golden.unraised(old, new))


def test_a_field_that_came_later_asks_for_no_version() -> None:
    old, new = golden.kept(), golden.kept()
    new["settings"]["Optimizer"]["added"] = 7
    new["settings"]["RunSettings"]["optimizer"]["added"] = 7
    assert not list(golden.unraised(old, new))
