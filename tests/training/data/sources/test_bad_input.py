"""Every way a source can be bad: the message names file, row and column, and nothing is skipped."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.training.data.cache import DataError
from harness.training.data.corpus import content_key, load_corpus
from harness.training.settings.data import Pictures
from tests.training.data.conftest import png

Write = Callable[..., str]


def refused(data: Pictures, tmp_path: Path) -> str:
    with pytest.raises(DataError) as error:
        load_corpus(data, 8, tmp_path / "cache")
    left = [p for p in (tmp_path / "cache").glob("*") if not p.name.startswith(".")]
    assert not left, "a failed build leaves nothing"
    return str(error.value)


@pytest.mark.parametrize("cell", [b"GIF89a no", png()[:70], b"", None])
def test_pictures_that_do_not_decode(parquet: Write, tmp_path: Path, cell: Any) -> None:
    train = parquet(image=[png(), cell, png(1)], caption=["a", "b", "c"])
    said = refused(Pictures(train=train), tmp_path)
    assert f"{train}, row 1, column 'image': not a picture that can be read" in said
    assert "1 of 3 rows of train cannot be used" in said


@pytest.mark.parametrize(
    ("captions", "what"),
    [(["a", ""], "an empty caption"), (["a", "  \n"], "an empty caption"),
     (["a", None], "no caption"), ([["a"], []], "an empty list of captions"),
     ([["a"], ["b", ""]], "an empty caption"), ([["a"], [None]], "an empty caption"),
     ([["a"], None], "no caption"), ([[1], [2]], "not int"), ([1, 2], "not int")],
)  # fmt: skip
def test_captions_that_say_nothing(
    parquet: Write, tmp_path: Path, captions: list, what: str
) -> None:
    train = parquet(image=[png(), png(1)], words=captions)
    said = refused(Pictures(train=train, caption="words"), tmp_path)
    assert f"{train}, row 1, column 'words': " in said and what in said


def test_a_row_without_a_group(parquet: Write, tmp_path: Path) -> None:
    train = parquet(image=[png(), png(1)], caption=["a", "b"], thing=["x", None])
    said = refused(Pictures(train=train, group="thing"), tmp_path)
    assert f"{train}, row 1, column 'thing': no value" in said


def test_the_first_five_bad_rows_are_named_and_all_are_counted(
    parquet: Write, tmp_path: Path
) -> None:
    good = parquet("a.parquet", image=[png()] * 300, caption=["a"] * 300)
    bad = parquet("b.parquet", image=[png()] * 300, caption=["a"] * 270 + [""] * 30)
    said = refused(Pictures(train=str(Path(good).parent / "?.parquet")), tmp_path)
    assert "30 of 600 rows of train" in said and "and 25 more" in said
    assert [f"{bad}, row {row}," in said for row in range(269, 276)] == [False, *[True] * 5, False]


def test_bad_rows_of_another_source_are_found_too(parquet: Write, tmp_path: Path) -> None:
    good = parquet(image=[png(i) for i in range(3)], caption=list("abc"))
    bad = parquet("bad.parquet", image=[b"no"], caption=["a"])
    said = refused(Pictures(train=good, test=bad), tmp_path)
    assert f"1 of 1 rows of test cannot be used (rows count from 0):\n  {bad}, row 0" in said


@pytest.mark.parametrize("field", ["image", "caption", "group"])
def test_a_missing_column(parquet: Write, tmp_path: Path, field: str) -> None:
    train = parquet(pictures=[png()], captions=["a"], concept_id=["x"])
    names = {"image": "pictures", "caption": "captions", "group": "concept_id"}
    wrong = {"image": "picture", "caption": "caption", "group": "concept"}[field]
    said = refused(Pictures(train=train, **names | {field: wrong}), tmp_path)
    assert f"unknown column of {train} (setting {field}) {wrong!r}" in said
    assert f"did you mean {names[field]!r}?" in said
    assert "Known: captions, concept_id, pictures" in said


def test_zero_rows(parquet: Write, tmp_path: Path) -> None:
    import pyarrow as pa

    empty = parquet(image=pa.array([], pa.binary()), caption=pa.array([], pa.string()))
    assert f"train={empty}: no rows" in refused(Pictures(train=empty), tmp_path)


def test_paths_that_are_not_there(parquet: Write, tmp_path: Path) -> None:
    assert "train=nowhere.parquet does not exist" in refused(
        Pictures(train="nowhere.parquet"), tmp_path
    )
    assert "val=no/*.parquet matches no file" in refused(
        Pictures(train=parquet(image=[png()], caption=["a"]), val="no/*.parquet"), tmp_path
    )
    with pytest.raises(DataError, match=r"train=nowhere\.parquet does not exist"):
        content_key(Pictures(train="nowhere.parquet"), 8)


def test_files_that_are_no_parquet(tmp_path: Path, parquet: Write) -> None:
    wrong = tmp_path / "wrong.parquet"
    wrong.write_text("image,caption\n")
    assert f"{wrong} cannot be read as parquet" in refused(Pictures(train=str(wrong)), tmp_path)
    empty = tmp_path / "folder"
    empty.mkdir()
    said = refused(Pictures(train=str(empty)), tmp_path)
    assert f"not a folder saved by `datasets`; for parquet files write {empty}/*.parquet" in said


def test_a_source_that_is_no_file_is_not_opened(tmp_path: Path, parquet: Write) -> None:
    pipe = tmp_path / "pipe.parquet"
    os.mkfifo(pipe)
    for where in (str(pipe), "/dev/null", str(tmp_path / "*.parquet")):
        assert "is not a regular file; name parquet files" in refused(
            Pictures(train=where), tmp_path
        )


def test_a_file_damaged_inside(tmp_path: Path, parquet: Write) -> None:
    train = Path(parquet(image=[png(i) for i in range(50)], caption=["a"] * 50))
    content = bytearray(train.read_bytes())
    content[8:4000] = bytes(3992)  # the first page, not the index at the end
    train.write_bytes(content)
    assert f"{train} is damaged" in refused(Pictures(train=str(train)), tmp_path)


def test_a_file_that_may_not_be_read(
    tmp_path: Path, parquet: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Path(parquet(image=[png()], caption=["a"]))
    train.chmod(0)
    if os.access(train, os.R_OK):  # root may read everything
        opened = Path.open

        def denied(path: Path, *how: Any, **more: Any) -> Any:
            if path == train:
                raise PermissionError(13, "Permission denied", str(train))
            return opened(path, *how, **more)

        monkeypatch.setattr(Path, "open", denied)
    assert f"cannot read {train} (Permission denied)" in refused(
        Pictures(train=str(train)), tmp_path
    )


def test_a_dataset_that_the_hub_does_not_give(tmp_path: Path) -> None:
    said = refused(Pictures(train="hub:no/such:train"), tmp_path)  # the tests are offline
    assert "train=hub:no/such:train cannot be loaded" in said


def test_channels_are_one_or_three(parquet: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="channels=4"):
        load_corpus(Pictures(train="x"), 8, tmp_path, channels=4)
