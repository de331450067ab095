"""What a task gives: scores, levels beside chance, and what was predicted for every item."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Scores:
    """Final values, what chance would give, and what was predicted for every item."""

    values: dict[str, float]
    levels: dict[str, dict[str, float]]
    """Level -> successes, items, chance (a share)."""
    protocol: str
    predictions: dict[str, np.ndarray]


def record(scores: Scores) -> dict[str, Any]:
    """The part of the scores that goes into the JSON file."""
    return {"values": scores.values, "levels": scores.levels, "protocol": scores.protocol}
