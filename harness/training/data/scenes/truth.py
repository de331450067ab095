"""Truth is read here as what scenes show: things, their boxes, their relations.

Letters: M scenes, N most things of a scene (absent ones are -1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from pydantic import JsonValue, TypeAdapter
from typing_extensions import TypedDict

from harness.training.data.scenes.draft import COLOURS, PLACES, SHAPES, SIZES

VALUES = {"size": SIZES, "colour": COLOURS, "shape": SHAPES, "place": PLACES}
"""What a thing can look like, and where it can be: the fields of a `Look` and their values."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, as shares of the picture's side from its top left corner."""

_EDGES: dict[str, Box] = {
    "circle": (1.0, 1.0, 1.0, 1.0),
    "square": (0.92, 0.92, 0.92, 0.92),
    "triangle": (0.975, 1.05, 0.975, 0.9),
    "diamond": (1.1, 1.1, 1.1, 1.1),
    "ring": (1.1, 1.1, 1.1, 1.1),
    "cross": (1.05, 1.05, 1.05, 1.05),
    "bar": (1.1, 0.35, 1.1, 0.35),
    "star": (1.12, 1.18, 1.12, 0.96),
}
"""How far each shape reaches from its centre to the left, top, right and bottom, in radii; a
star's tips as far as they are wide enough to be seen."""


class _Object(TypedDict):
    size: str
    colour: str
    shape: str
    place: str
    x: float
    y: float
    radius: float


class _Relation(TypedDict):
    subject: int
    relation: str
    object: int


class _Truth(TypedDict):
    objects: list[_Object]
    relations: list[_Relation]


_READER = TypeAdapter(_Truth)


@dataclass(frozen=True, kw_only=True)
class Look:
    """A look is some of what is to be seen of a thing; an empty field says nothing."""

    size: str = ""
    colour: str = ""
    shape: str = ""
    place: str = ""

    def fits(self, thing: Look) -> bool:
        """Says whether a thing looks so."""
        return all(
            not getattr(self, field.name) or getattr(self, field.name) == getattr(thing, field.name)
            for field in fields(Look)
        )

    def only(self, names: Iterable[str]) -> Look:
        """Keeps some fields and says nothing of the others."""
        kept = set(names)
        return replace(self, **{field: "" for field in VALUES if field not in kept})


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A scene holds one picture's things."""

    things: tuple[Look, ...]
    """Each with all its fields."""
    boxes: tuple[Box, ...]
    """Of each thing."""
    radii: tuple[float, ...]
    """Of each thing, as a share of the picture's side."""
    relations: Mapping[tuple[int, int], str]
    """(a, b) -> where thing a stands, seen from thing b, in the words of `DIRECTIONS`."""

    @staticmethod
    def of(truth: Mapping[str, JsonValue]) -> Scene:
        """Reads a row of `Split.truth`."""
        record = _READER.validate_python(truth)
        return Scene(
            things=tuple(
                Look(size=o["size"], colour=o["colour"], shape=o["shape"], place=o["place"])
                for o in record["objects"]
            ),
            boxes=tuple(map(_box, record["objects"])),
            radii=tuple(thing["radius"] for thing in record["objects"]),
            relations={(r["subject"], r["object"]): r["relation"] for r in record["relations"]},
        )

    def count(self, look: Look) -> int:
        """Counts the things that look so."""
        return sum(map(look.fits, self.things))

    def stand(self, look: Look, direction: str, other: Look) -> bool | None:
        """Says whether a thing stands so, seen from another one. None: that hangs on how exactly
        the direction is read, as `left of` where something is above left of it.
        """
        directions = [
            between
            for (a, b), between in self.relations.items()
            if look.fits(self.things[a]) and other.fits(self.things[b])
        ]
        if direction in directions:
            return True
        parts = set(direction.split()) - {"of"}
        return None if any(parts & set(between.split()) for between in directions) else False


@dataclass(frozen=True, kw_only=True)
class Scenery:
    """A scenery holds all scenes of a split."""

    scenes: tuple[Scene, ...]

    @staticmethod
    def of(truths: Sequence[Mapping[str, JsonValue]]) -> Scenery:
        """Reads `Split.truth`."""
        return Scenery(scenes=tuple(map(Scene.of, truths)))

    @cached_property
    def number_MN(self) -> dict[str, np.ndarray]:
        """Field -> int8 (M, N), each thing's value as its place in `VALUES`."""
        most = max(len(scene.things) for scene in self.scenes)
        numbers = {}
        for field, values in VALUES.items():
            numbers[field] = np.full((len(self.scenes), most), -1, dtype=np.int8)
            for row, scene in enumerate(self.scenes):
                numbers_N = [values.index(getattr(thing, field)) for thing in scene.things]
                numbers[field][row, : len(numbers_N)] = numbers_N
        return numbers

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """The fields that have several values in these scenes: others tell nothing apart."""
        numbers = self.number_MN.items()
        return tuple(f for f, number_MN in numbers if len(set(number_MN[number_MN >= 0])) > 1)

    @cached_property
    def several(self) -> np.ndarray:
        """int64: the scenes that show two things or more."""
        return np.array([row for row, s in enumerate(self.scenes) if len(s.things) > 1], dtype=int)

    def fits_MN(self, look: Look) -> np.ndarray:
        """bool (M, N): which things look so."""
        fits_MN = self.number_MN["size"] >= 0
        for field, values in VALUES.items():
            if value := getattr(look, field):
                fits_MN = fits_MN & (self.number_MN[field] == values.index(value))
        return fits_MN


def _box(thing: _Object) -> Box:
    left, top, right, bottom = (edge * thing["radius"] for edge in _EDGES[thing["shape"]])
    x, y = thing["x"], thing["y"]
    edges = (x - left, y - top, x + right, y + bottom)
    x0, y0, x1, y1 = (round(min(max(edge, 0.0), 1.0), 4) for edge in edges)
    return x0, y0, x1, y1
