"""Items of scenes, made of their ground truth. Letters: N items, I pictures of an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import JsonValue
from typing_extensions import TypedDict

from harness.training.data.cache import DataError
from harness.training.data.corpus import Corpus
from harness.training.data.items.items import Items, ItemSets, item_sets_of, no_items
from harness.training.data.items.listed import ItemTask
from harness.training.data.items.sentences_of_scenes import sentences
from harness.training.data.scenes.entailment import entailments
from harness.training.data.scenes.expressions import expressions
from harness.training.data.scenes.questions import questions
from harness.training.data.scenes.truth import Box, Scene
from harness.training.data.scenes.two_pictures import statements
from harness.training.data.splits import Split
from harness.training.settings.task import Learnt
from harness.training.settings.tasks import (
    NLVR2,
    VQA,
    Entailment,
    Grounding,
    ImageProbe,
    Sentences,
)

Truths = Sequence[Mapping[str, JsonValue]]


class _Columns(TypedDict, total=False):
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    answers: tuple[tuple[tuple[str, float], ...], ...]
    box: tuple[Box, ...]
    proposals: tuple[tuple[Box, ...], ...]


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
    try:
        rows, columns = _made(split.truth or (), corpus.data.seed, count, task)
    except DataError as error:
        raise DataError(f"{task.name} on the scenes of {split.name}: {error}") from error
    picture_NI = np.array(rows, dtype=np.int64).reshape(len(rows), -1)
    return Items(images_PHWC=split.images_NHWC, picture_NI=picture_NI, **columns)


def _made(
    truths: Truths, seed: int, count: int, task: ItemTask
) -> tuple[Sequence[Sequence[int]], _Columns]:
    """Returns the rows of the pictures that each item shows, and the items' columns."""
    match task:
        case Entailment():
            claims = entailments(truths, seed, count)
            return [(item.picture,) for item in claims], {
                "texts": tuple(item.sentence for item in claims),
                "labels": tuple(item.label for item in claims),
            }
        case VQA():
            asked = questions(truths, seed, count)
            return [(item.picture,) for item in asked], {
                "texts": tuple(item.question for item in asked),
                "labels": tuple(item.answers[0][0] for item in asked),
                "answers": tuple(item.answers for item in asked),
            }
        case NLVR2():
            said = statements(truths, seed, count)
            return [item.pictures for item in said], {
                "texts": tuple(item.statement for item in said),
                "labels": tuple(str(item.label).lower() for item in said),
            }
        case Grounding():
            meant = expressions(truths, seed, count, places=task.places)
            return [(item.picture,) for item in meant], {
                "texts": tuple(item.expression for item in meant),
                "labels": tuple(str(item.right) for item in meant),
                "box": tuple(item.boxes[item.right] for item in meant),
                "proposals": tuple(item.boxes for item in meant),
            }
        case ImageProbe():
            looks = tuple(_look(truth, task.of) for truth in truths[:count])
            return [(row,) for row in range(len(looks))], {"labels": looks}
        case Sentences():
            labelled = sentences(truths, seed, count)
            return [()] * len(labelled), {
                "texts": tuple(text for text, _ in labelled),
                "labels": tuple(label for _, label in labelled),
            }


def _look(truth: Mapping[str, JsonValue], of: str) -> str:
    """Reads what the largest thing of a scene looks like, or how many things there are."""
    scene = Scene.of(truth)
    if of == "number":
        return str(len(scene.things))
    look: str = getattr(scene.things[scene.radii.index(max(scene.radii))], of)
    return look
