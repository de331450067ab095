"""Built-in pictures of coloured shapes with true captions and full ground truth.

One object: its size, colour, shape and place are the description, and every caption says all four.
Several objects: the description is the objects and the direction from each to each other, not
their cells, so that with two objects a caption is true of exactly the pictures of one description;
with more it names all of them and the direction between two. Where the number of objects varies
captions begin with `only`, else one would be true of a picture that holds more. Descriptions,
not pictures, are split: none of val or test occurs in train, none of test in val.

So it is with scenes of the first version; those that ask for a later field of `Scenes` are drawn in
`arranging`, and come with captions of the same words that are not true (`Split.swapped`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from harness.training.data.cache import DataError
from harness.training.data.identity import hashed
from harness.training.data.scenes.arranging import drafted, draw_scenes, most_objects
from harness.training.data.scenes.draft import Draft, direction, draft_scenes
from harness.training.data.scenes.pixels import Placed, draw, in_channels, place
from harness.training.data.scenes.statements import meaning
from harness.training.data.scenes.swaps import captions_and_swaps
from harness.training.data.scenes.words import captions_of
from harness.training.data.splits import NAMES, Rows, write_split
from harness.training.randomness import stream
from harness.training.settings.data import Scenes
from harness.training.settings.looks import COLOURS, PLACES, SHAPES, SIZES

VERSION = "1"
"""Raised whenever the same settings give other pictures or captions."""
LATER_VERSION = "2"
"""The same of scenes that ask for a field that they had not at first."""


def version(data: Scenes) -> str:
    """Names the version of the scenes that these settings give."""
    return VERSION if data.is_first_version else LATER_VERSION


def write_scenes(data: Scenes, image_size: int, channels: int, folder: Path) -> None:
    """Draws all splits into `folder` (splits.write_split).

    Raises `DataError` for a number of objects that no scene can hold.
    """
    if data.objects[0] > data.objects[1] or data.objects[1] > len(PLACES):
        raise DataError(
            f"objects={data.objects}: fewest and most objects, at most {len(PLACES)} fit a scene"
        )
    for name in NAMES:
        words = _first_words if data.is_first_version else _words
        draft, rows = words(data, name, stream(data.seed, "scenes words", name))
        rng = stream(data.seed, "scenes pixels", name)
        placed = place(draft, rng)
        rows = replace(rows, truth=[_truth(draft, placed, row) for row in range(len(draft))])
        pieces = _hashed(draw(draft, placed, image_size, rng), channels)
        write_split(folder, name, pieces, (image_size, image_size, channels), rows)


def _first_words(data: Scenes, name: str, rng: np.random.Generator) -> tuple[Draft, Rows]:
    draft, descriptions = draft_scenes(data, name)
    captions = captions_of(draft, data.captions, data.objects[0] < data.objects[1], rng)
    return draft, Rows(captions=captions, groups=descriptions)


def _words(data: Scenes, name: str, rng: np.random.Generator) -> tuple[Draft, Rows]:
    scenes = draw_scenes(data, name, getattr(data, name))
    captions, swapped = captions_and_swaps(data, scenes, rng)
    meanings = [meaning(scene.statement) for scene in scenes]
    rows = Rows(captions=captions, groups=meanings, swapped=swapped)
    return drafted(scenes, most_objects(data)), rows


def _truth(draft: Draft, placed: Placed, row: int) -> dict[str, JsonValue]:
    """Describes one scene; x, y (of the centre, from the top left) and radius are shares of the
    picture's side.
    """
    cells = [int(cell) for cell in draft.cell_MN[row] if cell >= 0]
    objects: list[JsonValue] = [
        {
            "shape": SHAPES[draft.shape_MN[row, i]],
            "colour": COLOURS[draft.colour_MN[row, i]],
            "size": SIZES[draft.size_MN[row, i]],
            "place": PLACES[cell],
            "x": round(float(placed.at_MN2[row, i, 0]), 4),
            "y": round(float(placed.at_MN2[row, i, 1]), 4),
            "radius": round(float(placed.radius_MN[row, i]), 4),
        }
        for i, cell in enumerate(cells)
    ]
    relations: list[JsonValue] = [
        {"subject": a, "relation": direction(cells[a], cells[b]), "object": b}
        for a in range(len(cells))
        for b in range(len(cells))
        if a != b
    ]
    return {"objects": objects, "relations": relations}


def _hashed(pieces: Iterator[np.ndarray], channels: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for images_MSSC in pieces:
        images_MHWC = in_channels(images_MSSC, channels)
        yield images_MHWC, np.array([hashed(image.tobytes()) for image in images_MHWC])
