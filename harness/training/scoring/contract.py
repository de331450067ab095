"""What a task gives: scores with their unit and direction, levels beside chance, predictions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Score:
    """One final value."""

    name: str
    value: float
    unit: str
    """`percent`, `nats`, ..."""
    higher_is_better: bool
    protocol: str
    """How it was obtained, as `re-ranked`."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """Items answered correctly, beside the share of them that guessing gets right."""

    name: str
    successes: int
    items: int
    chance: float
    """A share, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class TaskScores:
    """All that a task says of one trained design."""

    protocol: str
    """How the design's own scores were obtained."""
    scores: tuple[Score, ...]
    levels: tuple[Level, ...]
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    """Name -> a value for every item."""


def percent(name: str, value: float, protocol: str) -> Score:
    """A share in percent, higher is better."""
    return Score(name=name, value=value, unit="percent", higher_is_better=True, protocol=protocol)
