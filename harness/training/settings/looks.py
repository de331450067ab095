"""These are the words for what occurs in scenes, the pictures that fuselab draws itself."""

from __future__ import annotations

from collections.abc import Sequence

from architectures.frozen import nearest

SIZES = ("small", "large")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "black")
SHAPES = ("circle", "square", "triangle", "diamond", "ring", "cross", "bar", "star")
PLACES = (
    "top left", "top centre", "top right",
    "centre left", "centre", "centre right",
    "bottom left", "bottom centre", "bottom right",
)  # fmt: skip
EVERY = {"sizes": SIZES, "colours": COLOURS, "shapes": SHAPES, "places": PLACES}
"""Field of `Scenes` -> all names that it may hold."""
ALLOWED = {
    "eight": lambda down, right: True,
    "four": lambda down, right: 0 in (down, right),
    "two": lambda down, right: down == 0,
}
"""Value of `Scenes.directions` -> whether it has a direction, as signs of rows down and columns
right."""


def check_names(field: str, names: Sequence[str]) -> None:
    """Raises `SettingError` for a name that no scene has, and `ValueError` for one that stands
    twice.
    """
    for name in names:
        if name not in EVERY[field]:
            raise nearest(name, EVERY[field], f"name in data.{field}")
        if names.count(name) > 1:
            raise ValueError(f"data.{field}: {name!r} stands there {names.count(name)} times")


def sides(cell: int, other: int) -> tuple[int, int]:
    """Says on which side of another one a place lies: the sign of rows down and columns right, of
    places by their number in `PLACES`.
    """
    down, right = cell // 3 - other // 3, cell % 3 - other % 3
    return (down > 0) - (down < 0), (right > 0) - (right < 0)
