"""Pictures and sentences that follow from them, contradict them, or cannot be decided by them.

A picture of this world shows all things that there are, and size, colour, shape and place of each.
It does not show what a thing weighs, costs, tastes or sounds like. So "there is a circle that is
heavy or red" follows from a picture with a red circle, is undecided where circles are of other
colours, and is false where there is no circle. Every sentence names something hidden and has each
label on some picture; none can be labelled by its words (`squares.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from pydantic import JsonValue

from harness.training.data.scenes.draft import DIRECTIONS
from harness.training.data.scenes.squares import different, squares
from harness.training.data.scenes.truth import Scenery
from harness.training.data.scenes.wording import a, chosen, drawn_look, phrase, worded
from harness.training.randomness import stream

Label = Literal["contradiction", "neutral", "entailment"]
LABELS: tuple[Label, ...] = get_args(Label)
"""In the order of SNLI-VE's numbers as ALBEF reads them."""
HIDDEN = ("heavy", "expensive", "magnetic", "loud", "sticky", "edible")
"""What no picture shows."""


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
    drawn = squares(
        LABELS, count, lambda rng: different(len(truths), len(LABELS), rng), sentences.say, rng
    )
    return tuple(Entailment(picture=row, sentence=text, label=label) for row, text, label in drawn)


class _Sentences:
    """Words sentences for the pictures of a split."""

    def __init__(self, scenery: Scenery) -> None:
        self.scenes = scenery.scenes
        self.fields = scenery.varied
        self.adjectives = [field for field in scenery.varied if field in ("size", "colour")]

    def say(
        self, rows: Sequence[int], labels: Sequence[Label], rng: np.random.Generator
    ) -> str | None:
        """Draws a sentence; None where it has other labels on these pictures."""
        by_label = dict(zip(labels, rows, strict=True))
        look = drawn_look(self.scenes[by_label["neutral"]], self.fields, rng)
        source = self.scenes[by_label["entailment"]]
        hidden = chosen(HIDDEN, rng)
        form = rng.integers(3)
        adjectives = [field for field in self.adjectives if not getattr(look, field)]
        if form == 0 and adjectives and not look.place:
            field = chosen(adjectives, rng)
            seen = getattr(source.things[rng.integers(len(source.things))], field)
            both = replace(look, **{field: seen})
            truth = [bool(self.scenes[row].count(both)) for row in rows]
            end = _either(hidden, worded(seen, rng), rng)
            text = f"there is {a(phrase(look, rng))} that is {end}"
        elif form == 1 and source.relations and not look.place:
            direction = chosen(list(DIRECTIONS.values()), rng)
            other = drawn_look(source, [f for f in self.fields if f != "place"] or self.fields, rng)
            stands = [self.scenes[row].stand(look, direction, other) for row in rows]
            if None in stands:
                return None
            truth = [bool(stand) for stand in stands]
            end = f"{hidden} or {direction} {a(phrase(other, rng))}"
            text = f"there is {a(phrase(look, rng))} that is {end}"
        else:
            other = drawn_look(source, self.fields, rng)
            truth = [bool(self.scenes[row].count(other)) for row in rows]
            first = a(phrase(look, rng, hidden=hidden))
            text = f"there is {_either(first, a(phrase(other, rng)), rng)}"
        open_ = [bool(self.scenes[row].count(look)) for row in rows]
        actual = [_label(true, possible) for true, possible in zip(truth, open_, strict=True)]
        return text if actual == list(labels) else None


def _label(true: bool, possible: bool) -> Label:
    """Returns the label where the visible half holds or not, and the hidden half can hold."""
    return "entailment" if true else "neutral" if possible else "contradiction"


def _either(one: str, other: str, rng: np.random.Generator) -> str:
    return f"{one} or {other}" if rng.random() < 0.5 else f"{other} or {one}"
