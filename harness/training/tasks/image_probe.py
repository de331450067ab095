"""Image probe: what a linear classifier reads off the frozen image tower, after it has fused.

Features of every picture by the trained tower, in eval mode; a multinomial logistic regression with
L2 on those of the training items, standardised (Alain and Bengio 2016; the linear probe of CLIP).
Beside it: the most common label, and the same classifier on the bare pixels, averaged down to 16 a
side. A tower that is no better than pixels has learnt nothing that a line can read.

Letters: N items, P different pictures, F features.
"""

from __future__ import annotations

import numpy as np
import torch

from architectures.contract import Facts, FusionDesign
from architectures.downstream.features import features_of as reading
from harness.training.data.corpus import Corpus
from harness.training.data.items.item_sets import item_sets
from harness.training.data.items.items import Items
from harness.training.data.transforms import normalised
from harness.training.objectives.term import full
from harness.training.scoring.chance import majority_level
from harness.training.scoring.contract import Level, TaskScores, percent
from harness.training.scoring.probe import fitted, pixel_features
from harness.training.settings.data import Data
from harness.training.settings.objectives import Objectives
from harness.training.settings.tasks import ImageProbe

VERSION = "1"
"""Raised when the same weights score differently than before."""

READS = {
    "pooled": "what ITC reads",
    "class_token": "class token",
    "mean": "mean of the patches",
}
BATCH = 128


def why_not(facts: Facts, objectives: Objectives, task: ImageProbe) -> str:
    """Returns why a run cannot be scored, as the end of 'not applicable, because ...', or "" where
    it can.
    """
    return "" if facts.image_layers else "no layer is of the image alone"


def refuse(facts: Facts, objectives: Objectives, corpus: Corpus, task: ImageProbe) -> None:
    """Raises `SettingError` or `DataError` where the items cannot be, before a run trains."""
    item_sets(corpus, task)


def names(task: ImageProbe, data: Data) -> tuple[str, ...]:
    """Returns the names of its scores."""
    return ("accuracy", "majority", "pixels")


def score(
    design: FusionDesign, corpus: Corpus, task: ImageProbe, device: torch.device
) -> TaskScores:
    """Fits the probe on the training items and scores it on the others."""
    sets = item_sets(corpus, task)
    train, test = sets.train, sets.test
    by_tower = [features_of(design, items, task, device) for items in (train, test)]
    by_pixels = [
        pixel_features(items.images_PHWC[items.picture_NI[:, 0]]) for items in (train, test)
    ]
    right_N, pixels_N = (
        np.array(fitted(seen, train.labels, task.decay).named(unseen)) == np.array(test.labels)
        for seen, unseen in (by_tower, by_pixels)
    )
    majority = majority_level(test.labels)
    protocol = f"linear probe of the {READS[task.reads]}"
    pixels = float(pixels_N.mean())
    return TaskScores(
        protocol=protocol,
        scores=(
            percent("accuracy", 100 * float(right_N.mean()), protocol),
            percent("majority", 100 * majority, "the most common label"),
            percent("pixels", 100 * pixels, "the same probe of bare pixels"),
        ),
        levels=tuple(
            Level(name=name, successes=int(right_N.sum()), items=len(right_N), chance=chance)
            for name, chance in (("accuracy", majority), ("accuracy_pixels", pixels))
        ),
        predictions={"right": right_N.astype(np.float32), "right_pixels": pixels_N.astype("f4")},
    )


@torch.no_grad()
def features_of(
    design: FusionDesign, items: Items, task: ImageProbe, device: torch.device
) -> np.ndarray:
    """Returns the features of every item's picture: float32 (N, F)."""
    shown_P, place_N = np.unique(items.picture_NI[:, 0], return_inverse=True)
    pieces = []
    for rows in np.array_split(shown_P, -(-len(shown_P) // BATCH)):
        image_BCHW = torch.from_numpy(items.images_PHWC[rows]).permute(0, 3, 1, 2)
        states = design.encode_image(normalised(image_BCHW.to(device)))
        pieces.append(full(reading(design, states, task.reads)).cpu().numpy())
    return np.concatenate(pieces)[place_N.ravel()]
