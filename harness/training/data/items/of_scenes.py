"""Items of scenes, made of their ground truth. Letters: N items, I pictures of an item."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import JsonValue, TypeAdapter
from typing_extensions import TypedDict

from harness.training.data.cache import DataError, stored
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
from harness.training.settings.tasks import (
    NLVR2,
    VQA,
    Entailment,
    Grounding,
    ImageProbe,
    Sentences,
)

_FORMAT = "1"
"""Raised when the same scenes give other items."""
_FILE = "items.json"
Truths = Sequence[Mapping[str, JsonValue]]

_LEAST = 36
"""Items that are made at once, of which fewer may be taken: they come in fours and nines."""


class _Columns(TypedDict, total=False):
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    answers: tuple[tuple[tuple[str, float], ...], ...]
    box: tuple[Box, ...]
    proposals: tuple[tuple[Box, ...], ...]


_KEPT = TypeAdapter(tuple[list[list[int]], _Columns])


def scene_sets(corpus: Corpus, task: ItemTask) -> ItemSets:
    """Makes the items of a task of the ground truth of each split, the same every time.

    Raises DataError where the scenes do not allow the task.
    """
    none = no_items(corpus.train.images_NHWC)
    zero_shot = isinstance(task, Grounding) and not task.finetune
    train_count = task.items if zero_shot else task.train_items
    finetune, val = task.learning, none
    if finetune is not None:
        val = _items(corpus, corpus.val, task, finetune.measure.items)
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
    """Makes the items of one split, or reads them where they were made before: twenty thousand take
    up to a quarter of a minute.
    """

    def write(into: Path) -> None:
        try:
            rows, columns = _made(split.truth or (), corpus.data.seed, max(count, _LEAST), task)
        except DataError as error:
            raise DataError(f"{task.name} on the scenes of {split.name}: {error}") from error
        (into / _FILE).write_bytes(_KEPT.dump_json(([list(row) for row in rows], columns)))

    drawn_by = {name: getattr(task, name, None) for name in ("name", "places", "of")}
    named = json.dumps([_FORMAT, corpus.content, split.name, count, drawn_by])
    key = hashlib.blake2b(named.encode(), digest_size=16).hexdigest()
    entry = stored(corpus.cache, key, write)
    rows, columns = _KEPT.validate_json((entry / _FILE).read_bytes())
    picture_NI = np.array(rows, dtype=np.int64).reshape(len(rows), -1)
    items = Items(images_PHWC=split.images_NHWC, picture_NI=picture_NI, **columns)
    return items.at_most(count)


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
