"""The words of scenes: captions in varied wording that are all true.

Letters: M scenes, N most objects of a scene, C captions of a scene.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.training.data.scenes.draft import (
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    Draft,
    direction,
)

SYNONYMS = {
    "small": ("little", "tiny"),
    "large": ("big", "huge"),
    "circle": ("disc",),
    "square": ("box",),
    "diamond": ("rhombus",),
    "ring": ("hoop",),
    "cross": ("plus",),
    "bar": ("stripe",),
    "purple": ("violet",),
    "cyan": ("turquoise",),
    "top": ("upper",),
    "bottom": ("lower",),
    "centre": ("middle",),
}
_PLAIN = 0.9
"""Chance that a word is not replaced by a synonym: a masked word stays guessable."""
_ONE = (
    "a {size} {colour} {shape} at {place}",
    "{size} {colour} {shape} {place}",
    "{place} a {size} {colour} {shape}",
    "{colour} {shape} of {size} size {place}",
    "the {size} {colour} {shape} is {place}",
)
_TWO = ("{a} {where} {b}", "a {a} {where} a {b}", "the {a} is {where} the {b}")


def captions_of(
    draft: Draft, captions: int, say_only: bool, rng: np.random.Generator
) -> list[list[str]]:
    """Words C captions for each scene; templates repeat only where C is more than there are."""
    count_M = draft.present_MN.sum(axis=1).tolist()
    words_MCS = rng.random((len(draft), captions, 3 * draft.cell_MN.shape[1] + 3)).tolist()
    pair_MC2 = rng.random((len(draft), captions, 2))
    order_MT = np.argsort(rng.random((len(draft), len(_ONE))), axis=1).tolist()
    out = []
    for row, count in enumerate(count_M):
        captions_C = []
        for c in range(captions):
            template, draws = order_MT[row][c % len(_ONE)], iter(words_MCS[row][c])
            if count == 1:
                place = _say(PLACES[draft.cell_MN[row, 0]], draws)
                caption = _ONE[template].format(place=place, **_look(draft, row, 0, draws))
            else:
                caption = _several(draft, row, template, pair_MC2[row, c], draws)
            captions_C.append(f"only {caption}" if say_only else caption)
        out.append(captions_C)
    return out


def _several(
    draft: Draft, row: int, template: int, pair: np.ndarray, draws: Iterator[float]
) -> str:
    """Says where one object stands from another one; any others are only named."""
    cells = draft.cell_MN[row]
    count = int((cells >= 0).sum())
    first = int(pair[0] * count)
    second = (first + 1 + int(pair[1] * (count - 1))) % count
    rest = [i for i in range(count) if i not in (first, second)]
    a, b, *others = (
        "{size} {colour} {shape}".format(**_look(draft, row, i, draws))
        for i in (first, second, *rest)
    )
    where = _say(direction(cells[first], cells[second]), draws)
    between = _TWO[0 if others else template % len(_TWO)].format(a=a, b=b, where=where)
    return " also ".join([between, *others])


def _look(draft: Draft, row: int, i: int, draws: Iterator[float]) -> dict[str, str]:
    return {
        "size": _say(SIZES[draft.size_MN[row, i]], draws),
        "colour": _say(COLOURS[draft.colour_MN[row, i]], draws),
        "shape": _say(SHAPES[draft.shape_MN[row, i]], draws),
    }


def _say(words: str, draws: Iterator[float]) -> str:
    return " ".join(synonym(word, next(draws)) for word in words.split())


def synonym(word: str, draw: float) -> str:
    """Chooses, by a uniform number, a word or one that means the same."""
    others = SYNONYMS.get(word)
    if draw < _PLAIN or not others:
        return word
    return others[int((draw - _PLAIN) / (1 - _PLAIN) * len(others))]
