"""Tables, pictures and weights that cannot be used: file, row and column, or the setting."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.harness.bad_inputs.conftest import STUDY, Refused

pytestmark = pytest.mark.slow

ROWS = 12


def encoded(place: int = 0, kind: str = "PNG", side: int = 9) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (place * 20, 3, 9)).save(buffer, kind)
    return buffer.getvalue()


GOOD = {
    "image": [encoded(place) for place in range(ROWS)],
    "caption": [f"word{place} a" for place in range(ROWS)],
}
CELLS: dict[str, Any] = {
    "words": "x", "a whole number": 3, "numbers": [0.1], "no bytes": b"", "one byte": b"\x89",
    "a record": {"a": 1}, "an empty record": {"bytes": None, "path": None}, "GIF": b"GIF89a no",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n", "SVG": b"<svg/>", "a page": b"<html>", "PDF": b"%PDF-1.4",
    "half a PNG": encoded(side=99)[:60], "half a JPEG": encoded(kind="JPEG", side=300)[:400],
    "half a WEBP": encoded(kind="WEBP")[:20], "a pipe": "/dev/stdin", "outside": "../../etc/passwd",
    "an address": "http://x/y.png", "a null byte": "a\0b", "a long path": "x" * 5000,
    "a folder": ".", "base64": "iVBORw0KGgo" * 50, "an empty path": "", "a file's address": "file:///x",
    "markup": "[red]x[/red].png",
}  # fmt: skip
CAPTIONS: dict[str, Any] = {
    "whole numbers": 3, "bytes": b"\xe9", "records": {"a": "b"}, "lists of lists": [["a"]],
    "true": True, "nothing to see": "\u200b", "nothing": "", "blanks": " \n\t", "numbers": 1.5,
    "no caption": [], "an empty one": ["a", ""],
}  # fmt: skip
SETTINGS = {
    'image="img"': "did you mean 'image'", 'caption="captions"': "did you mean 'caption'",
    'group="caption_"': "(setting group)", 'fit="cut"': "Pictures.fit: ",
    'root="nowhere"': "data.root",
    'augment="flip"': "Pictures.augment: ", "smallest_crop=0": "Pictures.smallest_crop: ",
    "val_share=1": "Pictures.val_share: must be less than 1",
    'image=""': "Pictures.image: must not",
    'val="no.parquet"': "val=no.parquet does not exist", 'test="*.no"': "test=*.no matches no file",
    "text=Text(max_tokens=2)": "Text.max_tokens: ", "text=3": "Pictures.text: must be",
    'text=Text(tokenizer="x", normaliser="none")': "text.normaliser",
}  # fmt: skip
SOURCES = [
    "a\0b", "~nosuchuser/x", "*.nothing", "[", ".", "hub:", "hub:no/such:train:x", "own.py",
    "x" * 5000, "/dev/null", "nowhere/",
]  # fmt: skip


def written(study: Path, train: str, more: str = "") -> None:
    data = f"Pictures(train={train!r}, {more})"
    study.write_text(STUDY.replace("Scenes(train=96, val=24, test=24)", data))


def table(folder: Path, **columns: Any) -> str:
    path = folder / "t.parquet"
    pq.write_table(pa.table(columns), path)
    return str(path)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_pictures(study: Path, refused: Refused, cell: Any) -> None:
    train = table(study.parent, image=[cell] * ROWS, caption=GOOD["caption"])
    written(study, train)
    assert not refused("plan", study, names=[f"{train}, row 0, column 'image': not a picture"])


@pytest.mark.parametrize("caption", CAPTIONS.values(), ids=CAPTIONS)
def test_captions(study: Path, refused: Refused, caption: Any) -> None:
    train = table(study.parent, image=GOOD["image"], caption=[caption] * ROWS)
    written(study, train)
    assert not refused("plan", study, names=[f"{train}, row 0, column 'caption': "])


@pytest.mark.parametrize("group", [None, float("nan"), {"a": None}, [None]])
def test_groups(study: Path, refused: Refused, group: Any) -> None:
    train = table(study.parent, **GOOD, g=[group] * ROWS)
    written(study, train, 'group="g"')
    assert not refused("plan", study, names=[f"{train}, row 0, column 'g': no value"])


@pytest.mark.parametrize(("more", "words"), SETTINGS.items())
def test_settings_of_pictures(study: Path, refused: Refused, more: str, words: str) -> None:
    written(study, table(study.parent, **GOOD), more)
    assert not refused("plan", study, names=[words])


@pytest.mark.parametrize("train", SOURCES)
def test_sources(
    study: Path, refused: Refused, train: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study.parent)
    written(study, train)
    assert not refused("plan", study, names=["train"])


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(30) + b"PAR1", b"a,b\n1,2\n"])
def test_files(study: Path, refused: Refused, content: bytes) -> None:
    path = study.parent / "t.parquet"
    path.write_bytes(content)
    written(study, str(path))
    assert not refused("plan", study, names=[str(path), "cannot be read as parquet"])


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_too_few_rows(study: Path, refused: Refused, rows: int) -> None:
    written(study, table(study.parent, **{name: its[:rows] for name, its in GOOD.items()}))
    assert not refused("plan", study, names=["train"])


WEIGHTS = {
    "empty": b"", "words": b"hello", "half a zip": b"PK\x03\x04" + bytes(20), "a page": b"<html>",
    "a safetensors header too long": (2**60).to_bytes(8, "little") + b"{}",
    "a safetensors header that is none": (2).to_bytes(8, "little") + b"[]",
    "a pickle": b"\x80\x04N.", "numbers": np.zeros(64).tobytes(),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
@pytest.mark.parametrize("content", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("setting", ["vision_weights", "text_weights"])
def test_weights_files(
    study: Path, refused: Refused, setting: str, content: bytes, suffix: str
) -> None:
    path = study.parent / f"w{suffix}"
    path.write_bytes(content)
    change = f"backbone.{setting}={path}"
    assert not refused("plan", study, "--set", change, names=[str(path), setting])


@pytest.mark.parametrize("config", ["", "[]", "{}", '{"model_type": "gpt2"}', "null", "{", "\0"])
@pytest.mark.parametrize("setting", ["vision_weights", "text_weights"])
def test_weights_folders(study: Path, refused: Refused, setting: str, config: str) -> None:
    folder = study.parent / "weights"
    folder.mkdir()
    (folder / "config.json").write_text(config)
    change = f"backbone.{setting}={folder}"
    assert not refused("plan", study, "--set", change, names=[str(folder), setting])


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"version": "9"}'])
def test_tokenizer_folders(study: Path, refused: Refused, content: str) -> None:
    folder = study.parent / "tokenizer"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (folder / name).write_text(content)
    for place in (folder, folder / "tokenizer.json"):
        change = f"data.text.tokenizer={place}"
        assert not refused("plan", study, "--set", change, names=["data.text.tokenizer"])
