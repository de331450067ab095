"""The words of scenes by what they say: colours, shapes, sizes, places, directions, numbers."""

from __future__ import annotations

from harness.training.data.scenes.draft import COLOURS, DIRECTIONS, PLACES, SHAPES, SIZES
from harness.training.data.scenes.words import SYNONYMS
from harness.training.settings.data import Scenes

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


def kinds_in(data: Scenes) -> tuple[str, ...]:
    """Lists the kinds whose words captions of these scenes may say."""
    only_counts = data.counting == 1
    possible = {
        "size": len(data.names("sizes")) > 1,
        "place": not only_counts and (data.objects[0] < 2 or data.grammar == "wide"),
        "direction": not only_counts and data.objects[1] > 1,
        "number": data.counting > 0,
    }
    return tuple(kind for kind in kinds() if kind and possible.get(kind, True))


def _said(words: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return tuple(spelling for word in words for spelling in (word, *SYNONYMS.get(word, ())))


def _plural(word: str) -> str:
    return "es" if word.endswith(("s", "x")) else "s"
