"""Columns of every type, and texts and groups that are not what they seem."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from harness.training.data.cache import DataError
from harness.training.data.corpus import Corpus, content_key, load_corpus
from harness.training.data.sources.cells import group_name
from harness.training.settings.data import Pictures
from tests.training.data.conftest import png

Write = Callable[..., str]


def load(tmp_path: Path, **fields: Any) -> Corpus:
    return load_corpus(Pictures(**fields), 8, tmp_path / "cache")


def refused(tmp_path: Path, **fields: Any) -> str:
    with pytest.raises(DataError) as error:
        load(tmp_path, **fields)
    return str(error.value)


PATHS = {
    "text": pa.array([f"{i}.png" for i in range(4)]),
    "large text": pa.array([f"{i}.png" for i in range(4)], pa.large_string()),
    "a view": pa.array([f"{i}.png" for i in range(4)], pa.string_view()),
    "a dictionary": pa.array([f"{i}.png" for i in range(4)]).dictionary_encode(),
    "records": pa.array([{"bytes": None, "path": f"{i}.png"} for i in range(4)],
                        pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
}  # fmt: skip


@pytest.mark.parametrize("column", PATHS.values(), ids=PATHS)
def test_a_replaced_picture_is_noticed_whatever_the_column_is(
    parquet: Write, tmp_path: Path, column: pa.Array
) -> None:
    """In one process, of the same size and time."""
    import os

    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    train = parquet(image=column, caption=list("abcd"))
    data = Pictures(train=train, val_share=0.25, test_share=0.25)
    before, corpus = content_key(data, 8), load_corpus(data, 8, tmp_path / "cache")
    replaced, state = tmp_path / "2.png", (tmp_path / "2.png").stat()
    content = png(2).replace(png(2)[-30:-16], bytes(14))  # the same size, damaged: refused
    assert len(content) == state.st_size
    replaced.write_bytes(content)
    os.utime(replaced, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert content_key(data, 8) != before
    with pytest.raises(DataError, match="row 2, column 'image'"):
        load_corpus(data, 8, tmp_path / "cache")
    replaced.write_bytes(png(2))
    os.utime(replaced, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert load_corpus(data, 8, tmp_path / "cache").content == corpus.content


def test_numbers_are_one_thing_by_value() -> None:
    assert group_name(1) == group_name(1.0) == group_name(Decimal("1.00")) == "group 1"
    assert group_name(0.5) == group_name(Decimal("0.50"))
    assert group_name([1, 2.0]) == group_name([1.0, 2]) != group_name([1, 2.5])
    assert group_name("a") == "group a"
    assert group_name(2**53 + 1) != group_name(2**53)
    for nothing in (None, float("nan"), [1, float("nan")], {"a": None}):
        assert group_name(nothing) == ""
    assert group_name(float("inf")) != ""


def test_groups_written_as_whole_and_as_broken_numbers_are_held_against_each_other(
    parquet: Write, tmp_path: Path
) -> None:
    rows = {"image": [png(i) for i in range(6)], "caption": list("abcdef")}
    train = parquet(**rows, thing=pa.array(range(6), pa.int64()))
    other = {"image": [png(i + 9) for i in range(6)], "caption": list("ghijkl")}
    test = parquet("test.parquet", **other, thing=pa.array(range(6), pa.float64()))
    corpus = load(tmp_path, train=train, val=test, test=test, group="thing")
    assert "6 of 6 test pictures share a group with train" in corpus.notes


def test_numbers_in_one_table_and_text_in_another_are_refused(
    parquet: Write, tmp_path: Path
) -> None:
    rows = {"image": [png(i) for i in range(3)], "caption": list("abc")}
    train = parquet(**rows, thing=[1, 2, 3])
    test = parquet("test.parquet", **rows, thing=["1", "2", "3"])
    message = refused(tmp_path, train=train, val=test, test=test, group="thing")
    assert "'thing' holds numbers in train and text in" in message and "alike" in message


def test_nan_is_no_group(parquet: Write, tmp_path: Path) -> None:
    train = parquet(image=[png(), png(1)], caption=["a", "b"], thing=[1.0, float("nan")])
    message = refused(tmp_path, train=train, group="thing")
    assert f"{train}, row 1, column 'thing': no value" in message


@pytest.mark.parametrize("column", ["image", "caption", "thing"])
def test_text_that_is_not_utf8_names_its_row(parquet: Write, tmp_path: Path, column: str) -> None:
    latin = pa.Array.from_buffers(
        pa.string(), 2, pa.array([b"a.png", b"abc\xe9"], pa.binary()).buffers()
    )
    columns = {"image": [png(), png(1)], "caption": ["a", "b"], "thing": ["x", "y"]}
    train = parquet(**columns | {column: latin})
    if column == "image":
        (tmp_path / "a.png").write_bytes(png())
    message = refused(tmp_path, train=train, group="thing")
    assert f"{train}, row 1, column {column!r}" in message
    assert "not UTF-8 (byte 0xe9 at place 3)" in message


@pytest.mark.parametrize("field", ["image", "caption", "group"])
def test_two_columns_of_one_name(tmp_path: Path, field: str) -> None:
    import pyarrow.parquet as pq

    names = {"image": "image", "caption": "caption", "group": "thing"}
    arrays = [pa.array([png()]), pa.array(["a"]), pa.array(["x"]), pa.array(["y"])]
    path = tmp_path / "t.parquet"
    table = pa.Table.from_arrays(arrays, names=[*names.values(), names[field]])
    pq.write_table(table, path)
    message = refused(tmp_path, train=str(path), group="thing")
    assert f"{path} has two columns {names[field]!r} (setting {field}); rename one" in message


@pytest.mark.parametrize("caption", ["\u200b", " \u200b\u2060\ufeff ", "\u0301", "\x07"])
def test_captions_of_nothing_that_is_seen_are_empty(
    parquet: Write, tmp_path: Path, caption: str
) -> None:
    train = parquet(image=[png(), png(1)], caption=["a", caption])
    message = refused(tmp_path, train=train)
    assert f"{train}, row 1, column 'caption': an empty caption" in message


@pytest.mark.parametrize("folder", ["[2024] set", "what?", "*", "a [b]/[c-d]"])
def test_a_path_that_exists_is_no_pattern(tmp_path: Path, folder: str) -> None:
    import pyarrow.parquet as pq

    place = tmp_path / folder
    place.mkdir(parents=True)
    for i in (0, 1):
        rows = {"image": [png(10 * i + j) for j in range(3)], "caption": list("abc")}
        pq.write_table(pa.table(rows), place / f"{i}.parquet")
    one = str(place / "0.parquet")
    assert len(load(tmp_path, train=one, val=one, test=one).train) == 3
    assert len(load(tmp_path, train=f"{place}/*.parquet", val=one, test=one).train) == 6


@pytest.mark.parametrize("where", ["~nobody-of-this-name/x.parquet", "x" * 5000, "a\0b"])
def test_what_is_no_path_at_all(tmp_path: Path, where: str) -> None:
    assert "train=" in refused(tmp_path, train=where)


def test_pictures_elsewhere_need_their_folder_named(parquet: Write, tmp_path: Path) -> None:
    table, pictures = tmp_path / "tables", tmp_path / "pictures"
    table.mkdir()
    pictures.mkdir()
    for i in range(4):
        (pictures / f"{i}.png").write_bytes(png(i))
    train = parquet("tables/t.parquet", image=[f"{i}.png" for i in range(4)], caption=list("abcd"))
    shares = {"val_share": 0.25, "test_share": 0.25}
    assert "No such file" in refused(tmp_path, train=train, **shares)
    corpus = load(tmp_path, train=train, root=str(pictures), **shares)
    assert len(corpus.train) == 2
    key = content_key(Pictures(train=train, root=str(pictures), **shares), 8)
    moved = tmp_path / "moved"
    pictures.rename(moved)
    assert content_key(Pictures(train=train, root=str(moved), **shares), 8) == key
    message = refused(tmp_path, train=train, root=str(pictures), **shares)
    assert f"data.root={pictures} is not a folder" in message


def test_a_saved_folder_is_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    cells = [{"bytes": png(i), "path": None} for i in range(4)]
    saved = datasets.Dataset.from_dict({"image": cells, "caption": list("abcd")})
    saved = saved.cast_column("image", datasets.Image())
    saved.save_to_disk(tmp_path / "saved")
    data = Pictures(train=str(tmp_path / "saved"), val_share=0.25, test_share=0.25)
    before = content_key(data, 8)
    opened = datasets.load_from_disk(str(tmp_path / "saved"))
    opened.filter(lambda row: row["caption"] != "a")  # leaves a file in the folder
    assert len(list((tmp_path / "saved").glob("*.arrow"))) > 1
    assert content_key(data, 8) == before
    kept = saved.filter(lambda row: row["caption"] != "a")
    kept.save_to_disk(tmp_path / "kept")
    assert content_key(data.with_field("train", str(tmp_path / "kept")), 8) != before


@pytest.mark.parametrize(
    "state",
    ["[]", "{}", "[", '{"_data_files": [{"filename": "../x.arrow"}]}',
     '{"_data_files": [{"filename": 3}]}', '{"_data_files": 3}',
     '{"_data_files": [{"filename": "none.arrow"}]}'],
)  # fmt: skip
def test_a_saved_folder_that_names_no_file_of_its_own(tmp_path: Path, state: str) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "state.json").write_text(state)
    assert str(folder) in refused(tmp_path, train=str(folder))
