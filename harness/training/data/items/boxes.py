"""Boxes in pixels of a picture become shares of the square that it is made."""

from __future__ import annotations

from typing import Literal

from harness.training.data.items.items import Box

SLACK = 1.0
"""Pixels by which a box may stand over the picture's edge, as rounded or detected boxes do; it is
cut there, from this many on refused."""


def outside(box: Box, size: tuple[int, int]) -> str:
    """Says how a box, in pixels, does not lie in a picture of this width and height; empty: it
    does."""
    width, height = size
    left, top, right, bottom = box
    within = min(left, top) > -SLACK and right < width + SLACK and bottom < height + SLACK
    if within and left < width and top < height and right > 0 and bottom > 0:
        return ""
    edges = ", ".join(f"{edge:g}" for edge in box)
    return (
        f"the box ({edges}) lies outside its picture of {width} x {height} pixels; it is left, "
        "top, right and bottom, in pixels of the picture in the file, turned upright"
    )


def point_in_picture(
    share: tuple[float, float], size: tuple[int, int], fit: Literal["squash", "crop", "pad"]
) -> tuple[float, float]:
    """Returns where a point of the square, as shares of it from the left and the top, lies in the
    picture of this width and height, in pixels; the nearest one of the picture on what pads it.

    >>> [point_in_picture((0.25, 0.5), (100, 50), fit) for fit in ("squash", "crop", "pad")]
    [(25.0, 25.0), (37.5, 25.0), (25.0, 25.0)]
    >>> point_in_picture((0.5, 0.1), (100, 50), "pad")
    (50.0, 0.0)
    """
    shown = {"squash": size, "crop": 2 * (min(size),), "pad": 2 * (max(size),)}[fit]
    x, y = (
        min(max((length - side) / 2 + part * side, 0.0), float(length))
        for part, length, side in zip(share, size, shown, strict=True)
    )
    return x, y


def share_of_square(
    box: Box, size: tuple[int, int], fit: Literal["squash", "pad"], side: int
) -> Box:
    """Returns where a box, in pixels of a picture of this width and height, comes to lie in the
    square of `side` pixels, as shares of it (`decoding.fitted`).

    >>> share_of_square((0, 0, 50, 50), (100, 50), "squash", 8)
    (0.0, 0.0, 0.5, 1.0)
    >>> share_of_square((0, 0, 50, 50), (100, 50), "pad", 8)
    (0.0, 0.25, 0.5, 0.75)
    """
    width, height = size
    x_side, y_side = side, side
    if fit == "pad":  # rounded as Pillow rounds the picture that it puts on white
        x_side = side if width >= height else max(round(width / height * side), 1)
        y_side = side if height >= width else max(round(height / width * side), 1)
    x_start, y_start = round((side - x_side) / 2), round((side - y_side) / 2)

    def share(pixel: float, length: int, start: int, of_side: int) -> float:
        inside = min(max(pixel, 0.0), length) / length
        return (start + inside * of_side) / side

    left, top, right, bottom = box
    return (
        share(left, width, x_start, x_side),
        share(top, height, y_start, y_side),
        share(right, width, x_start, x_side),
        share(bottom, height, y_start, y_side),
    )
