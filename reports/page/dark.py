"""Colours of pictures change with the page: each has another one that is read on dark paper.

Lightness is that of Oklab (Ottosson, "A perceptual color space for image processing", 2020).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

COLOUR = re.compile(r"#([0-9a-fA-F]{6})(?![0-9a-fA-F-])")
NAMED = re.compile(r"--([cp])([0-9a-f]{6})")
GREY, PALE = 0.03, 0.88
"""Chroma below which a colour is a grey, and lightness above which it is paper: both are turned."""
DARKEST, SPAN = 0.58, 0.34
"""Lightness of what was black among the other colours, and by how much lighter white becomes; so a
scale of colours keeps its order."""
PAPER, INK = 0.21, 0.95
"""Lightness of turned white and black."""
TO_CONE = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
TO_LAB = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip


def by_name(style: str, *, paper: bool = False) -> str:
    """Returns a style whose colours have names, each with itself as what holds without a name.
    `paper`: words stand on the colours, which are all turned then."""
    kind = "p" if paper else "c"
    return COLOUR.sub(lambda found: f"var(--{kind}{found[1].lower()},{found[0]})", style)


def css_of(pictures: Iterable[str]) -> str:
    """Returns a rule that gives every named colour of some pictures a light and a dark value."""
    names = sorted({name for picture in pictures for name in NAMED.findall(picture)})
    return "".join(
        f"--{kind}{one}:light-dark(#{one},{on_dark(one, paper=kind == 'p')});"
        for kind, one in names
    )


def on_dark(colour: str, *, paper: bool = False) -> str:
    """Returns what stands on dark paper for a colour, given as six hexadecimal digits; `paper` as
    in `by_name`.

    >>> on_dark("ffffff"), on_dark("000000"), on_dark("a8d8f5", paper=True)
    ('#181818', '#eeeeee', '#04364d')
    """
    coded_3 = np.frombuffer(bytes.fromhex(colour), np.uint8) / 255
    linear_3 = np.where(coded_3 > 0.04045, ((coded_3 + 0.055) / 1.055) ** 2.4, coded_3 / 12.92)
    lightness, *rest = TO_LAB @ np.cbrt(TO_CONE @ linear_3)
    if paper or lightness > PALE or np.hypot(*rest) < GREY:
        turned = INK - (INK - PAPER) * lightness
    else:
        turned = DARKEST + SPAN * lightness
    cone_3 = np.linalg.solve(TO_LAB, [turned, *rest]) ** 3
    linear_3 = np.clip(np.linalg.solve(TO_CONE, cone_3), 0, 1)
    bright_3 = 1.055 * linear_3 ** (1 / 2.4) - 0.055
    coded_3 = np.where(linear_3 > 0.0031308, bright_3, 12.92 * linear_3)
    return "#" + bytes(np.round(coded_3 * 255).astype(np.uint8)).hex()
