"""One picture: from a cell of a table to a square array. Letters: S side, C channels."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

from harness.training.data.identity import hashed
from harness.training.data.sources.table import picture_path


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
    problem: str = ""


def decode(cell: Any, folder: Path, square: Square) -> Decoded:
    """Decodes the picture of a cell: encoded bytes, `{bytes, path}`, or a path from `folder`."""
    try:
        picture = upright_rgb(cell, folder)
        picture_hash = hashed(repr(picture.size).encode() + picture.tobytes())
        return Decoded(image_SSC=fitted(picture, square), picture_hash=picture_hash)
    except Exception as error:  # Pillow's readers raise nearly anything on damaged bytes
        empty = np.zeros((square.side, square.side, square.channels), dtype=np.uint8)
        reason = str(error).strip() or type(error).__name__
        return Decoded(image_SSC=empty, problem=f"not a picture that can be read ({reason})")


def upright_rgb(cell: Any, folder: Path) -> Image.Image:
    """Opens a cell's picture as RGB, turned as EXIF says, transparent parts on white, 16-bit grey
    scaled to 8. Raises whatever Pillow does, and `ValueError`.
    """
    path: Path | io.BytesIO | None = picture_path(cell, folder)
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if path is None:
        if not isinstance(content, bytes):
            raise ValueError(f"neither bytes nor a path: {type(content).__name__}")
        path = io.BytesIO(content)
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I"):  # 16 bits a pixel
            grey = np.asarray(picture).astype(np.int64) // 256
            return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
        if picture.has_transparency_data:
            drawn = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn)
        return picture.convert("RGB")


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
