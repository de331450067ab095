"""Scenes drawn with numpy: smooth-edged shapes on a grey, slightly noisy ground.

Grey is what normalisation takes to zero, so that a patch without an object says nothing.

Letters: M scenes, N most objects of a scene, S side in pixels, D side of one shape's stamp.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from harness.training.data.scenes.draft import COLOURS, SHAPES, SIZES, Draft

RGB = {
    "red": (215, 30, 35), "orange": (250, 135, 15), "yellow": (240, 215, 20),
    "green": (30, 150, 50), "cyan": (40, 200, 215), "blue": (35, 70, 210),
    "purple": (125, 40, 160), "pink": (250, 130, 185), "black": (25, 25, 25),
}  # fmt: skip
_RADIUS = {"small": 0.1, "large": 0.15}
"""Share of the picture's side. Cells are a third of a side apart: two that are large and neighbours
may just touch."""
_ALONE = 1.8
"""How much larger an object is that has the picture to itself."""
_SCALES = (0.95, 1.0, 1.05)
_JITTER = 0.03
"""Farthest an object stands from the middle of its cell, as a share of the side."""
_FINE = 4
"""Samples along each side of a pixel for smooth edges."""


@dataclass(frozen=True)
class Placed:
    """Centres and radii of M scenes' objects are held here, as shares of the picture's side."""

    at_MN2: np.ndarray
    """float64 (M, N, 2): x from the left, y from the top, of the centre."""
    radius_MN: np.ndarray
    """float64 (M, N)."""


def place(draft: Draft, rng: np.random.Generator) -> Placed:
    """Puts objects near the middle of their cells, in slightly varied sizes."""
    middle_MN2 = (np.stack([draft.cell_MN % 3, draft.cell_MN // 3], axis=2) + 0.5) / 3
    jitter_MN2 = rng.uniform(-_JITTER, _JITTER, size=middle_MN2.shape)
    scale_MN = np.array(_SCALES)[rng.integers(len(_SCALES), size=draft.cell_MN.shape)]
    radius = np.array([_RADIUS[size] for size in SIZES])
    radius_MN = radius[draft.size_MN] * scale_MN
    if draft.cell_MN.shape[1] == 1:
        radius_MN = radius_MN * _ALONE
    edge_MN1 = radius_MN[:, :, None]  # nothing is cut off by the picture's edge
    return Placed((middle_MN2 + jitter_MN2).clip(edge_MN1, 1 - edge_MN1), radius_MN)


def draw(draft: Draft, placed: Placed, side: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields the M pictures in pieces small enough to hold, uint8 (m, S, S, 3)."""
    ground_M3 = rng.integers(126, 131, size=(len(draft), 3))
    paint_MN3 = np.array([RGB[colour] for colour in COLOURS])[draft.colour_MN]
    paint_MN3 = paint_MN3 + rng.integers(-12, 13, size=paint_MN3.shape)
    step = max(1, 2**23 // (side * side * 3))
    for start in range(0, len(draft), step):
        piece = slice(start, start + step)
        some = Placed(placed.at_MN2[piece], placed.radius_MN[piece])
        canvas_MSS3 = _painted(draft.take(piece), some, ground_M3[piece], paint_MN3[piece], side)
        canvas_MSS3 += rng.integers(-7, 8, size=canvas_MSS3.shape, dtype=np.int8)
        yield np.clip(np.rint(canvas_MSS3), 0, 255).astype(np.uint8)


def in_channels(images_MSSC: np.ndarray, channels: int) -> np.ndarray:
    """Makes colours grey where one channel is wanted (ITU-R 601 luma, as in PIL)."""
    if channels == 3:
        return images_MSSC
    grey = images_MSSC @ np.array([0.299, 0.587, 0.114])
    return np.rint(grey)[..., None].astype(np.uint8)


def _painted(
    draft: Draft,
    placed: Placed,
    ground_M3: np.ndarray,
    paint_MN3: np.ndarray,
    side: int,
) -> np.ndarray:
    """Returns float32 (M, S, S, 3), no noise. A shape of a radius is stamped on all its scenes."""
    margin = side // 3 + 2
    canvas = np.empty((len(draft), side + 2 * margin, side + 2 * margin, 3), dtype=np.float32)
    canvas[:] = ground_M3[:, None, None]
    pixel_MN2 = np.floor(placed.at_MN2 * side).astype(np.int64)
    for i in range(draft.cell_MN.shape[1]):
        for shape, name in enumerate(SHAPES):
            for radius in np.unique(placed.radius_MN[:, i]):
                mine = (draft.shape_MN[:, i] == shape) & (placed.radius_MN[:, i] == radius)
                rows = np.flatnonzero(mine)
                if len(rows) == 0:
                    continue
                cover_DD1 = _stamp(name, float(radius) * side)[..., None]
                reach = np.arange(len(cover_DD1)) - len(cover_DD1) // 2 + margin
                y = pixel_MN2[rows, i, 1, None, None] + reach[:, None]
                x = pixel_MN2[rows, i, 0, None, None] + reach
                at = (rows[:, None, None], y, x)
                paint = paint_MN3[rows, i][:, None, None]
                canvas[at] += cover_DD1 * (paint - canvas[at])
    return canvas[:, margin:-margin, margin:-margin]


@lru_cache(maxsize=256)
def _stamp(shape: str, radius: float) -> np.ndarray:
    """Returns float32 (D, D): the share of each pixel that the shape covers; its centre is the
    middle of the middle one.
    """
    reach = int(np.ceil(radius)) + 1
    fine = (np.arange((2 * reach + 1) * _FINE) + 0.5) / _FINE - reach - 0.5
    inside = _inside(shape, fine / radius, fine[:, None] / radius)
    blocks = inside.reshape(2 * reach + 1, _FINE, 2 * reach + 1, _FINE)
    return blocks.mean(axis=(1, 3)).astype(np.float32)


def _inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Says whether points are in a shape of radius about 1; y points down."""
    r, box = np.hypot(x, y), np.maximum(abs(x), abs(y))
    match shape:
        case "circle":
            return r <= 1
        case "square":
            return box <= 0.92
        case "triangle":
            return (y <= 0.9) & (y >= 2 * abs(x) - 1.05)
        case "diamond":
            return abs(x) + abs(y) <= 1.1
        case "ring":
            return (r <= 1.1) & (r >= 0.6)
        case "cross":
            return (np.minimum(abs(x), abs(y)) <= 0.27) & (box <= 1.05)
        case "bar":
            return (abs(y) <= 0.35) & (abs(x) <= 1.1)
        case "star":
            turn = (np.arctan2(x, -y) * 5 / (2 * np.pi)) % 1  # 0 at a tip, 0.5 between two
            return r * (1 + 1.9 * np.minimum(turn, 1 - turn)) <= 1.25
        case _:
            raise ValueError(f"no such shape: {shape}")
