"""Questions about scenes have weighted answers, as in VQA (Antol et al. 2015).

The question alone gives the answer away as little as can be. A question for yes or no is asked of
two pictures with either answer, and each of these has a question of either answer (`squares.py`).
An open question is drawn first, then one of all answers that it has on some picture, each alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from pydantic import JsonValue

from harness.training.data.cache import DataError
from harness.training.data.scenes.draft import DIRECTIONS
from harness.training.data.scenes.squares import different, squares
from harness.training.data.scenes.truth import VALUES, Look, Scenery
from harness.training.data.scenes.wording import NUMBERS, a, chosen, drawn_look, phrase, plural
from harness.training.data.scenes.words import SYNONYMS
from harness.training.randomness import stream

Kind = Literal["existence", "relation", "colour", "shape", "place", "count"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Answers = tuple[tuple[str, float], ...]

_OPEN: dict[Kind, str] = {
    "colour": "what colour is the {one}",
    "shape": "what shape is the {one}",
    "place": "where is the {one}",
    "count": "how many {many} are there",
}
_ANSWERS_LEAST: dict[Kind, int] = {"colour": 2, "shape": 2, "place": 2, "count": 3}
"""A question with fewer answers over all pictures is not asked."""
_AGREE = 0.9
"""Share of ten people who answer in the plain word; one says a synonym where there is one."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is right to answer?"""

    picture: int
    """Row of the split."""
    kind: Kind
    question: str
    answers: Answers
    """Answers with the share of people who give them, the most common first; shares add to 1."""


def questions(
    truths: Sequence[Mapping[str, JsonValue]], seed: int, count: int
) -> tuple[Question, ...]:
    """Makes at most `count` questions, of all kinds that these pictures allow in equal numbers.

    Raises DataError where they allow none.
    """
    scenery = Scenery.of(truths)
    items: list[Question] = []
    kinds = [kind for kind in KINDS if _possible(kind, scenery)]
    for place, kind in enumerate(kinds):
        share = (count - len(items)) // (len(kinds) - place)
        rng = stream(seed, "scenes questions", kind)
        if kind in ("existence", "relation"):
            items += _yes_or_no(kind, scenery, share, rng)
        else:
            items += _open_questions(kind, scenery, share, rng)
    if not items:
        raise DataError(f"{count} questions could not be asked of these scenes: draw more of them")
    order = stream(seed, "scenes questions", "order").permutation(len(items))
    return tuple(items[place] for place in order)


def _possible(kind: Kind, scenery: Scenery) -> bool:
    if kind in ("relation", "count"):
        return len(scenery.several) > 1
    return kind == "existence" or (kind in scenery.varied and len(scenery.varied) > 1)


def _yes_or_no(
    kind: Kind, scenery: Scenery, count: int, rng: np.random.Generator
) -> list[Question]:
    say: Callable[[Sequence[int], Sequence[str], np.random.Generator], str | None]

    def exists(rows: Sequence[int], labels: Sequence[str], rng: np.random.Generator) -> str | None:
        yes, no = (scenery.scenes[rows[labels.index(label)]] for label in ("yes", "no"))
        look = drawn_look(yes, scenery.varied, rng, most=3)
        return f"is there {a(phrase(look, rng))}" if not no.count(look) else None

    def stands(rows: Sequence[int], labels: Sequence[str], rng: np.random.Generator) -> str | None:
        yes, no = (scenery.scenes[rows[labels.index(label)]] for label in ("yes", "no"))
        fields = [field for field in scenery.varied if field != "place"]
        look, other = (drawn_look(yes, fields, rng) for _ in range(2))
        direction = chosen(list(DIRECTIONS.values()), rng)
        if not yes.stand(look, direction, other) or no.stand(look, direction, other) is not False:
            return None
        return f"is there {a(phrase(look, rng))} {direction} {a(phrase(other, rng))}"

    rows = np.arange(len(scenery.scenes)) if kind == "existence" else scenery.several
    say = exists if kind == "existence" else stands
    try:
        drawn = squares(
            ("yes", "no"), count,
            lambda rng: [int(rows[place]) for place in different(len(rows), 2, rng)], say, rng,
        )  # fmt: skip
    except DataError:  # the other kinds may be possible
        return []
    return [
        Question(picture=row, kind=kind, question=text, answers=((label, 1.0),))
        for row, text, label in drawn
    ]


def _open_questions(
    kind: Kind, scenery: Scenery, count: int, rng: np.random.Generator
) -> list[Question]:
    fields = [field for field in scenery.varied if field != kind]
    if kind == "count":
        fields = [field for field in fields if field != "place"] or fields
    pictures_by_look: dict[Look, dict[str, np.ndarray]] = {}
    items: list[Question] = []
    for _ in range(20 * count):
        if len(items) == count:
            break
        scene = scenery.scenes[rng.integers(len(scenery.scenes))]
        look = drawn_look(scene, fields, rng)
        if look not in pictures_by_look:
            pictures_by_look[look] = _answered(kind, scenery, look)
        rows = pictures_by_look[look]
        if len(rows) < _ANSWERS_LEAST[kind]:
            continue
        answer = chosen(sorted(rows), rng)
        row = int(rows[answer][rng.integers(len(rows[answer]))])
        text = _OPEN[kind].format(one=phrase(look, rng), many=plural(look, rng))
        answers = _weighted(answer, rng)
        items.append(Question(picture=row, kind=kind, question=text, answers=answers))
    return items


def _answered(kind: Kind, scenery: Scenery, look: Look) -> dict[str, np.ndarray]:
    """Gives answer -> the pictures on which a question about a look has it."""
    fits_MN = scenery.fits_MN(look)
    count_M = fits_MN.sum(axis=1)
    if kind == "count":
        return {
            NUMBERS[number]: np.flatnonzero(count_M == number)
            for number in sorted(set(count_M.tolist()))
        }
    rows = np.flatnonzero(count_M == 1)  # `the circle` is one
    number_m = scenery.number_MN[kind][rows, fits_MN[rows].argmax(axis=1)]
    values = VALUES[kind]
    return {values[number]: rows[number_m == number] for number in sorted(set(number_m.tolist()))}


def _weighted(answer: str, rng: np.random.Generator) -> Answers:
    """Gives a synonym to one of ten, where there is one."""
    words = answer.split()
    replaced = [place for place, word in enumerate(words) if word in SYNONYMS]
    if not replaced:
        return ((answer, 1.0),)
    place = replaced[rng.integers(len(replaced))]
    words[place] = chosen(SYNONYMS[words[place]], rng)
    return ((answer, _AGREE), (" ".join(words), round(1 - _AGREE, 4)))
