"""Sentences follow from a picture, contradict it, or cannot be decided by it.

A picture of this world shows all things that there are, and size, colour, shape and place of each.
It does not show what a thing weighs, costs, tastes or sounds like. So "there is a circle that is
heavy or red" follows from a picture with a red circle, is undecided where circles are of other
colours, and is false where there is no circle. Every sentence names something hidden and has each
label on some picture; none can be labelled by its words (`squares.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from pydantic import JsonValue

from harness.training.data.scenes.squares import different, squares
from harness.training.data.scenes.truth import Look, Scene, Scenery
from harness.training.data.scenes.wording import a, chosen, drawn_look, phrase, worded
from harness.training.randomness import stream

Label = Literal["contradiction", "neutral", "entailment"]
LABELS: tuple[Label, ...] = get_args(Label)
"""In the order of SNLI-VE's numbers as ALBEF reads them."""
HIDDEN = ("heavy", "expensive", "magnetic", "loud", "sticky", "edible")
"""What no picture shows."""
_ONE_THING = 0.8
"""Share of the sentences that are tried about one thing first, whose looks have to be bound."""
_TRIES = 8
"""Of each such form; else the sentence is about two things."""


@dataclass(frozen=True, kw_only=True)
class Entailment:
    """Does the sentence follow from the picture?"""

    picture: int
    """Row of the split."""
    sentence: str
    label: Label


def entailments(
    truths: Sequence[Mapping[str, JsonValue]], seed: int, count: int
) -> tuple[Entailment, ...]:
    """Makes at most `count` items, in nines: three sentences on each of three pictures.

    Raises DataError where the pictures are too few or too much alike.
    """
    scenery, rng = Scenery.of(truths), stream(seed, "scenes entailment")
    sentences = _Sentences(scenery)
    drawn = squares(LABELS, count, sentences.draw, sentences.say, rng)
    return tuple(Entailment(picture=row, sentence=text, label=label) for row, text, label in drawn)


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """A sentence: half of it says what can be seen, half what is hidden."""

    text: str
    possible: Look
    """What a picture must show for the hidden half to be possible."""
    is_true: Callable[[Scene], bool | None]
    """Whether the visible half holds; None: that hangs on how it is read."""

    def label(self, scene: Scene) -> Label | None:
        true = self.is_true(scene)
        if true is None:
            return None
        return (
            "entailment" if true else "neutral" if scene.count(self.possible) else "contradiction"
        )


class _Sentences:
    """Draws pictures of a split that have something in common, and words sentences for them."""

    def __init__(self, scenery: Scenery) -> None:
        self.scenery, self.scenes, self.fields = scenery, scenery.scenes, scenery.varied

    def draw(self, rng: np.random.Generator) -> list[int]:
        """Draws three pictures, each with a thing that is in one way like one of the picture before
        it, where there is such a picture.
        """
        rows = different(len(self.scenes), len(LABELS), rng)
        for place in range(1, len(rows)):
            look = drawn_look(self.scenes[rows[place - 1]], self.fields, rng, most=1)
            alike = np.flatnonzero(self.scenery.fits_MN(look).any(axis=1))
            if (row := int(alike[rng.integers(len(alike))])) not in rows:
                rows[place] = row
        return rows

    def say(
        self, rows: Sequence[int], labels: Sequence[Label], rng: np.random.Generator
    ) -> str | None:
        """Draws a sentence with these labels on these pictures; None: a few tries gave none."""
        scenes = [self.scenes[row] for row in rows]
        undecided, sure = (scenes[labels.index(label)] for label in ("neutral", "entailment"))
        forms = [self._adjective, self._relation] if rng.random() < _ONE_THING else []
        rng.shuffle(forms)
        for form in [*(form for form in forms for _ in range(_TRIES)), self._two_things]:
            claim = form(undecided, sure, rng)
            if claim and [claim.label(scene) for scene in scenes] == list(labels):
                return claim.text
        return None

    def _shared(
        self, undecided: Scene, sure: Scene, rng: np.random.Generator
    ) -> tuple[Look, int] | None:
        """Draws a look that a thing of both pictures has, and the second picture's thing."""
        thing = undecided.things[rng.integers(len(undecided.things))]
        place = int(rng.integers(len(sure.things)))
        alike = [f for f in self.fields if getattr(thing, f) == getattr(sure.things[place], f)]
        if not alike:
            return None
        number = 1 + int(rng.integers(min(2, len(alike))))
        return thing.only(rng.permutation(alike)[:number]), place

    def _adjective(self, undecided: Scene, sure: Scene, rng: np.random.Generator) -> _Claim | None:
        shared = self._shared(undecided, sure, rng)
        adjectives = [f for f in ("size", "colour") if f in self.fields]
        if not shared or not (free := [f for f in adjectives if not getattr(shared[0], f)]):
            return None
        look, place = shared
        field = chosen(free, rng)
        value = getattr(sure.things[place], field)
        whole = replace(look, **{field: value})
        either = _either(chosen(HIDDEN, rng), worded(value, rng), rng)
        text = f"there is {a(phrase(look, rng))} that is {either}"
        return _Claim(text=text, possible=look, is_true=lambda scene: scene.count(whole) > 0)

    def _relation(self, undecided: Scene, sure: Scene, rng: np.random.Generator) -> _Claim | None:
        shared = self._shared(undecided, sure, rng)
        fields = [f for f in self.fields if f != "place"]
        if not shared or not sure.relations or not fields:
            return None
        look, place = shared
        others = [b for a, b in sure.relations if a == place]
        other_place = others[rng.integers(len(others))]
        direction = sure.relations[place, other_place]
        number = 1 + int(rng.integers(min(2, len(fields))))
        other = sure.things[other_place].only(rng.permutation(fields)[:number])
        end = f"{chosen(HIDDEN, rng)} or {direction} {a(phrase(other, rng))}"
        return _Claim(
            text=f"there is {a(phrase(look, rng))} that is {end}",
            possible=look,
            is_true=lambda scene: scene.stand(look, direction, other),
        )

    def _two_things(self, undecided: Scene, sure: Scene, rng: np.random.Generator) -> _Claim:
        look, other = (drawn_look(scene, self.fields, rng) for scene in (undecided, sure))
        hidden = a(phrase(look, rng, hidden=chosen(HIDDEN, rng)))
        text = f"there is {_either(hidden, a(phrase(other, rng)), rng)}"
        return _Claim(text=text, possible=look, is_true=lambda scene: scene.count(other) > 0)


def _either(one: str, other: str, rng: np.random.Generator) -> str:
    return f"{one} or {other}" if rng.random() < 0.5 else f"{other} or {one}"
