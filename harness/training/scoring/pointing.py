"""Where a map points, and which of some boxes it prefers; ties count as their mean.

Letters: N maps, h w rows and columns of patches, S pixels along a side, K boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, as shares of the picture's side."""

FITS = 0.5
"""Intersection over union from which a box counts as the right one."""
_ALIKE = 1e-9
"""Values that differ by less, as a share of the largest, are the same but for rounding."""


def upsampled(map_Nhw: np.ndarray, side: int) -> np.ndarray:
    """Stretches maps to the picture by cubic interpolation, as ALBEF does: float64 (N, S, S)."""
    map_N1hw = torch.from_numpy(map_Nhw.astype(np.float64))[:, None]
    large_N1SS = F.interpolate(map_N1hw, size=(side, side), mode="bicubic", align_corners=False)
    return large_N1SS[:, 0].numpy()


def inside(box: Box, side: int) -> np.ndarray:
    """Says which pixels have their centre in a box: bool (S, S)."""
    centre_S = (np.arange(side) + 0.5) / side
    left, top, right, bottom = box
    across_S = (centre_S >= left) & (centre_S <= right)
    return ((centre_S >= top) & (centre_S <= bottom))[:, None] & across_S


def points(map_SS: np.ndarray) -> np.ndarray:
    """Says where a map points: bool (S, S), all pixels that share its maximum."""
    return _highest(map_SS)


def pointed(map_SS: np.ndarray) -> tuple[float, float]:
    """Returns where a map points, as shares of the side from the left and the top; the mean of the
    pixels that tie.
    """
    rows, columns = np.nonzero(points(map_SS))
    side = len(map_SS)
    return float((columns.mean() + 0.5) / side), float((rows.mean() + 0.5) / side)


def overlap(one: Box, other: Box) -> float:
    """Computes the intersection over the union of two boxes; 0 where both have no area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0.0) * max(height, 0.0)
    union = area(one) + area(other) - common
    return common / union if union > 0 else 0.0


def area(box: Box) -> float:
    """Computes the share of the picture that a box covers."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def preferred(map_SS: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """Says which box a map prefers: float (K,), 1 at one box, or even shares where several tie.

    ALBEF's rule: the highest sum of the map inside, divided by the square root of the area. A map
    of one value says nothing and prefers none; by the rule alone it would take the largest.
    """
    if _highest(map_SS).all():
        return np.full(len(boxes), 1 / len(boxes))
    side = len(map_SS)
    sums_K = np.array([map_SS[inside(box, side)].sum() for box in boxes])
    # A box without area holds no pixel's centre, or one on its edge.
    sides_K = np.sqrt([max(area(box) * side * side, 1.0) for box in boxes])
    best_K = _highest(sums_K / sides_K)
    return best_K / best_K.sum()


def largest(boxes: Sequence[Box]) -> np.ndarray:
    """Prefers the largest box, whatever the map: float (K,), even shares where several tie."""
    best_K = _highest(np.array([area(box) for box in boxes]))
    return best_K / best_K.sum()


def fitting(boxes: Sequence[Box], right: Box) -> np.ndarray:
    """Says which boxes count as the right one: bool (K,)."""
    return np.array([overlap(box, right) >= FITS for box in boxes])


def _highest(values: np.ndarray) -> np.ndarray:
    """Says which values share the maximum, rounding aside; of values that are none, all do."""
    if not np.isfinite(values).all():
        return np.ones(values.shape, dtype=bool)
    return values >= values.max() - _ALIKE * np.abs(values).max()
