"""The floors of a task: what classifiers of its texts alone and of its pictures alone get right on
its own items, measured once and kept. Letters: N items, I pictures of an item, H W C as pictures.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from harness.training.data.cache import stored
from harness.training.data.items.items import Items, ItemSets
from harness.training.scoring.chance import majority_level
from harness.training.scoring.floors import (
    Floors,
    picture_only_accuracy,
    shrunk,
    text_only_accuracy,
)

_FORMAT = "1"
"""Raised when the same items give other floors."""
MOST = 20_000
"""Items that the classifiers are trained on, spread evenly over the training items."""
_FILE = "floors.json"
_AT_ONCE = 512


def item_floors(sets: ItemSets, cache: Path) -> Floors | None:
    """Measures the floors on the items that are scored, shares in [0, 1], or reads them from
    `cache`; None where there are no labels or no training items. A floor that cannot be is 0: of
    texts where items have none, of pictures likewise.

    Of VQA an item's label is its most common answer, which alone counts as right.
    """
    if not sets.train.labels or not sets.test.labels:
        return None
    entry = stored(cache, f"floors-{_FORMAT}-{sets.content}", lambda into: _write(sets, into))
    return Floors(**json.loads((entry / _FILE).read_text()))


def _write(sets: ItemSets, into: Path) -> None:
    train, test = sets.train.at_most(MOST), sets.test
    text_only = picture_only = 0.0
    if train.texts:
        text_only = text_only_accuracy(train.texts, train.labels, test.texts, test.labels)
    if train.picture_NI.shape[1]:
        columns = (_pixels(train), train.labels, _pixels(test), test.labels)
        picture_only = picture_only_accuracy(*columns)
    floors = Floors(
        items=len(test),
        majority=majority_level(test.labels),
        text_only=text_only,
        picture_only=picture_only,
    )
    (into / _FILE).write_text(json.dumps(dataclasses.asdict(floors)))


def _pixels(items: Items) -> np.ndarray:
    """Returns what the net reads, uint8 (N, side, side, I * C): an item's pictures in channels."""
    pieces = []
    for start in range(0, len(items), _AT_ONCE):
        picture_nI = items.picture_NI[start : start + _AT_ONCE]
        shown = [shrunk(items.images_PHWC[picture_n]) for picture_n in picture_nI.T]
        pieces.append(np.concatenate(shown, axis=3))
    return np.concatenate(pieces)
