"""Statements are true or false of two pictures, as in NLVR2 (Suhr et al. 2019).

Every statement stands beside two pairs of pictures, true of one and false of the other, and every
pair has a true and a false statement (`squares.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from harness.training.data.scenes.squares import different, squares
from harness.training.data.scenes.truth import Look, Scene, Scenery
from harness.training.data.scenes.wording import NUMBERS, a, chosen, drawn_look, phrase, plural
from harness.training.randomness import stream


@dataclass(frozen=True, kw_only=True)
class Statement:
    """Is the statement true of the two pictures?"""

    pictures: tuple[int, int]
    """Rows of the split: the left and the right picture."""
    statement: str
    label: bool


_FORMS: dict[str, Callable[[int, int, int], bool]] = {
    "both pictures show {one}": lambda left, right, total: left > 0 and right > 0,
    "only one picture shows {one}": lambda left, right, total: (left > 0) != (right > 0),
    "at least one picture shows {one}": lambda left, right, total: left + right > 0,
    "neither picture shows {one}": lambda left, right, total: left + right == 0,
    "the left picture shows {one}": lambda left, right, total: left > 0,
    "the right picture shows {one}": lambda left, right, total: right > 0,
    "the left picture shows more {many} than the right one": lambda left, right, total: (
        left > right
    ),
    "the right picture shows more {many} than the left one": lambda left, right, total: (
        left < right
    ),
    "both pictures show the same number of {many}": lambda left, right, total: left == right,
    "the two pictures show {number} {many} in all": lambda left, right, total: (
        left + right == total
    ),
}
"""Wording -> whether it is true where so many things of a look are left and right, and `total` is
the number that it says."""
_COUNTED = "the two pictures show {number} {many} in all"
_RELATED = 0.5
"""Share of the statements that also say where the thing stands, where pictures show several."""


def statements(
    truths: Sequence[Mapping[str, JsonValue]], seed: int, count: int
) -> tuple[Statement, ...]:
    """Makes at most `count` statements, in fours: two on each of two pairs of pictures.

    Raises DataError where the pictures are too few or too much alike.
    """
    scenery, rng = Scenery.of(truths), stream(seed, "scenes statements")
    scenes = scenery.scenes

    def pairs(rng: np.random.Generator) -> list[tuple[int, int]]:
        a1, a2, b1, b2 = different(len(scenes), 4, rng)
        return [(a1, a2), (b1, b2)]

    def say(
        units: Sequence[tuple[int, int]], labels: Sequence[bool], rng: np.random.Generator
    ) -> str | None:
        rows = [row for unit in units for row in unit]
        scene = scenes[rows[int(rng.integers(len(rows)))]]
        look = drawn_look(scene, scenery.varied, rng)
        related = _related(scene, scenery.varied, rng) if rng.random() < _RELATED else None
        counts = [[_count(scenes[row], look, related) for row in unit] for unit in units]
        form = chosen([form for form in _FORMS if not related or "{one}" in form], rng)
        total = sum(counts[labels.index(True)]) if form == _COUNTED else 2
        actual = [_FORMS[form](left, right, total) for left, right in counts]
        unsure = any(-1 in pair for pair in counts)
        if unsure or actual != list(labels) or total not in range(2, len(NUMBERS)):
            return None
        one = a(phrase(look, rng))
        if related:
            one += f" {related[0]} {a(phrase(related[1], rng))}"
        return form.format(one=one, many=plural(look, rng), number=NUMBERS[total])

    drawn = squares((True, False), count, pairs, say, rng)
    return tuple(
        Statement(pictures=unit, statement=text, label=label) for unit, text, label in drawn
    )


def _related(
    scene: Scene, varied: Sequence[str], rng: np.random.Generator
) -> tuple[str, Look] | None:
    """Draws a direction and the look of a thing from which another one stands so."""
    fields = [field for field in varied if field != "place"]
    if not scene.relations or not fields:
        return None
    (_, other), direction = list(scene.relations.items())[int(rng.integers(len(scene.relations)))]
    return direction, scene.things[other].only([chosen(fields, rng)])


def _count(scene: Scene, look: Look, related: tuple[str, Look] | None) -> int:
    """Counts the things that look so, or says by 1 or 0 whether one stands so; -1: that hangs on
    how it is read.
    """
    if related is None:
        return scene.count(look)
    stands = scene.stand(look, *related)
    return -1 if stands is None else int(stands)
