"""Files of pictures, byte by byte: what no library writes, but cameras and scanners do."""

import struct
import zlib

PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png_of(
    bits: int, colours: int, rows: list[bytes], width: int, *between: tuple[bytes, bytes]
) -> bytes:
    """`colours`: 0 grey, 2 RGB, 4 grey and alpha; `between`: chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colours, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    middle = b"".join(chunk(*each) for each in between)
    return PNG + chunk(b"IHDR", header) + middle + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff_of(bits: int, samples: bytes, size: tuple[int, int], *, white_is_zero: bool) -> bytes:
    """A grey TIFF of one strip, little-endian."""
    fields = [
        (256, 4, size[0]), (257, 4, size[1]), (258, 3, bits), (259, 3, 1),
        (262, 3, 0 if white_is_zero else 1), (273, 4, 8), (277, 3, 1), (278, 4, size[1]),
        (279, 4, len(samples)),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in fields)
    place = 8 + len(samples)
    directory = struct.pack("<H", len(fields)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", place) + samples + directory


def exif_of(*fields: tuple[int, int, int, bytes]) -> bytes:
    """EXIF of one directory; a field is its tag, type, count and four bytes."""
    entries = b"".join(struct.pack("<HHI4s", *field) for field in fields)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(fields)) + entries + bytes(4)
