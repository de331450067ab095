"""Scenes are drafted as numbers here, described in words, and given to a split by description.

Letters: M scenes, N most objects of a scene (absent ones are -1).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from harness.training.data.identity import hashed
from harness.training.randomness import stream
from harness.training.settings.data import Scenes
from harness.training.settings.looks import COLOURS, PLACES, SHAPES, SIZES, sides

DIRECTIONS = {
    (-1, -1): "above left of", (-1, 0): "above", (-1, 1): "above right of",
    (0, -1): "left of", (0, 1): "right of",
    (1, -1): "below left of", (1, 0): "below", (1, 1): "below right of",
}  # fmt: skip
_SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
_LOOKS = len(SIZES) * len(COLOURS) * len(SHAPES)


@dataclass(frozen=True)
class Draft:
    """A draft holds M scenes as numbers; objects of several are in a fixed order of their looks.

    All int64 (M, N); -1 where a scene has fewer objects.
    """

    size_MN: np.ndarray
    """Place in `SIZES`."""
    colour_MN: np.ndarray
    """Place in `COLOURS`."""
    shape_MN: np.ndarray
    """Place in `SHAPES`."""
    cell_MN: np.ndarray
    """Place in `PLACES`: rows of three, from the top left."""

    def __len__(self) -> int:
        return len(self.cell_MN)

    @property
    def present_MN(self) -> np.ndarray:
        """bool (M, N): there is such an object."""
        return self.cell_MN >= 0

    def take(self, rows: np.ndarray | slice) -> Draft:
        """Takes some of the scenes, in the order named."""
        return Draft(
            self.size_MN[rows], self.colour_MN[rows], self.shape_MN[rows], self.cell_MN[rows]
        )


def draft_scenes(data: Scenes, name: str) -> tuple[Draft, list[str]]:
    """Draws the scenes of one split, uniform over what its descriptions allow; also their
    descriptions.
    """
    wanted = getattr(data, name)
    rng = stream(data.seed, "scenes layout", name)
    drafts: list[Draft] = []
    kept: list[str] = []
    while len(kept) < wanted:
        drawn = _random_draft(data.objects, 2 * wanted + 64, rng)
        texts = [description(drawn, row) for row in range(len(drawn))]
        rows = [row for row, text in enumerate(texts) if split_of(text, data.seed) == name]
        drafts.append(drawn.take(np.array(rows, dtype=np.int64)))
        kept += [texts[row] for row in rows]
    whole = Draft(
        *(np.concatenate([getattr(draft, f.name) for draft in drafts]) for f in fields(Draft))
    )
    return whole.take(slice(wanted)), kept[:wanted]


def split_of(text: str, seed: int) -> str:
    """Names the split that a description belongs to; depends on the text and the seed only."""
    place = hashed(f"{seed} {text}".encode()) / 2**63
    for name, share in _SHARES.items():
        place -= share
        if place < 0:
            return name
    return "test"


def description(draft: Draft, row: int) -> str:
    """Puts a scene in canonical words, equal for exactly the scenes its captions are true of."""
    objects = [
        f"{SIZES[size]} {COLOURS[colour]} {SHAPES[shape]}"
        for size, colour, shape in zip(
            draft.size_MN[row],
            draft.colour_MN[row],
            draft.shape_MN[row],
            strict=True,
        )
        if size >= 0
    ]
    if len(objects) == 1:
        return f"{objects[0]} {PLACES[draft.cell_MN[row, 0]]}"
    cells = draft.cell_MN[row]
    pairs = [
        f"{a} {direction(cells[a], cells[b])} {b}"
        for a in range(len(objects))
        for b in range(a + 1, len(objects))
    ]
    return "; ".join(objects + pairs)


def direction(cell: int, other: int) -> str:
    """Says where the object of one cell stands, seen from another one."""
    return DIRECTIONS[sides(int(cell), int(other))]


def _random_draft(objects: tuple[int, int], count: int, rng: np.random.Generator) -> Draft:
    """Draws scenes whose objects look different and stand in different cells."""
    most = objects[1]
    present_MN = np.arange(most) < rng.integers(objects[0], most + 1, size=(count, 1))
    look_MN = np.where(
        present_MN, rng.integers(_LOOKS, size=(count, most)), _LOOKS + np.arange(most)
    )
    look_MN = np.sort(look_MN, axis=1)  # absent ones come last
    cell_MN = np.argsort(rng.random((count, len(PLACES))), axis=1)[:, :most]
    differ_M = (np.diff(look_MN, axis=1) > 0).all(axis=1)
    look_MN, cell_MN, present_MN = look_MN[differ_M], cell_MN[differ_M], present_MN[differ_M]
    size_MN, rest_MN = np.divmod(look_MN, len(COLOURS) * len(SHAPES))
    colour_MN, shape_MN = np.divmod(rest_MN, len(SHAPES))
    numbers = (size_MN, colour_MN, shape_MN, cell_MN)
    return Draft(*(np.where(present_MN, number_MN, -1) for number_MN in numbers))
