"""Scenes come in five difficulties, from one object to what needs binding and relations."""

from __future__ import annotations

from architectures.frozen import nearest
from harness.training.settings.data import Scenes, Text

_FOUR = {
    "colours": ("red", "yellow", "green", "blue"),
    "shapes": ("circle", "square", "triangle", "cross"),
    "sizes": ("large",),
}
_SIX = {
    "colours": ("red", "orange", "green", "blue", "purple", "black"),
    "shapes": ("circle", "square", "triangle", "diamond", "cross", "star"),
}
DIFFICULTIES: dict[str, Scenes] = {
    # One of 1,296 kinds: the words alone, in any order, tell it.
    "one": Scenes(),
    # One of 324 kinds: a batch holds pictures that differ in one word.
    "few": Scenes(sizes=("large",), **_SIX),
    # Two objects of four colours and four shapes: the same words belong to several pictures, and
    # only which colour goes with which shape, and what is on which side, tells them apart.
    "binding": Scenes(objects=(2, 2), **_FOUR),
    # One or two objects more, which captions do not name, and in every other picture all objects
    # but one have the same colour.
    "crowded": Scenes(objects=(2, 2), distractors=(1, 2), repeat_colours=0.5, **_FOUR),
    # Two or three objects of two sizes, up to two unnamed ones, alike colours, numbers up to four,
    # places, and many ways to say the same.
    "everything": Scenes(
        objects=(2, 3), distractors=(0, 2), repeat_colours=0.5, counting=0.25, grammar="wide",
        text=Text(max_tokens=40), **_SIX,
    ),
}  # fmt: skip


def graded_scenes(difficulty: int | str) -> Scenes:
    """Returns the scenes of a difficulty by its name or number.

    0 `one`, 1 `few`, 2 `binding` (swaps of colour, shape, relation), 3 `crowded` (the same), 4
    `everything` (swaps of colour, shape, size, relation, place, count). Change any field of it with
    `with_fields`. Raises `SettingError` with the nearest name.

    >>> graded_scenes("binding") == graded_scenes(2), graded_scenes(0) == Scenes()
    (True, True)
    """
    names = list(DIFFICULTIES)
    name = difficulty
    if isinstance(difficulty, int) and 0 <= difficulty < len(names):
        name = names[difficulty]
    if name not in DIFFICULTIES:
        choices = [*names, *map(str, range(len(names)))]
        raise nearest(str(name), choices, "difficulty of scenes")
    return DIFFICULTIES[str(name)]
