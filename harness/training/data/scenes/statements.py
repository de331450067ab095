"""What the captions of a scene say is a statement: it has one meaning, is true of some pictures and
not of others, and its words can be put in another arrangement.

Everything here is of scenes that ask for a field scenes had not at first, and of all that is
swapped; `draft` has the other scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.training.data.scenes.draft import DIRECTIONS
from harness.training.settings.looks import PLACES, sides

LOOK = ("size", "colour", "shape")
SWAPPED = {
    "colour": ("colour",), "shape": ("shape",), "size": ("size",),
    "relation": LOOK, "place": LOOK, "count": LOOK,
}  # fmt: skip
"""Tag of a swap -> what two things exchange. Who exchanges its whole look has exchanged its side,
place or number."""
KIND_OF = {"relation": "relation", "place": "places", "count": "count"}
"""Tag of a swap -> the kind of statement that it needs, where it needs one."""


@dataclass(frozen=True, order=True, kw_only=True)
class Thing:
    """An object of a picture, or what a statement says of one or of several that look alike."""

    colour: str
    shape: str
    size: str = ""
    """Empty in a statement where only one size occurs."""
    place: str = ""
    """Empty in a statement that does not say it."""
    number: int = 1
    """How many there are: above 1 only in statements."""

    def is_like(self, other: Thing) -> bool:
        """Says whether both look the same, as far as both sizes are said."""
        same = self.colour == other.colour and self.shape == other.shape
        return same and (self.size == other.size or not self.size or not other.size)

    @property
    def look(self) -> str:
        """Size, colour and shape in words."""
        return f"{self.size} {self.colour} {self.shape}".strip()


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What all captions of one picture say, in whatever words."""

    kind: Literal["places", "relation", "count"]
    """Where each thing is, on which side of the second the first is, or how many there are."""
    things: tuple[Thing, ...]
    """Those that are named, no two of one look."""
    side: tuple[int, int] = (0, 0)
    """Of a relation: rows down and columns right, as signs, from the second thing to the first."""
    only: bool = False
    """There is nothing else in the picture."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The objects of one picture, each with size and place, and what captions say of them."""

    objects: tuple[Thing, ...]
    statement: Statement


def meaning(statement: Statement) -> str:
    """Puts a statement in canonical words: equal for exactly the statements that say the same."""
    if statement.kind == "relation":
        (first, second, *others), side = statement.things, statement.side
        if second < first:
            first, second, side = second, first, (-side[0], -side[1])
        parts = [f"{first.look} {DIRECTIONS[side]} {second.look}"]
        return "; ".join(parts + sorted(thing.look for thing in others))
    if statement.kind == "places":
        return "; ".join(sorted(f"{thing.look} {thing.place}" for thing in statement.things))
    return "; ".join(sorted(f"{thing.number} {thing.look}" for thing in statement.things))


def material(statement: Statement) -> str:
    """Lists what a statement is made of, in an order that no swap changes: its sizes, its colours,
    its shapes, and its numbers, its places, or the line on which two things stand.

    Splits are drawn by it, so that all arrangements of the same words lie in one split, and what
    says two places with what says the relation that follows.
    """
    things = statement.things
    parts = [" ".join(sorted(getattr(thing, name) for thing in things)) for name in LOOK]
    if statement.kind == "count":
        parts.append(" ".join(sorted(str(thing.number) for thing in things)))
    elif statement.kind == "places" and len(things) != 2:
        parts.append("; ".join(sorted(thing.place for thing in things)))
    else:
        side = statement.side if any(statement.side) else between(*things[:2])
        parts.append(DIRECTIONS[max(side, (-side[0], -side[1]))])
    return "; ".join(parts)


def is_true(statement: Statement, objects: Sequence[Thing]) -> bool:
    """Says whether a statement holds for a picture with these objects."""
    things = statement.things
    alike = [[o for o in objects if thing.is_like(o)] for thing in things]
    if not all(alike):
        return False
    if statement.only and len(objects) > sum(thing.number for thing in things):
        return False
    if statement.kind == "relation":
        return any(between(a, b) == statement.side for a in alike[0] for b in alike[1])
    if statement.kind == "places":
        return all(
            any(o.place == thing.place for o in own)
            for thing, own in zip(things, alike, strict=True)
        )
    return all(len(own) == thing.number for thing, own in zip(things, alike, strict=True))


def between(one: Thing, other: Thing) -> tuple[int, int]:
    """Says where one object stands, seen from another one: signs of rows down, columns right."""
    return sides(PLACES.index(one.place), PLACES.index(other.place))


def swapped_scene(scene: Scene, tag: str) -> Scene | None:
    """Exchanges something of the first two things that are named, in the statement and in the
    picture; None where the result is not another arrangement that only its picture shows.
    """
    statement = scene.statement
    if len(statement.things) < 2 or KIND_OF.get(tag, statement.kind) != statement.kind:
        return None
    first, second = statement.things[:2]
    differ = {name for name in LOOK if getattr(first, name) != getattr(second, name)}
    if tag in LOOK and (tag not in differ or differ == {tag}):  # else both things change sides
        return None
    things = _exchanged(statement.things, first, second, tag)
    objects = _exchanged(scene.objects, first, second, tag)
    swapped = Scene(objects=objects, statement=replace(statement, things=things))
    if len({o.look for o in objects}) < len({o.look for o in scene.objects}):
        return None
    if is_true(swapped.statement, scene.objects) or is_true(statement, objects):
        return None
    return swapped


def _exchanged(
    things: tuple[Thing, ...], first: Thing, second: Thing, tag: str
) -> tuple[Thing, ...]:
    def exchanged(thing: Thing) -> Thing:
        other = second if thing.is_like(first) else first if thing.is_like(second) else None
        if other is None:
            return thing
        looks = {name: getattr(other, name) for name in SWAPPED[tag] if getattr(other, name)}
        return replace(thing, **looks)

    return tuple(exchanged(thing) for thing in things)
