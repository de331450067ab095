"""Boxes lie in the square where the pixels do that they stood around."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.training.data.decoding import Square, fitted
from harness.training.data.items.boxes import share_of_square

SIDE = 64


@pytest.mark.parametrize("fit", ["squash", "pad"])
@pytest.mark.parametrize("size", [(160, 90), (90, 160), (100, 100), (333, 64), (31, 200)])
def test_boxes_are_where_the_pixels_are(fit: str, size: tuple[int, int]) -> None:
    box = (0.25 * size[0], 0.25 * size[1], 0.75 * size[0], size[1])
    left, top, right, bottom = box = tuple(map(round, box))
    picture = np.full((size[1], size[0], 3), (0, 0, 255), dtype=np.uint8)
    picture[top:bottom, left:right] = (255, 0, 0)
    square = Square(side=SIDE, channels=3, fit=fit)  # type: ignore[arg-type]
    image_SS3 = fitted(Image.fromarray(picture), square).astype(int)
    red_SS = (image_SS3[..., 0] > 127) & (image_SS3[..., 1] < 127)
    rows, columns = np.flatnonzero(red_SS.any(1)), np.flatnonzero(red_SS.any(0))
    seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    own = np.array(share_of_square(box, size, fit, SIDE)) * SIDE  # type: ignore[arg-type]
    assert np.abs(own - seen).max() <= 1


@given(
    st.tuples(st.integers(20, 500), st.integers(20, 500)),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.sampled_from(["squash", "pad"]),
)
def test_against_plain_arithmetic(
    size: tuple[int, int], shares: tuple[float, ...], fit: str
) -> None:
    width, height = size
    box = (shares[0] * width, shares[1] * height, shares[2] * width, shares[3] * height)
    own = share_of_square(box, size, fit, SIDE)  # type: ignore[arg-type]
    if fit == "squash":
        plain = shares
    else:  # without rounding to whole pixels
        longest = max(size)
        starts = ((longest - width) / 2, (longest - height) / 2) * 2
        plain = tuple((edge + start) / longest for edge, start in zip(box, starts, strict=True))
    assert np.abs(np.array(own) - plain).max() <= 1.01 / SIDE * (fit == "pad") + 1e-9
    assert min(own) >= 0 and max(own) <= 1
