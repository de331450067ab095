"""Encoded pictures are opened here: safe formats only, upright, in RGB with 8 bits a colour."""

from __future__ import annotations

import functools
import io
import re
import struct

import numpy as np
from PIL import Image

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""All others are refused; Pillow would start Ghostscript for EPS."""
ENDINGS = frozenset(
    f".{ending}"
    for ending in [
        "avif",
        "bmp",
        "dib",
        "gif",
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "jp2",
        "j2k",
        "jpx",
        "png",
        "apng",
        "pbm",
        "pgm",
        "ppm",
        "pnm",
        "tif",
        "tiff",
        "webp",
    ]
)
"""How names of such files end, in small letters."""
LARGEST = 50_000_000
"""Pixels of the largest picture, 200 MB while it is decoded."""

_PNG = b"\x89PNG\r\n\x1a\n"
_XMP = b"XML:com.adobe.xmp"
_EXIF = b"Exif\0\0"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""EXIF's orientation (tag 0x0112) -> what makes the picture upright."""


def upright_rgb(content: bytes) -> Image.Image:
    """Decodes a picture: turned as EXIF says, transparent parts on white, 16-bit grey scaled to 8.

    Raises `ValueError` for another format, for more than `LARGEST` pixels and where the file does
    not say which value is white (32 bits a pixel); Pillow raises nearly anything on damaged bytes.
    """
    bare, app1 = _without_app1(_without_texts(content))
    try:
        opened = Image.open(io.BytesIO(bare), formats=_formats())
    except Image.UnidentifiedImageError:
        raise ValueError(f"none of the formats {', '.join(_formats())}") from None
    with opened as picture:
        return _upright(picture, content, app1)


def upright(picture: Image.Image) -> Image.Image:
    """Makes of a picture that Pillow has opened what `upright_rgb` makes of its file."""
    return _upright(picture, b"", [])


def _upright(picture: Image.Image, content: bytes, app1: list[bytes]) -> Image.Image:
    width, height = picture.size
    if width * height > LARGEST:
        raise ValueError(
            f"{width} x {height} pixels; make it smaller, at most {LARGEST:,} are read"
        )
    turn = _TURNS.get(_orientation(picture, app1))
    rgb = _rgb(picture, content)
    return rgb if turn is None else rgb.transpose(turn)


@functools.cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]  # AVIF is not in every Pillow


def _rgb(picture: Image.Image, content: bytes) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        return Image.fromarray(_grey(picture)).convert("RGB")
    if picture.has_transparency_data:
        _mend_key(picture, content)
        drawn = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn)
    return picture.convert("RGB")


def _grey(picture: Image.Image) -> np.ndarray:
    """Scales more than 8 bits of grey to uint8 (H, W); a transparent grey becomes white."""
    if picture.mode == "F" or (picture.mode == "I" and picture.format != "PPM"):
        raise ValueError("32 bits a pixel, of which none is said to be white; save it with 8 or 16")
    tags = getattr(picture, "tag_v2", {})  # of a TIFF
    bits = int(tags.get(258, (16,))[0])
    grey_HW = np.asarray(picture).astype(np.int64)
    shown_HW = (grey_HW >> (bits - 8)).clip(0, 255).astype(np.uint8)
    if tags.get(262) == 0:  # white is zero
        shown_HW = 255 - shown_HW
    if isinstance(key := picture.info.get("transparency"), int):
        shown_HW[grey_HW == key] = 255
    return shown_HW


def _mend_key(picture: Image.Image, content: bytes) -> None:
    """Scales a PNG's transparent grey as its pixels are, which Pillow does not.

    The file says the key in its own bits, the pixels are stretched to 8.
    """
    key = picture.info.get("transparency")
    if picture.format != "PNG" or key is None or len(content) < 26:
        return
    bits, colours = content[24], content[25]
    if colours == 2 and bits == 16:
        raise ValueError("a transparent colour of 16 bits; save it with an alpha channel")
    if colours == 0 and bits in (2, 4):
        picture.info["transparency"] = key * 255 // (2**bits - 1)


def _orientation(picture: Image.Image, app1: list[bytes]) -> int:
    """Reads EXIF's orientation, from XMP where EXIF has none; 1, upright, where none is said.

    Pillow's own reader fails, or says nothing, where any other field is bad.
    """
    if picture.format == "TIFF":  # Pillow turns it when it loads the pixels
        return 1
    exif = [part for part in app1 if part.startswith(_EXIF)]
    if place := _exif_orientation(exif[0] if exif else picture.info.get("exif", b"")):
        return place
    packets = [*app1, picture.info.get("xmp"), picture.info.get(_XMP.decode())]
    for packet in filter(None, packets):
        text = packet if isinstance(packet, bytes) else str(packet).encode()
        if written := re.search(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])", text):
            return int(written[1])
    return 1


def _exif_orientation(exif: bytes) -> int:
    """Finds the orientation in the first directory of EXIF; 0 where it is not there."""
    exif = exif.removeprefix(_EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 10:
        return 0
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    if start + 2 > len(exif):
        return 0
    (fields,) = struct.unpack_from(f"{order}H", exif, start)
    for place in range(start + 2, min(start + 2 + 12 * fields, len(exif) - 11), 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", exif, place)
        if (tag, kind, count) == (0x0112, 3, 1):
            return int(struct.unpack_from(f"{order}H", exif, place + 8)[0])
    return 0


def _without_texts(content: bytes) -> bytes:
    """Leaves the texts and the colour profile of a PNG out: nothing here reads them, and Pillow
    refuses a picture whose packed text is longer than 1 MB.
    """
    if not content.startswith(_PNG):
        return content
    kept, place = [_PNG], len(_PNG)
    while place + 12 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, place)
        chunk = content[place : place + 12 + size]
        place += 12 + size
        if kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP") or chunk[8:].startswith(_XMP):
            kept.append(chunk)
    return b"".join([*kept, content[place:]])


def _without_app1(content: bytes) -> tuple[bytes, list[bytes]]:
    """Takes EXIF and XMP (segments APP1) out of a JPEG, for Pillow warns of their bad fields; also
    gives their contents.
    """
    kept, taken, place = [content[:2]], [], 2
    if content[:2] != b"\xff\xd8":
        return content, []
    while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] != b"\xda":
        if place + 4 > len(content):
            break
        kind, size = struct.unpack_from(">xBH", content, place)
        segment = content[place : place + 2 + size]
        place += 2 + size
        if kind == 0xE1:
            taken.append(segment[4:])
        else:
            kept.append(segment)
    return b"".join([*kept, content[place:]]), taken
