"""What reaches training, and what the settings of data refuse and keep."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from architectures.frozen import SettingError, checked
from harness.training.data.batches import Batches
from harness.training.data.corpus import (
    Corpus,
    _hub_notes,
    content_key,
    load_corpus,
    training_key,
)
from harness.training.settings.data import Pictures, Scenes, Text
from harness.training.settings.objectives import MLM
from tests.training.data.conftest import png

Write = Callable[..., str]


def chain(corpus: Corpus, steps: int = 5) -> str:
    batches, digest = Batches(corpus.train, corpus.tokenizer, 4, 0, MLM()), ""
    for step in range(steps):
        digest = batches.after(digest, batches.at(step))
    return digest


def test_nothing_of_the_other_splits_reaches_training(parquet: Write, tmp_path: Path) -> None:
    train = parquet(image=[png(i) for i in range(8)], caption=[f"a word {i}" for i in "stuvwxyz"])
    short = parquet("short.parquet", image=[png(9)], caption=["a word s"])
    long = parquet("long.parquet", image=[png(9)], caption=["a word s " * 5])
    for split in ("val", "test"):
        data = Pictures(**{"train": train, "val": short, "test": short})
        other = data.with_field(split, long)
        one, two = (load_corpus(each, 8, tmp_path / "cache") for each in (data, other))
        assert chain(one) == chain(two) and one.training == two.training
        assert one.content != two.content and content_key(data, 8) != content_key(other, 8)
        same = training_key(data, 8) == training_key(other, 8)
        assert same == (split == "test"), "curves read val"
        note = f"1 of 1 {split} captions are cut to 5 tokens (the longest training caption has no"
        assert one.notes != two.notes and any(n.startswith(note) for n in two.notes)
    changed = data.with_field("train", long)
    assert training_key(changed, 8) != training_key(data, 8)


def test_the_training_key_sees_what_is_held_out() -> None:
    scenes = Scenes(train=8, val=4, test=4)
    assert training_key(scenes, 8) == training_key(scenes.with_field("test", 5), 8)
    assert training_key(scenes, 8) != training_key(scenes.with_field("train", 9), 8)
    assert training_key(scenes, 8) != training_key(scenes.with_field("text.max_tokens", 5), 8)


def test_the_training_key_holds_shares_where_rows_are_held_out(parquet: Write) -> None:
    train = parquet(image=[png(i) for i in range(8)], caption=list("abcdefgh"))
    data = Pictures(train=train)
    assert training_key(data, 8) != training_key(data.with_field("test_share", 0.3), 8)
    named = data.with_fields({"val": train, "test": train})
    assert training_key(named, 8) == training_key(named.with_field("test_share", 0.3), 8)
    assert training_key(named, 8) != training_key(data, 8)


def test_captions_that_become_alike_are_noted(parquet: Write, tmp_path: Path) -> None:
    words = ["\u0915\u0942\u0938", "\u0915\u0941\u0938", "a", "b"]
    train = parquet(image=[png(i) for i in range(4)], caption=words)
    data = Pictures(train=train, val=train, test=train)
    notes = load_corpus(data, 8, tmp_path).notes
    assert any(note.startswith("2 captions are written differently") for note in notes)
    kept = data.with_field("text.normaliser", "lower")
    assert not any("written differently" in n for n in load_corpus(kept, 8, tmp_path).notes)
    assert content_key(kept, 8) != content_key(data, 8)


def test_text_of_pictures_keeps_the_defaults_of_pictures() -> None:
    for text in (Text(tokenizer="bert"), {"tokenizer": "bert"}):
        assert Pictures(train="x", text=text).text == Text(
            tokenizer="bert", vocabulary=4096, max_tokens=24
        )
    assert Pictures(train="x", text=Text(max_tokens=16)).text.max_tokens == 16
    assert Scenes(text=Text(max_tokens=20)).text.vocabulary == 512
    data = Pictures(train="x", text=Text(vocabulary=512))
    assert data.with_field("text.max_tokens", 9).text == Text(vocabulary=512, max_tokens=9)
    assert Pictures.model_validate(data.model_dump(mode="json")) == data


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"train": 1e10}, "train: .*less than or equal to 1000000"),
     ({"val": 2_000_000}, "val: .*less than or equal to 1000000"),
     ({"captions": 100_000}, "captions: .*less than or equal to 100 "),
     ({"train": 1_000_000, "captions": 100}, r"data\.train may be 50000"),
     ({"test": 10**6, "captions": 50, "train": 9}, r"data\.test 1000000 .* may be 100000")],
)  # fmt: skip
def test_more_scenes_than_fit_memory_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        checked(Scenes, changes)


@pytest.mark.parametrize("field", ["train", "image", "caption"])
def test_an_empty_name_is_refused(field: str) -> None:
    with pytest.raises(SettingError, match=f"{field}: "):
        checked(Pictures, {"train": "x"} | {field: ""})


@pytest.mark.parametrize("field", ["vocabulary", "max_tokens"])
def test_more_tokens_than_any_text_has_are_refused(field: str) -> None:
    with pytest.raises(SettingError, match=f"{field}: .*less than or equal to 100"):
        checked(Text, {field: 10**12})


def test_data_known_by_name_alone_are_noted() -> None:
    assert _hub_notes(Scenes()) == [] == _hub_notes(Pictures(train="hub:a/b@1f2e:train"))
    (note,) = _hub_notes(Pictures(train="hub:a/b:train", val="hub:a/b:train", test="t.parquet"))
    assert note.startswith("hub:a/b:train is known by its name, not by its content")
