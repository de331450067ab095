"""Things are put in words here, for questions and sentences: phrases in varied wording."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.training.data.scenes.truth import Look, Scene
from harness.training.data.scenes.words import SYNONYMS

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_PLAIN = 0.9
"""Chance that a word is not replaced by a synonym, as in captions."""


def worded(text: str, rng: np.random.Generator) -> str:
    """Replaces words by synonyms, each with the chance that captions have."""
    return " ".join(
        word if rng.random() < _PLAIN or not (others := SYNONYMS.get(word)) else
        others[rng.integers(len(others))]
        for word in text.split()
    )  # fmt: skip


def phrase(look: Look, rng: np.random.Generator, *, hidden: str = "") -> str:
    """Names a look, as `small red circle` or `thing at top left`; `hidden`: a word before it."""
    noun = " ".join(filter(None, (look.size, hidden, look.colour, look.shape or "thing")))
    return worded(f"{noun} at {look.place}" if look.place else noun, rng)


def plural(look: Look, rng: np.random.Generator) -> str:
    """Names several that look so."""
    noun, at, place = phrase(look, rng).partition(" at ")
    return f"{noun}{'es' if noun[-1] in 'sx' else 's'}{at}{place}"


def a(words: str) -> str:
    """Puts the article before a phrase."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def chosen(options: Sequence[str], rng: np.random.Generator) -> str:
    """Draws one of some words."""
    return options[int(rng.integers(len(options)))]


def drawn_look(
    scene: Scene, fields: Sequence[str], rng: np.random.Generator, *, most: int = 2
) -> Look:
    """Draws a thing of a scene and says up to `most` of its fields, at least one."""
    thing = scene.things[rng.integers(len(scene.things))]
    number = 1 + int(rng.integers(min(most, len(fields))))
    return thing.only(fields[place] for place in rng.permutation(len(fields))[:number])
