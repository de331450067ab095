"""TaskScores is what a task returns: scores with their units, levels beside chance, predictions."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """One final value of a task."""

    name: str
    """Stable name within the task, such as `mean_recall`."""
    value: float
    """The value, in `unit`."""
    unit: str
    """`percent`, `nats`, ..."""
    higher_is_better: bool
    protocol: str
    """How the value came about, in the words of a table: `re-ranked`, `ITC alone`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Level:
    """A count that is held against chance: how many of the items succeeded."""

    name: str
    successes: int
    """Expected successes, rounded down where ties make them a fraction."""
    items: int
    chance: float
    """Share of the items, in [0, 1], that a model which has learnt nothing gets right."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskScores:
    """All that a task says of one trained design."""

    protocol: str
    """The design's own protocol, by which `levels` and the scores without a suffix are made."""
    scores: tuple[Score, ...]
    levels: tuple[Level, ...]
    predictions: dict[str, np.ndarray]
    """Name -> one value for every item, for a look at single items."""
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    """What was timed -> seconds on the run's device: of this machine and its load, no part of what
    is equal to the bit."""


def percent(name: str, value: float, protocol: str) -> Score:
    """Returns a share in percent, of which more is better."""
    return Score(name=name, value=value, unit="percent", higher_is_better=True, protocol=protocol)
