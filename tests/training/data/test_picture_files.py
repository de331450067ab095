"""Every kind of pixel comes out right, or is refused; nothing but a picture is opened."""

import base64
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.training.data.decoding import Square, decode
from harness.training.data.picture_files import upright_rgb
from harness.training.data.sources.cells import picture_file
from tests.training.data.conftest import encoded, png
from tests.training.data.pictures_by_hand import exif_of, png_of, tiff_of

SQUARE = Square(side=4, channels=3, fit="squash")
TURN = (0x0112, 3, 1, struct.pack("<HH", 6, 0))
BAD_FIELDS = {
    "text for a number": (0x011A, 2, 4, b"abc\0"),
    "far outside": (0x010E, 2, 99, struct.pack("<I", 99_999)),
    "no such type": (0x0131, 99, 1, bytes(4)),
    "a directory of text": (0x014A, 2, 4, b"abc\0"),
    "a width of text": (0x0100, 2, 4, b"abc\0"),
}


def greys(content: bytes) -> list[int]:
    """The first row, where red, green and blue are one."""
    image = np.asarray(upright_rgb(content))
    assert (image == image[..., :1]).all()
    return image[0, :, 0].tolist()


def refusal(content: object, folder: Path = Path(), **options: bool) -> str:
    decoded = decode(content, folder, SQUARE, **options)
    assert decoded.problem.startswith("not a picture that can be read ("), decoded
    return decoded.problem


def test_grey_of_16_bits_keeps_its_high_byte_and_its_transparent_value_is_white() -> None:
    row = struct.pack(">3H", 0xC805, 1000, 1001)
    assert greys(png_of(16, 0, [row], 3)) == [0xC8, 3, 3]
    key = (b"tRNS", struct.pack(">H", 1000))
    assert greys(png_of(16, 0, [row], 3, key)) == [0xC8, 255, 3]


@pytest.mark.parametrize(("bits", "row"), [(2, b"\x1b"), (4, b"\x05\xaf")])
def test_a_transparent_grey_of_few_bits_is_that_grey(bits: int, row: bytes) -> None:
    plain = greys(png_of(bits, 0, [row], 4))
    assert plain == [0, 85, 170, 255]
    key = (b"tRNS", struct.pack(">H", 1 if bits == 2 else 5))
    assert greys(png_of(bits, 0, [row], 4, key)) == [0, 255, 170, 255]


def test_a_transparent_colour_of_16_bits_is_refused() -> None:
    key = (b"tRNS", struct.pack(">3H", 1000, 1001, 1002))
    content = png_of(16, 2, [struct.pack(">6H", 51205, 1, 2, 1000, 1001, 1002)], 2, key)
    assert "save it with an alpha channel" in refusal(content)


def test_tiffs_of_12_and_16_bits_are_scaled_to_what_white_is() -> None:
    sixteen = struct.pack("<2H", 0xFFFF, 0x8000)
    assert greys(tiff_of(16, sixteen, (2, 1), white_is_zero=False)) == [255, 128]
    assert greys(tiff_of(16, sixteen, (2, 1), white_is_zero=True)) == [0, 127]
    twelve = bytes([0xFF, 0xF8, 0x00])  # 0xfff, 0x800
    assert greys(tiff_of(12, twelve, (2, 1), white_is_zero=False)) == [255, 128]


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bits_a_pixel_do_not_say_what_white_is(kind: type) -> None:
    picture = Image.fromarray(np.full((4, 4), 0.5 if kind is np.float32 else 2**30, dtype=kind))
    assert "32 bits a pixel" in refusal(encoded(picture, "tiff"))


