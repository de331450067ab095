"""Pictures of a folder are decoded here, once, into an array of a cache entry. Letters: P pictures,
S side in pixels, C channels.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.training.data.cache import write_array
from harness.training.data.decoding import Square, decode
from harness.training.data.sources.cells import picture_file

_AT_ONCE = 256
"""Decoded pictures that wait in memory to be written."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of a decoded picture besides its pixels."""

    problem: str
    """Why it could not be read; empty: it could."""
    picture_hash: int
    """Equal for equal pixels, whatever the file."""
    size: tuple[int, int]
    """Width and height in the file, upright, in pixels."""


def missing(image: str, folder: Path) -> str:
    """Says why a line's picture is none that may be read; empty: it is there."""
    try:
        picture_file(image, folder, named=False, hint="put it into the folder")
    except ValueError as error:
        return str(error)
    return ""


def write_pictures(path: Path, folder: Path, images: Sequence[str], square: Square) -> list[Seen]:
    """Decodes the pictures named, in order, into an .npy file of uint8 (P, S, S, C); those that
    cannot be read are zeros there.
    """
    seen: list[Seen] = []

    def pixels() -> Iterator[np.ndarray]:
        one = functools.partial(decode, folder=folder, square=square)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(images), _AT_ONCE):
                for picture in pool.map(one, images[start : start + _AT_ONCE]):
                    seen.append(
                        Seen(
                            problem=picture.problem,
                            picture_hash=picture.picture_hash,
                            size=picture.size,
                        )
                    )
                    yield picture.image_SSC[None]

    shape = (len(images), square.side, square.side, square.channels)
    write_array(path, pixels(), shape, np.uint8)
    return seen
