"""Items of scenes: what they are, that they are the same every time, and their floors."""

import collections
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from architectures.frozen import SettingError
from harness.training.data.cache import DataError
from harness.training.data.corpus import Corpus
from harness.training.data.items import item_floors as floors_of_items
from harness.training.data.items.item_floors import item_floors
from harness.training.data.items.item_sets import item_sets
from harness.training.data.items.items import ItemSets
from harness.training.data.items.listed import ItemTask
from harness.training.data.items.sentences_of_scenes import sentences
from harness.training.data.scenes.truth import Scene
from harness.training.scoring.floors import Floors, text_only_accuracy
from harness.training.settings.data import Pictures
from harness.training.settings.tasks import (
    NLVR2,
    VQA,
    Entailment,
    Grounding,
    ImageProbe,
    Sentences,
)

TASKS: dict[str, ItemTask] = {
    "entailment": Entailment(train_items=360, items=90),
    "vqa": VQA(train_items=300, items=90),
    "nlvr2": NLVR2(train_items=300, items=80),
    "grounding": Grounding(items=80),
    "image_probe": ImageProbe(train_items=300, items=90),
    "sentences": Sentences(train_items=400, items=80),
}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_items_of_scenes(name: str, two_things: Corpus, tmp_path: Path) -> None:
    task = TASKS[name]
    sets = item_sets(two_things, task)
    assert 0 < len(sets.test) <= task.items and len(sets.train) > 50
    for items in (sets.train, sets.test):
        columns = (items.texts, items.labels, items.answers, items.box, items.proposals)
        assert {len(column) for column in columns} <= {0, len(items)}
        if items.picture_NI.size:
            assert items.picture_NI.max() < len(items.images_PHWC)
    assert set(sets.test.labels) <= set(sets.labels) and len(sets.labels) > 1
    kept = item_sets(two_things, task)
    anew = item_sets(dataclasses.replace(two_things, cache=tmp_path), task)
    for again in (kept, anew):
        assert again.content == sets.content and again.test.answers == sets.test.answers
    other = item_sets(two_things, task.with_field("items", task.items - 36))
    assert other.content != sets.content
    val = item_sets(two_things, task.with_field("split", "val"))
    assert val.test.labels != sets.test.labels


@pytest.mark.parametrize("name", ["entailment", "vqa", "nlvr2", "sentences"])
@pytest.mark.parametrize("count", [1, 40])
def test_curves_are_measured_on_as_many_as_the_task_says(
    name: str, count: int, two_things: Corpus
) -> None:
    task = TASKS[name].with_field("finetune.measure.items", count)
    assert count - 4 <= len(item_sets(two_things, task).val) <= count


@pytest.mark.parametrize("of", ["colour", "shape", "place"])
def test_a_probe_reads_the_largest_thing(of: str, two_things: Corpus) -> None:
    items = item_sets(two_things, TASKS["image_probe"].with_field("of", of)).test
    for row, label in enumerate(items.labels):
        things = two_things.test.truth[row]["objects"]  # type: ignore[index]
        largest = max(things, key=lambda thing: thing["radius"])  # type: ignore
        assert label == largest[of]  # type: ignore[index]


def test_what_scenes_do_not_allow(two_things: Corpus, corpus: Corpus) -> None:
    with pytest.raises(DataError, match="image_probe: number is 2 in every picture; read somethi"):
        item_sets(two_things, ImageProbe(of="number"))
    for name in ("grounding", "sentences"):
        with pytest.raises(DataError, match=rf"{name} on the scenes of .*data.objects must allow"):
            item_sets(corpus, TASKS[name])


def test_pictures_without_truth_need_a_folder(two_things: Corpus) -> None:
    own = dataclasses.replace(two_things, data=Pictures(train="x.parquet"))
    for task in TASKS.values():
        with pytest.raises(SettingError, match=r"name a folder of items in the task's `source`"):
            item_sets(own, task)


def test_sentences_are_labelled_by_where_things_stand(two_things: Corpus) -> None:
    truths = two_things.train.truth or ()
    items = sentences(truths, 0, 400)
    assert len(items) == 400
    assert collections.Counter(label for _, label in items) == {"true": 200, "false": 200}
    sides = {"on the left": "left", "on the right": "right", "on top": "above",
             "at the bottom": "below"}  # fmt: skip
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}
    plain = [(text, label) for text, label in items if " is " in text and "plus" not in text]
    for text, label in plain:
        statement, claim = text.split(" [SEP] ")
        first, rest = statement.split(" is ")
        named = claim.split(" is ")[0].removeprefix("the ").removesuffix(" one")
        side = sides[claim.split(" is ")[1]]
        if named in first.split() and named in rest.split():
            pytest.fail(f"{text}: names both")
        directions = rest.split(" the ")[0].split()
        if named not in first.split():
            if named not in rest.split():
                continue  # in other words
            directions = [opposite.get(word, word) for word in directions]
        assert label == str(side in directions).lower(), text


@pytest.mark.slow
def test_words_and_neighbours_do_not_label_sentences(two_things: Corpus) -> None:
    train = sentences(two_things.train.truth or (), 0, 2000)
    test = sentences(two_things.test.truth or (), 0, 800)
    accuracy = text_only_accuracy(*zip(*train, strict=True), *zip(*test, strict=True))
    assert abs(accuracy - 0.5) < 0.06


def test_floors_are_measured_once(
    two_things: Corpus, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path_factory.mktemp("floors")
    sets = item_sets(two_things, TASKS["nlvr2"])
    floors = item_floors(sets, cache)
    assert floors == Floors(items=80, majority=0.5, text_only=0.5, picture_only=0.5)
    monkeypatch.setattr(floors_of_items, "_write", None)
    assert item_floors(sets, cache) == floors


def test_floors_of_what_has_no_text_or_no_picture(two_things: Corpus) -> None:
    probe = item_floors(item_sets(two_things, TASKS["image_probe"]), two_things.cache)
    assert probe and probe.text_only == 0.0 and probe.picture_only > 0.3
    alone = item_floors(item_sets(two_things, TASKS["sentences"]), two_things.cache)
    assert alone and alone.picture_only == 0.0 and alone.text_only > 0.3
    sets = item_sets(two_things, TASKS["grounding"])
    unlabelled = ItemSets(train=sets.val, val=sets.val, test=sets.test, content="none")
    assert item_floors(unlabelled, two_things.cache) is None


def test_boxes_are_those_of_the_scene(two_things: Corpus) -> None:
    items = item_sets(two_things, TASKS["grounding"]).test
    for row, box in enumerate(items.box):
        scene = Scene.of(two_things.test.truth[items.picture_NI[row, 0]])  # type: ignore[index]
        assert box in scene.boxes and set(items.proposals[row]) == set(scene.boxes)
        assert items.proposals[row][int(items.labels[row])] == box


def test_some_items_keep_the_pictures(two_things: Corpus) -> None:
    items = item_sets(two_things, TASKS["vqa"]).test
    some = items.take([5, 3])
    assert some.texts == (items.texts[5], items.texts[3]) and len(some) == 2
    assert np.array_equal(some.picture_NI, items.picture_NI[[5, 3]])
    assert some.images_PHWC is items.images_PHWC and some.box == ()
    spread = items.at_most(7)
    assert len(spread) == 7 and spread.texts[0] == items.texts[0]
