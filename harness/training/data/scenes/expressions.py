"""Referring expressions are words that fit exactly one thing of a picture; they mean its box.

As in RefCOCO+ (Yu et al. 2016) no place is named, unless asked for, and the candidates are the
boxes of all things of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from harness.training.data.cache import DataError
from harness.training.data.scenes.truth import Box, Look, Scene, Scenery
from harness.training.data.scenes.wording import chosen, drawn_look, phrase
from harness.training.randomness import stream

_RELATED = 0.3
"""Share of expressions that say where the thing stands from another one, where places are named."""
_TRIES = 10


@dataclass(frozen=True, kw_only=True)
class Expression:
    """Which box do these words mean?"""

    picture: int
    """Row of the split."""
    expression: str
    boxes: tuple[Box, ...]
    """Of all things of the picture, in reading order of their centres."""
    right: int
    """Which of the boxes is meant."""


def expressions(
    truths: Sequence[Mapping[str, JsonValue]], seed: int, count: int, *, places: bool = False
) -> tuple[Expression, ...]:
    """Makes `count` expressions, of pictures with two things or more.

    `places`: some also name the thing's place, or where it stands seen from another one. Raises
    DataError where no picture has two things that can be told apart.
    """
    scenery, rng = Scenery.of(truths), stream(seed, "scenes expressions", str(places))
    rows = scenery.several
    items: list[Expression] = []
    for _ in range(20 * count if len(rows) else 0):
        if len(items) == count:
            break
        row = int(rows[rng.integers(len(rows))])
        scene = scenery.scenes[row]
        fields = [field for field in scenery.varied if places or field != "place"]
        name = _related if places and rng.random() < _RELATED else _alone
        meant = next(filter(None, (name(scene, fields, rng) for _ in range(_TRIES))), None)
        if meant:
            order = sorted(range(len(scene.boxes)), key=lambda i: _reading(scene.boxes[i]))
            boxes = tuple(scene.boxes[i] for i in order)
            text, thing = meant
            right = order.index(thing)
            items.append(Expression(picture=row, expression=text, boxes=boxes, right=right))
    if not items:
        raise DataError(
            "expressions tell things of one picture apart: data.objects must allow two or more"
        )
    return tuple(items)


def _reading(box: Box) -> tuple[float, float]:
    """Returns where a box comes in reading order: by the height of its centre, then by its x."""
    return box[1] + box[3], box[0] + box[2]


def _alone(scene: Scene, fields: Sequence[str], rng: np.random.Generator) -> tuple[str, int] | None:
    """Names one thing by what it looks like."""
    look = drawn_look(scene, fields, rng, most=3)
    things = [i for i, thing in enumerate(scene.things) if look.fits(thing)]
    return (f"the {phrase(look, rng)}", things[0]) if len(things) == 1 else None


def _related(
    scene: Scene, fields: Sequence[str], rng: np.random.Generator
) -> tuple[str, int] | None:
    """Names one thing by where it stands, seen from another one that its look alone names."""
    looks = [field for field in fields if field != "place"]
    look: Look = drawn_look(scene, looks, rng, most=1)
    other = drawn_look(scene, looks, rng)
    direction = chosen(list(scene.relations.values()), rng)
    fitting = {a for a, thing in enumerate(scene.things) if look.fits(thing)}
    anchors = [b for b, thing in enumerate(scene.things) if other.fits(thing)]
    if len(anchors) != 1 or anchors[0] in fitting:
        return None
    (anchor,) = anchors
    things = [a for a in fitting if scene.relations[a, anchor] == direction]
    parts = set(direction.split()) - {"of"}
    near = [a for a in fitting if parts & set(scene.relations[a, anchor].split())]
    if len(things) != 1 or near != things:
        return None
    return f"the {phrase(look, rng)} {direction} the {phrase(other, rng)}", things[0]
