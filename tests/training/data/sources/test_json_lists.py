"""Captions in a JSON list: read as a table of parquet is, and refused with file, row and field."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.training.data.cache import DataError
from harness.training.data.corpus import Corpus, content_key, load_corpus
from harness.training.settings.data import Pictures
from tests.training.data.conftest import png

Write = Callable[[object], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(content: object) -> str:
        for seed in range(12):
            (tmp_path / f"{seed}.png").write_bytes(png(seed))
        path = tmp_path / "captions.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return written


def load(data: Pictures, tmp_path: Path) -> Corpus:
    return load_corpus(data, 8, tmp_path / "cache")


def test_a_list_is_read_as_a_table(write: Write, tmp_path: Path) -> None:
    rows = [
        {"image": f"{n}.png", "caption": [f"cat {n}", "a cat"] if n % 2 else f"dog {n}",
         "image_id": n // 2}
        for n in range(12)
    ]  # fmt: skip
    data = Pictures(train=write(rows), group="image_id", val_share=0.2, test_share=0.2)
    corpus = load(data, tmp_path)
    assert len(corpus.train) + len(corpus.val) + len(corpus.test) == 12
    assert {len(own) for own in corpus.train.captions} == {1, 2}
    key = content_key(data, 8)
    (tmp_path / "0.png").write_bytes(png(99))
    assert content_key(data, 8) != key


def test_paths_begin_at_the_root(write: Write, tmp_path: Path) -> None:
    path = write([{"image": f"{n}.png", "caption": f"cat {n}"} for n in range(12)])
    (tmp_path / "deep").mkdir()
    moved = Path(path).rename(tmp_path / "deep" / "captions.json")
    with pytest.raises(DataError, match=r"row 0, column 'image': .*'0.png': No such file"):
        load(Pictures(train=str(moved)), tmp_path)
    assert len(load(Pictures(train=str(moved), root=str(tmp_path)), tmp_path).train) > 0


ROW = {"image": "0.png", "caption": "a"}
BAD = {
    "no list": ({"a": 1}, "captions.json: dict where a list of rows should be"),
    "no objects": ([ROW, 1], "captions.json, row 1: int where an object should be"),
    "no rows": ([], "captions.json: no rows"),
    "no JSON": ("[{]", "captions.json: no JSON ("),
    "too deep": ("[" * 10**5, "captions.json: JSON that is nested too deep"),
    "a field twice": ('[{"image": "0.png", "image": "1.png", "caption": "a"}]', "'image' stands"),
    "images of several kinds": (
        [ROW, {"image": 1, "caption": "a"}], "captions.json, row 1, field 'image': int where the r",
    ),
    "half a letter": (
        [ROW, {"image": "0.png", "caption": "\ud800"}], "row 1, field 'caption': text that is no U",
    ),
    "a caption that is an object": (
        [{"image": "0.png", "caption": {"a": 1}}], "row 0, column 'caption': a caption is text or",
    ),
    "no caption": ([ROW, {"image": "0.png"}], "row 1, column 'caption': no caption"),
    "no captions at all": ([{"image": "0.png"}], "unknown column of"),
    "a blank caption": ([ROW, {"image": "0.png", "caption": [" "]}], "row 1, column 'caption': an"),
    "no picture": ([ROW, {"image": "no.png", "caption": "a"}], "row 1, column 'image': not a pict"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_lists_are_refused_with_file_row_and_field(
    what: str, write: Write, tmp_path: Path
) -> None:
    content, message = BAD[what]
    with pytest.raises(DataError) as refused:
        load(Pictures(train=write(content)), tmp_path)
    assert message in str(refused.value) and "captions.json" in str(refused.value)
