"""Items of scenes, made of their ground truth. Letters: N items, I pictures of an item."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
from pydantic import JsonValue

from harness.training.data.cache import DataError
from harness.training.data.corpus import Corpus
from harness.training.data.items.items import Items, ItemSets, item_sets_of, no_items
from harness.training.data.items.listed import ItemTask
from harness.training.data.items.sentences_of_scenes import sentences
from harness.training.data.scenes.entailment import entailments
from harness.training.data.scenes.expressions import expressions
from harness.training.data.scenes.questions import questions
from harness.training.data.scenes.two_pictures import statements
from harness.training.data.splits import Split
from harness.training.settings.task import Learnt
from harness.training.settings.tasks import Grounding, ImageProbe

Truths = Sequence[Mapping[str, JsonValue]]
_LOOKS = ("colour", "shape", "place", "size")


def scene_sets(corpus: Corpus, task: ItemTask) -> ItemSets:
    """Makes the items of a task of the ground truth of each split, the same every time.

    Raises DataError where the scenes do not allow the task.
    """
    none = no_items(corpus.train.images_NHWC)
    train_count = task.items if isinstance(task, Grounding) else task.train_items
    val = none
    if isinstance(task, Learnt):
        val = _items(corpus, corpus.val, task, task.finetune.measure.items)
    sets = item_sets_of(
        _items(corpus, corpus.train, task, train_count),
        val,
        _items(corpus, getattr(corpus, task.split), task, task.items),
        corpus.content,
    )
    if isinstance(task, ImageProbe) and len(sets.labels) < 2:
        raise DataError(
            f"image_probe: {task.of} is {sets.labels[0]} in every picture; read something else (of)"
        )
    return sets


def _items(corpus: Corpus, split: Split, task: ItemTask, count: int) -> Items:
    seed, truths = corpus.data.seed, split.truth or ()
    try:
        return _MAKERS[task.name](split, truths, seed, count, task)
    except DataError as error:
        raise DataError(f"{task.name} on the scenes of {split.name}: {error}") from error


def _shown(split: Split, rows: Sequence[Sequence[int]]) -> np.ndarray:
    return np.array(rows, dtype=np.int64).reshape(len(rows), -1)


def _entailment(split: Split, truths: Truths, seed: int, count: int, task: ItemTask) -> Items:
    made = entailments(truths, seed, count)
    return Items(
        images_PHWC=split.images_NHWC,
        picture_NI=_shown(split, [(item.picture,) for item in made]),
        texts=tuple(item.sentence for item in made),
        labels=tuple(item.label for item in made),
    )
