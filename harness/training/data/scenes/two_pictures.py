"""Statements about two pictures that are true or false, as in NLVR2 (Suhr et al. 2019).

Every statement stands beside two pairs of pictures, true of one and false of the other, and every
pair has a true and a false statement (`squares.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from harness.training.data.scenes.squares import different, squares
from harness.training.data.scenes.truth import Scenery
from harness.training.data.scenes.wording import NUMBERS, a, chosen, drawn_look, phrase, plural
from harness.training.randomness import stream


@dataclass(frozen=True, kw_only=True)
class Statement:
    """Is the statement true of the two pictures?"""

    pictures: tuple[int, int]
    """Rows of the split: the left and the right picture."""
    statement: str
    label: bool


_FORMS: dict[str, Callable[[int, int], bool]] = {
    "both pictures show {one}": lambda left, right: left > 0 and right > 0,
    "only one picture shows {one}": lambda left, right: (left > 0) != (right > 0),
    "at least one picture shows {one}": lambda left, right: left + right > 0,
    "neither picture shows {one}": lambda left, right: left + right == 0,
    "the left picture shows {one}": lambda left, right: left > 0,
    "the right picture shows {one}": lambda left, right: right > 0,
    "the left picture shows more {many} than the right one": lambda left, right: left > right,
    "the right picture shows more {many} than the left one": lambda left, right: left < right,
    "both pictures show the same number of {many}": lambda left, right: left == right,
    "the two pictures show {number} {many} in all": lambda left, right: left + right == 2,
}
"""Wording -> whether it is true where so many things of a look are left and right."""
_COUNTED = "the two pictures show {number} {many} in all"


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
        look = drawn_look(scenes[rows[rng.integers(len(rows))]], scenery.varied, rng)
        counts = [(scenes[left].count(look), scenes[right].count(look)) for left, right in units]
        form = chosen(list(_FORMS), rng)
        if form == _COUNTED:
            total = sum(counts[labels.index(True)])
            actual = [sum(count) == total for count in counts]
            if total not in range(2, len(NUMBERS)):
                return None
        else:
            total, actual = 0, [_FORMS[form](*count) for count in counts]
        if actual != list(labels):
            return None
        number = NUMBERS[total]
        return form.format(one=a(phrase(look, rng)), many=plural(look, rng), number=number)

    drawn = squares((True, False), count, pairs, say, rng)
    return tuple(
        Statement(pictures=unit, statement=text, label=label) for unit, text, label in drawn
    )
