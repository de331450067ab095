"""The words of scenes by what they say: colours, shapes, sizes, places, directions, numbers."""

from __future__ import annotations

from harness.training.data.scenes.draft import COLOURS, DIRECTIONS, PLACES, SHAPES, SIZES
from harness.training.data.scenes.words import SYNONYMS

NUMBERS = ("no", "one", "two", "three", "four")


def kinds() -> dict[str, tuple[str, ...]]:
    """Returns kind -> its words with all synonyms, as `settings.tasks.Words.words` gives them; of
    no kind is what only looks like one ("one can count two circles").
    """
    shapes = _said(SHAPES)
    places = {word for place in PLACES for word in place.split()}
    sides = {word for side in DIRECTIONS.values() for word in side.split()} - {"of"}
    return {
        "colour": _said(COLOURS),
        "shape": (*shapes, *(f"{shape}{_plural(shape)}" for shape in shapes)),
        "size": _said(SIZES),
        "place": _said(sorted(places)),
        "direction": tuple(f"{side} of" if side in places else side for side in sorted(sides)),
        "number": NUMBERS,
        "": ("one can",),
    }


def _said(words: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return tuple(spelling for word in words for spelling in (word, *SYNONYMS.get(word, ())))


def _plural(word: str) -> str:
    return "es" if word.endswith(("s", "x")) else "s"
