"""The floors of a task: what classifiers of its texts alone and of its pictures alone get right on
its own items, measured once and kept. Letters: N items, I pictures of an item, H W C as pictures.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.training.data.cache import stored
from harness.training.data.items.answers import majority_worth, vqa_accuracy
from harness.training.data.items.items import Items, ItemSets
from harness.training.scoring.chance import majority_level
from harness.training.scoring.floors import (
    Floors,
    picture_only_guesses,
    shrunk,
    text_only_guesses,
)

_FORMAT = "2"
"""Raised when the same items give other floors."""
MOST = 20_000
"""Items that the classifiers are trained on, spread evenly over the training items."""
_FILE = "floors.json"
_AT_ONCE = 512


def item_floors(sets: ItemSets, cache: Path) -> Floors | None:
    """Measures the floors on the items that are scored, shares in [0, 1], or reads them from
    `cache`; None where there are no labels or no training items. A floor that cannot be is 0: of
    texts where items have none, of pictures likewise.

    Of VQA classifiers learn the most common answer of each item; what they say is worth what VQA's
    rule gives for it, as it is for a design.
    """
    if not sets.train.labels or not sets.test.labels:
        return None
    entry = stored(cache, f"floors-{_FORMAT}-{sets.content}", lambda into: _write(sets, into))
    return Floors(**json.loads((entry / _FILE).read_text()))


def _write(sets: ItemSets, into: Path) -> None:
    train, test = sets.train.at_most(MOST), sets.test
    text_only = picture_only = 0.0
    if train.texts:
        text_only = _worth(text_only_guesses(train.texts, train.labels, test.texts), test)
    if train.picture_NI.shape[1]:
        guesses = picture_only_guesses(_pixels(train), train.labels, _pixels(test))
        picture_only = _worth(guesses, test)
    floors = Floors(
        items=len(test),
        majority=majority_of(test),
        text_only=text_only,
        picture_only=picture_only,
    )
    (into / _FILE).write_text(json.dumps(dataclasses.asdict(floors)))


def majority_of(items: Items) -> float:
    """Returns what the best of all constant labels earns, a share in [0, 1]."""
    return majority_worth(items) if items.answers else majority_level(items.labels)


def _worth(guesses: Sequence[str], items: Items) -> float:
    if items.answers:
        return float(vqa_accuracy(guesses, items).mean(dtype=np.float64))
    return float(
        np.mean([guess == label for guess, label in zip(guesses, items.labels, strict=True)])
    )


def _pixels(items: Items) -> np.ndarray:
    """Returns what the net reads, uint8 (N, side, side, I * C): an item's pictures in channels."""
    pieces = []
    for start in range(0, len(items), _AT_ONCE):
        picture_nI = items.picture_NI[start : start + _AT_ONCE]
        shown = [shrunk(items.images_PHWC[picture_n]) for picture_n in picture_nI.T]
        pieces.append(np.concatenate(shown, axis=3))
    return np.concatenate(pieces)
