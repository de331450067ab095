"""Sentences about scenes that a reader of words alone cannot label: which thing stands where.

"the red circle is left of the blue square [SEP] the red one is on the left" is true, and false with
`right` in one of its halves, with `blue` in the second, or with both things changed in the first.
Every statement stands there in both orders, about both things, so that half of what has the same
words and neighbours is true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import JsonValue

from harness.training.data.cache import DataError
from harness.training.data.items.items import SECOND
from harness.training.data.scenes.truth import Look, Scene, Scenery
from harness.training.data.scenes.wording import chosen, phrase, worded
from harness.training.randomness import stream

_OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
_PLACE = {
    "left": "on the left",
    "right": "on the right",
    "above": "on top",
    "below": "at the bottom",
}
_TRIES = 20
"""Scenes drawn for each four sentences that are wanted."""
_FIELDS = ("colour", "shape", "size")
"""By which of its looks the second half may name a thing."""


def sentences(
    truths: Sequence[Mapping[str, JsonValue]], seed: int, count: int
) -> list[tuple[str, str]]:
    """Makes at most `count` texts with their label, `true` or `false`, in fours that share a scene,
    half of them true.

    Raises DataError where no scene has two things that differ in one of their looks.
    """
    scenery, rng = Scenery.of(truths), stream(seed, "scenes sentences")
    rows, items = scenery.several, list[tuple[str, str]]()
    for _ in range(_TRIES * (count // 4) if len(rows) else 0):
        if len(items) >= count - 3:
            break
        scene = scenery.scenes[rows[rng.integers(len(rows))]]
        items += _four(scene, scenery.varied, rng)
    if not items:
        raise DataError(
            "sentences say where one thing stands from another: data.objects must allow two or "
            "more, of several colours, shapes or sizes"
        )
    order = rng.permutation(len(items))
    return [items[place] for place in order]


def _four(scene: Scene, varied: Sequence[str], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Words one relation of a scene from both sides, each with a claim about either thing."""
    said = [field for field in _FIELDS if field in varied]
    (a, b), direction = list(scene.relations.items())[int(rng.integers(len(scene.relations)))]
    things = [scene.things[place].only(said) for place in (a, b)]
    differ = [field for field in said if getattr(things[0], field) != getattr(things[1], field)]
    if not differ:
        return []
    field = chosen(differ, rng)
    side = chosen([word for word in direction.split() if word in _OPPOSITE], rng)
    claimed = side if rng.random() < 0.5 else _OPPOSITE[side]
    return [
        (
            SECOND.join(
                (_statement(*pair, rng), f"{_one(thing, field, rng)} is {_PLACE[claimed]}")
            ),
            str((thing is things[0]) == (claimed == side)).lower(),
        )
        for pair in (
            (things[0], direction, things[1]),
            (things[1], _turned(direction), things[0]),
        )
        for thing in things
    ]


def _turned(direction: str) -> str:
    return " ".join(_OPPOSITE.get(word, word) for word in direction.split())


def _statement(thing: Look, direction: str, other: Look, rng: np.random.Generator) -> str:
    return f"the {phrase(thing, rng)} is {direction} the {phrase(other, rng)}"


def _one(thing: Look, field: str, rng: np.random.Generator) -> str:
    """Names a thing by one of its looks: `the circle`, `the red one`."""
    word = worded(getattr(thing, field), rng)
    return f"the {word}" if field == "shape" else f"the {word} one"
