"""Scenes are drawn here that ask for what scenes had not at first, and the groups of all that are
swapped: objects with looks and places, and the statement that all captions of a picture make.

The statement is the picture's description, the same in every caption. Every arrangement of its
words is as likely as every other one, so that words alone do not tell which is true. Splits are
drawn by what a statement is made of (`statements.material`), so that no statement is in two splits,
nor another arrangement of its words; each look and each word occurs in training beside others.

In the plain grammar, where pictures hold one or two objects and all are named, a caption is true of
the pictures of its description only. Else it may be true of another one: of 512 validation
pictures, of 0.4 % of the others in scenes `crowded`, of 0.014 % in `everything`
(`settings.graded_scenes`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from harness.training.data.cache import DataError
from harness.training.data.scenes.draft import Draft, description, split_of
from harness.training.data.scenes.statements import Scene, Statement, Thing, between, material
from harness.training.randomness import stream
from harness.training.settings.data import Scenes
from harness.training.settings.looks import ALLOWED, COLOURS, PLACES, SHAPES, SIZES

T = TypeVar("T")

_AT_ONCE = 1024
"""Scenes drawn together: always as many, so that more scenes begin with the same ones."""
_PATIENCE = 40
"""Times that these may all be refused before it is said that there are none."""
_MOST_ALIKE = 4
_CENTRE = PLACES.index("centre")
_PLACES_SAID = 0.25
"""Share of the scenes with several objects whose captions say places, in the wide grammar."""


def draw_scenes(
    data: Scenes,
    split: str,
    count: int,
    purpose: str = "layout",
    keep: Callable[[Scene], bool] = lambda scene: True,
) -> list[Scene]:
    """Draws scenes of one split, uniform over what is kept of them.

    `purpose` names the random stream. Raises `DataError` where the settings leave next to none.
    """
    rng = stream(data.seed, f"scenes {purpose}", split)
    scenes: list[Scene] = []
    fruitless = 0
    while len(scenes) < count:
        draws = rng.random((_AT_ONCE, 4 * most_objects(data) + 16)).tolist()
        order = np.argsort(rng.random((_AT_ONCE, len(data.names("places")))), axis=1).tolist()
        drawn = [_drawn(data, iter(d), o) for d, o in zip(draws, order, strict=True)]
        fit = [s for s in drawn if s and in_split(data, s.statement, split) and keep(s)]
        scenes += fit
        fruitless = 0 if fit else fruitless + 1
        if fruitless == _PATIENCE:
            raise DataError(
                f"next to no scene of data.{split} is left for its {purpose}: so few colours, "
                "shapes, sizes and places have too few combinations for three splits; name more "
                "of them, or try another data.seed"
            )
    return scenes[:count]


def in_split(data: Scenes, statement: Statement, split: str) -> bool:
    """Says whether pictures with this statement belong to a split."""
    if not data.is_first_version:
        return split_of(material(statement), data.seed) == split
    first, second = statement.things
    beside = _CENTRE + 3 * statement.side[0] + statement.side[1]
    # objects of the first version stand in the order of their looks
    pair = sorted([(*_numbers(first), beside), (*_numbers(second), _CENTRE)])
    draft = Draft(*(np.array([column]) for column in zip(*pair, strict=True)))
    return split_of(description(draft, 0), data.seed) == split


def most_objects(data: Scenes) -> int:
    """Says how many objects a picture may hold."""
    most = data.objects[1] + data.distractors[1]
    return len(data.names("places")) if data.counting else most


def drafted(scenes: Sequence[Scene], most: int) -> Draft:
    """Puts scenes into numbers, to be drawn as pictures."""
    numbers = np.full((4, len(scenes), most), -1, dtype=np.int64)
    for row, scene in enumerate(scenes):
        for i, thing in enumerate(scene.objects):
            numbers[:, row, i] = (*_numbers(thing), PLACES.index(thing.place))
    return Draft(*numbers)


def _numbers(thing: Thing) -> tuple[int, int, int]:
    return SIZES.index(thing.size), COLOURS.index(thing.colour), SHAPES.index(thing.shape)


def _drawn(data: Scenes, draws: Iterator[float], order: Sequence[int]) -> Scene | None:
    """Draws a scene from uniform numbers; None where its relation has a direction too many."""
    named = 2 if data.is_first_version else _between(data.objects, draws)
    others = _between(data.distractors, draws)
    looks = _looks(data, named + others, next(draws) < data.repeat_colours, draws)
    counted, says_places = next(draws) < data.counting, next(draws) < _PLACES_SAID
    numbers = [1] * (named + others)
    free = len(order) - named - others
    for _ in range(_between((1, min(_MOST_ALIKE, free)), draws) if counted else 0):
        more = int(next(draws) * named)
        numbers[more] = min(numbers[more] + 1, _MOST_ALIKE)
    cells = (data.names("places")[cell] for cell in order)
    objects = [
        [Thing(size=size, colour=colour, shape=shape, place=next(cells)) for _ in range(number)]
        for (size, colour, shape), number in zip(looks, numbers, strict=True)
    ]
    things = [own[0] for own in objects[:named]]
    side = (0, 0)
    if counted:
        things = [_said(data, t, number=n) for t, n in zip(things, numbers, strict=False)]
    elif named == 1 or (says_places and data.grammar == "wide"):
        things = [_said(data, thing, place=thing.place) for thing in things]
    else:
        side = between(*things[:2])
        if not ALLOWED[data.directions](*side):
            return None
        things = [_said(data, thing) for thing in things]
    return Scene(
        objects=tuple(itertools.chain(*objects)),
        statement=Statement(
            kind="relation" if any(side) else "count" if counted else "places",
            things=tuple(things),
            side=side,
            only=data.objects[0] < data.objects[1] and data.distractors == (0, 0),
        ),
    )


def _between(limits: tuple[int, int], draws: Iterator[float]) -> int:
    return limits[0] + int(next(draws) * (limits[1] - limits[0] + 1))


def _looks(
    data: Scenes, count: int, alike: bool, draws: Iterator[float]
) -> list[tuple[str, str, str]]:
    """Draws different looks; `alike`: all but one, or both of two, have one colour."""
    kinds = list(itertools.product(data.names("sizes"), data.names("shapes")))
    colours = data.names("colours")
    if not alike or count < 2:
        pool = [(size, colour, shape) for size, shape in kinds for colour in colours]
        return _sample(pool, count, draws)
    shared, odd = _sample(list(colours), 2, draws)
    same = [(size, shared, shape) for size, shape in kinds]
    other = [(size, odd, shape) for size, shape in kinds]
    looks = _sample(same, max(2, count - 1), draws)
    return _sample(looks + _sample(other, count - len(looks), draws), count, draws)


def _sample(pool: list[T], count: int, draws: Iterator[float]) -> list[T]:
    """Takes some of a list, none twice, in a random order."""
    for i in range(count):
        j = i + int(next(draws) * (len(pool) - i))
        pool[i], pool[j] = pool[j], pool[i]
    return pool[:count]


def _said(data: Scenes, thing: Thing, *, place: str = "", number: int = 1) -> Thing:
    size = thing.size if len(data.names("sizes")) > 1 else ""
    return Thing(size=size, colour=thing.colour, shape=thing.shape, place=place, number=number)
