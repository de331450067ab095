"""A colour and a marker per cell, told apart by any reader and on any printer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from reports.drawing import colours, markers

# What is left of linear RGB without one kind of cone: Machado, Oliveira and Fernandes, "A
# physiologically-based model for simulation of color vision deficiency" (2009), severity 1.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
}  # fmt: skip
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
     [0.0193339, 0.1191920, 0.9503041]]
)  # fmt: skip


def lab(names: list[str], sight: str) -> np.ndarray:
    """CIE 1976 L*, a* and b* of sRGB colours, (N, 3), as somebody sees them."""
    rgb = np.array([to_rgb(name) for name in names])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ SIGHT[sight].T, 0, 1)
    share = seen @ XYZ.T / XYZ.sum(axis=1)
    f = np.where(share > (6 / 29) ** 3, np.cbrt(share), share * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def nearest(places: np.ndarray) -> float:
    """The smallest distance between two of the points (N, any)."""
    far = np.linalg.norm(places[:, None] - places[None], axis=-1)
    return float(far[np.triu_indices(len(places), 1)].min())


def unordered(cells: int) -> pd.DataFrame:
    names = [f"cell {i}" for i in range(cells)]
    return pd.DataFrame({"cell": names, "role": "compared", "axis": names})


def test_white_and_black_are_a_hundred_apart() -> None:
    assert nearest(lab(["white", "black"], "normal")) == pytest.approx(100, abs=0.1)
    red, green = lab(["#b40000", "#7a7a00"], "deuteranopia")
    assert np.linalg.norm(red - green) < 25 < nearest(lab(["#b40000", "#7a7a00"], "normal"))


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize(("cells", "apart"), [(2, 90), (4, 40), (8, 30), (16, 7)])
def test_colours_are_told_apart(sight: str, cells: int, apart: float) -> None:
    assert nearest(lab(list(colours(unordered(cells)).values()), sight)) > apart


def test_eight_colours_are_told_apart_in_grey_and_on_white() -> None:
    lightness = lab(list(colours(unordered(8)).values()), "normal")[:, :1]
    assert nearest(lightness) > 8
    assert lightness.max() < 80


def test_colours_are_ordered_along_a_numeric_axis() -> None:
    cells = ["c", "a", "b", "floor"]
    table = pd.DataFrame({"cell": cells, "axis": [12.0, 0.0, 6.0, 0.0]})
    table["role"] = ["compared"] * 3 + ["floor"]
    numeric = colours(table)
    lightness = lab([numeric[cell] for cell in "abc"], "normal")[:, 0]
    assert list(lightness) == sorted(lightness) and len(set(numeric.values())) == 4
    assert nearest(lightness[:, None]) > 20
    assert colours(table.iloc[[2, 0, 3, 1]]) == numeric  # the axis orders, not the rows
    assert colours(table.assign(axis=["x", "y", "z", "w"])) != numeric


@pytest.mark.parametrize("cells", [1, 7, 8, 9, 16, 30])
def test_no_two_compared_cells_share_a_colour(cells: int) -> None:
    assert len(set(colours(unordered(cells)).values())) == cells


def test_ten_cells_have_a_marker_each_and_none_points_as_verdicts_do() -> None:
    ten = markers(unordered(10))
    assert len(set(ten.values())) == 10 and not {"^", "v"} & set(ten.values())
    more = unordered(14).assign(colour=lambda t: t["cell"].map(colours(t)))
    both = set(zip(more["colour"], more["cell"].map(markers(more)), strict=True))
    assert len(both) == 14
