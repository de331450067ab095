"""Items are what a downstream task asks of pictures: sentences, questions, with answers and boxes.

Letters: N items, P different pictures, I pictures of an item, H W C height, width, channels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from harness.training.data.scenes.truth import Box

SECOND = " [SEP] "
"""Stands between the two texts of an item that has two."""


@dataclass(frozen=True, kw_only=True)
class Items:
    """The items of one split. A column that a task does not have is empty."""

    images_PHWC: np.ndarray
    """uint8, square, all pictures that some item shows, and others; a memory map. Of a scene's
    split, all of it."""
    picture_NI: np.ndarray
    """int64 rows of `images_PHWC` that each item shows, as (N, I); I is 0 for text alone."""
    texts: tuple[str, ...] = ()
    """Sentence, question or expression of each item, of two texts with `SECOND` between; empty for
    pictures alone."""
    labels: tuple[str, ...] = ()
    """The right label of each item; of VQA its most common answer, of grounding on scenes the
    number of the right proposal."""
    answers: tuple[tuple[tuple[str, float], ...], ...] = ()
    """Of VQA: answers with the share of people who give them, the most common first."""
    box: tuple[Box, ...] = ()
    """Of grounding: where the thing is."""
    proposals: tuple[tuple[Box, ...], ...] = ()
    """Of grounding: the boxes to choose from; none where the file names none."""

    def __len__(self) -> int:
        return len(self.picture_NI)

    def take(self, rows: Sequence[int] | np.ndarray) -> Items:
        """Returns some of the items, in the order named, of the same pictures."""
        rows_n = np.asarray(rows, dtype=np.int64)
        return Items(
            images_PHWC=self.images_PHWC,
            picture_NI=self.picture_NI[rows_n],
            texts=_taken(self.texts, rows_n),
            labels=_taken(self.labels, rows_n),
            answers=_taken(self.answers, rows_n),
            box=_taken(self.box, rows_n),
            proposals=_taken(self.proposals, rows_n),
        )

    def at_most(self, count: int) -> Items:
        """Returns so many of the items, spread evenly; all where there are no more."""
        if len(self) <= count:
            return self
        return self.take(np.arange(count) * len(self) // count)


@dataclass(frozen=True, kw_only=True)
class ItemSets:
    """The items of a task: to train on, to measure curves on, and to score."""

    train: Items
    val: Items
    """As many as the task's `finetune.measure.items`, or fewer."""
    test: Items
    """What is scored: of the split that the task names."""
    content: str
    """Digest of all that they were made of."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Lists the labels that can be right, sorted; a label's place is its number. Those of
        entailment come out in ALBEF's order (contradiction, neutral, entailment)."""
        labels = {*self.train.labels, *self.val.labels}
        return tuple(sorted(labels, key=lambda label: (_ORDER.get(label, 0), label)))


def also_learnt(sets: ItemSets) -> int:
    """Counts the scored items whose pictures and text stand in training too; of scenes none do,
    whose splits show other pictures.
    """
    train, test = sets.train, sets.test
    if not len(train) or train.images_PHWC is not test.images_PHWC:
        return 0
    learnt = set(_shown(train))
    return sum(shown in learnt for shown in _shown(test))


def _shown(items: Items) -> Iterator[tuple[object, ...]]:
    """Yields pictures and text of each item."""
    texts = items.texts or ("",) * len(items)
    for pictures_I, text in zip(items.picture_NI.tolist(), texts, strict=True):
        yield (*pictures_I, text)


T = TypeVar("T")
_ORDER = {"contradiction": -3, "neutral": -2, "entailment": -1}


def _taken(column: tuple[T, ...], rows_n: np.ndarray) -> tuple[T, ...]:
    return tuple(column[row] for row in rows_n) if column else ()


def no_items(images_PHWC: np.ndarray) -> Items:
    """Returns a split without items."""
    return Items(images_PHWC=images_PHWC[:0], picture_NI=np.zeros((0, 0), dtype=np.int64))


def item_sets_of(train: Items, val: Items, test: Items, pictures: str) -> ItemSets:
    """Puts the splits together; `pictures`: digest of the pictures that they show."""
    content = hashlib.blake2b(pictures.encode(), digest_size=16)
    for items in (train, val, test):
        columns = (items.texts, items.labels, items.answers, items.box, items.proposals)
        content.update(json.dumps([*columns, items.picture_NI.tolist()]).encode())
    return ItemSets(train=train, val=val, test=test, content=content.hexdigest())
