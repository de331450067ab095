"""One picture goes from a cell of a table to a square array. Letters: S side, C channels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from harness.training.data.identity import hashed
from harness.training.data.picture_files import upright, upright_rgb
from harness.training.data.sources.cells import Unreadable, path_text, picture_file, shortened


@dataclass(frozen=True, kw_only=True)
class Square:
    """The way in which pictures become squares of one size is set here."""

    side: int
    channels: int
    fit: Literal["squash", "crop", "pad"]


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A picture, or the reason why there is none."""

    image_SSC: np.ndarray
    """uint8; zeros where there is a problem."""
    picture_hash: int = 0
    """Hash of the picture before it was resized: it does not depend on the size chosen."""
    size: tuple[int, int] = (0, 0)
    """Its width and height before that, upright, in pixels."""
    problem: str = ""


def decode(cell: object, folder: Path, square: Square, *, named: bool = False) -> Decoded:
    """Decodes the picture of a cell: encoded bytes, `{bytes, path}`, a path from `folder`, or one
    that Pillow has opened.

    `named`: the study names the folder (`cells.picture_file`).
    """
    try:
        if isinstance(cell, Image.Image):
            picture = upright(cell)
        else:
            picture = upright_rgb(_content(cell, folder, named=named))
        picture_hash = hashed(repr(picture.size).encode() + picture.tobytes())
        image_SSC = fitted(picture, square)
        return Decoded(image_SSC=image_SSC, picture_hash=picture_hash, size=picture.size)
    except Exception as error:  # Pillow's readers raise nearly anything on damaged bytes
        empty = np.zeros((square.side, square.side, square.channels), dtype=np.uint8)
        reason = shortened(str(error).strip() or type(error).__name__, 300)
        return Decoded(image_SSC=empty, problem=f"not a picture that can be read ({reason})")


def _content(cell: object, folder: Path, *, named: bool) -> bytes:
    if isinstance(cell, Unreadable):
        raise ValueError(cell.reason)
    if (text := path_text(cell)) is not None:
        return picture_file(text, folder, named=named).read_bytes()
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        raise ValueError(
            f"neither bytes nor a path: {type(content).__name__}; a cell holds an encoded picture "
            "(PNG, JPEG), its path, or a record {bytes, path}"
        )
    return content


def fitted(picture: Image.Image, square: Square) -> np.ndarray:
    """Makes a picture square, uint8 (S, S, C): stretched, cut in the centre, or put on white."""
    size, smooth = (square.side, square.side), Image.Resampling.BICUBIC
    match square.fit:
        case "squash":
            picture = picture.resize(size, smooth)
        case "crop":
            picture = ImageOps.fit(picture, size, smooth)
        case "pad":
            picture = ImageOps.pad(picture, size, smooth, color="white")
    if square.channels == 1:
        return np.asarray(picture.convert("L"))[..., None]
    return np.asarray(picture)
