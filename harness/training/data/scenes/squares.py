"""Latin squares make items in which neither the text nor the picture gives the label away.

As many units (pictures, or pairs of them) as there are labels meet as many texts, so that each text
has every label once and each unit has every label once. A scorer f(unit) + g(text) then is right on
exactly one of so many items, to the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from harness.training.data.cache import DataError

Unit = TypeVar("Unit")
Label = TypeVar("Label")

_TRIES = 8
"""Texts tried for one line of a square."""
_PATIENCE = 60
"""Squares begun for each that is wanted before giving up."""


def squares(
    labels: Sequence[Label],
    count: int,
    draw: Callable[[np.random.Generator], Sequence[Unit]],
    say: Callable[[Sequence[Unit], Sequence[Label], np.random.Generator], str | None],
    rng: np.random.Generator,
) -> list[tuple[Unit, str, Label]]:
    """Returns whole squares of (unit, text, label), at most `count` items; fewer where the pictures
    allow no more.

    draw: draws as many units as there are labels
    say:  words a text and returns it where it has just these labels on these units, else None

    Raises DataError where the pictures allow no square at all, or `count` holds none.
    """
    side = len(labels)
    wanted = count // side**2
    items: list[tuple[Unit, str, Label]] = []
    for _ in range(_PATIENCE * wanted):
        if len(items) == wanted * side**2:
            break
        units, order = draw(rng), rng.permutation(side)
        lines: dict[str, list[Label]] = {}
        for line in range(side):
            line_labels = [labels[order[(place + line) % side]] for place in range(side)]
            texts = (say(units, line_labels, rng) for _ in range(_TRIES))
            text = next((text for text in texts if text is not None), None)
            if text is None:
                break
            lines[text] = line_labels
        if len(lines) == side:
            items += [
                (unit, text, label)
                for text, line_labels in lines.items()
                for unit, label in zip(units, line_labels, strict=True)
            ]
    if not items:
        raise DataError(
            f"{count} items with {side} labels could not be made of these scenes: draw more of "
            "them, or more varied ones"
        )
    return items


def different(rows: int, number: int, rng: np.random.Generator) -> list[int]:
    """Draws different rows. Raises DataError where there are not so many."""
    if rows < number:
        raise DataError(f"{rows} scenes are too few: items of this kind compare {number}")
    return [int(row) for row in rng.choice(rows, number, replace=False, shuffle=True)]