def test_a_16_bit_pgm_is_scaled() -> None:
    assert greys(b"P5 2 1 65535\n" + struct.pack(">2H", 0xC805, 1000)) == [0xC8, 3]


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("bad", BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_a_bad_field_of_exif_does_not_hide_the_orientation(
    bad: tuple[int, int, int, bytes], first: bool
) -> None:
    upright = Image.new("RGB", (16, 8), (250, 0, 0))
    upright.paste((0, 0, 250), (8, 0, 16, 8))
    fields = (bad, TURN) if first else (TURN, bad)
    turned = np.asarray(upright_rgb(encoded(upright, "jpeg", exif=exif_of(*fields), quality=95)))
    assert turned.shape == (16, 8, 3)  # by a quarter to the right: left becomes top
    assert (turned[2, :, 0] > 200).all() and (turned[-2, :, 2] > 200).all()


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*", exif_of()[:16], exif_of()])
def test_exif_without_an_orientation_leaves_a_picture_as_it_is(exif: bytes) -> None:
    picture = Image.new("RGB", (16, 8), "red")
    assert upright_rgb(encoded(picture, "jpeg", exif=exif)).size == (16, 8)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("form", ["png", "tiff"])
def test_every_orientation_is_as_pillow_turns_it(turn: int, form: str) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = turn
    content = encoded(Image.open(io.BytesIO(png(3, (6, 4)))), form, exif=exif)
    reference = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert np.array_equal(np.asarray(upright_rgb(content)), np.asarray(reference))


def test_an_orientation_in_xmp_counts_too() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
    content = png_of(8, 0, [b"\x00\x64\xc8"], 3, (b"iTXt", text))
    assert upright_rgb(content).size == (1, 3)


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "tEXt", "iCCP"])
def test_megabytes_of_text_beside_the_pixels_do_no_harm(kind: str) -> None:
    long = b"x" * (3 * 2**20)
    packed = {"zTXt": b"Comment\0\0" + zlib.compress(long), "tEXt": b"Comment\0" + long,
              "iTXt": b"Comment\0\1\0\0\0" + zlib.compress(long),
              "iCCP": b"profile\0\0" + zlib.compress(long)}[kind]  # fmt: skip
    content = png_of(8, 0, [b"\x64\xc8"], 2, (kind.encode(), packed))
    assert greys(content) == [0x64, 0xC8]


def test_a_format_that_is_not_listed_is_refused() -> None:
    postscript = encoded(Image.new("RGB", (4, 4)), "eps")
    assert "none of the formats" in refusal(postscript) and "PNG" in refusal(postscript)
    assert "none of the formats" in refusal(encoded(Image.new("RGB", (4, 4)), "ico"))


def test_a_picture_that_is_too_large_is_refused_before_it_is_decoded() -> None:
    header = struct.pack(">IIBBBBB", 9_000, 9_000, 8, 2, 0, 0, 0)
    content = png_of(8, 0, [b"\0"], 1).split(b"IHDR")[0][:-4]
    from tests.training.data.pictures_by_hand import chunk

    bomb = content + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    assert "9000 x 9000 pixels" in refusal(bomb)


def test_only_regular_files_below_the_folder_are_opened(tmp_path: Path) -> None:
    inside, outside = tmp_path / "table", tmp_path / "secret.png"
    inside.mkdir()
    outside.write_bytes(png())
    (inside / "real.png").write_bytes(png())
    (inside / "link.png").symlink_to(outside)
    (inside / "loop.png").symlink_to("loop.png")
    os.mkfifo(inside / "pipe.png")
    assert not decode("real.png", inside, SQUARE).problem
    assert not decode(str(inside / "real.png"), inside, SQUARE).problem
    for cell in ("../secret.png", str(outside), "link.png", {"bytes": None, "path": str(outside)}):
        problem = refusal(cell, inside)
        assert "lies outside" in problem and "data.root" in problem
    assert "not a regular file" in refusal("pipe.png", inside)
    assert "not a regular file" in refusal(".", inside)
    assert "loop.png" in refusal("loop.png", inside)
    assert "'none.png': No such file" in refusal("none.png", inside)


def test_a_folder_that_the_study_names_may_lead_elsewhere(tmp_path: Path) -> None:
    named, elsewhere = tmp_path / "named", tmp_path / "elsewhere"
    named.mkdir()
    elsewhere.mkdir()
    (elsewhere / "a.png").write_bytes(png())
    (named / "link").symlink_to(elsewhere)
    assert picture_file("link/a.png", named, named=True) == named / "link" / "a.png"
    assert "lies outside" in refusal("../elsewhere/a.png", named, named=True)
    assert "lies outside" in refusal("link/a.png", named)


def test_base64_and_other_long_texts_are_cut_in_the_message() -> None:
    text = base64.b64encode(png(size=(60, 60))).decode()
    for cell in (text, "data:image/png;base64," + text):
        problem = refusal(cell)
        assert "base64" in problem and "bytes" in problem and len(problem) < 400
    assert len(refusal("x" * 10_000)) < 400
    assert "neither bytes nor a path" in refusal([1, 2, 3])
