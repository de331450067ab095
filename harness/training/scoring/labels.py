"""Scores of tasks that have a right answer for each item, beside their floors. Letters: N items."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from harness.training.scoring.contract import Level, TaskScores, percent
from harness.training.scoring.floors import Floors

PROTOCOL = "fine-tuned"
BLIND = "accuracy_blind_floor"
"""Level of the accuracy beside the highest of its floors."""
NAMES = ("accuracy", "majority", "text_only", "picture_only")
"""Of the scores, the floors' last."""


def label_scores(
    right_N: np.ndarray,
    majority: float,
    floors: Floors | None,
    predictions: Mapping[str, np.ndarray],
    protocol: str = PROTOCOL,
) -> TaskScores:
    """Returns the accuracy of a task, with its floors.

    right_N: (N,) how right each item is, in [0, 1]; ties earn their expectation
    majority: what the best of all constant labels earns, in [0, 1]
    predictions: name -> a row for each item, kept beside `right_N`
    """
    scores = [percent("accuracy", 100 * float(right_N.mean()), protocol)]
    scores.append(percent("majority", 100 * majority, "floor: the commonest answer"))
    levels = [_level("accuracy", right_N, majority)]
    if floors is not None:
        both = {"text_only": floors.text_only, "picture_only": floors.picture_only}
        scores += [
            percent(name, 100 * share, f"floor: trained on {name.partition('_')[0]} alone")
            for name, share in both.items()
        ]
        levels.append(_level(BLIND, right_N, max(majority, *both.values())))
    return TaskScores(
        protocol=protocol,
        scores=tuple(scores),
        levels=tuple(levels),
        predictions={"right": right_N.astype(np.float32), **predictions},
    )


def _level(name: str, right_N: np.ndarray, chance: float) -> Level:
    successes = math.floor(right_N.sum() + 1e-6)  # shares may add up to just below a whole
    return Level(name=name, successes=successes, items=len(right_N), chance=chance)


def names(floors: bool) -> tuple[str, ...]:
    """Returns the names of the scores."""
    return NAMES if floors else NAMES[:2]
