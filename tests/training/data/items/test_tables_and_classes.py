"""Sentences in columns and pictures by class: what is read, and what is refused."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from architectures.frozen import SettingError, checked
from harness.training.data.cache import DataError
from harness.training.data.items.listed import item_folder_digest
from harness.training.settings.tasks import ImageProbe, Sentences
from tests.training.data.conftest import png
from tests.training.data.items.conftest import Write, opened

SST = ["sentence\tlabel", *(f'it\'s {number} "good"\t{number % 2}' for number in range(20))]
COLA = [f"gj04\t{number % 2}\t*\tsentence {number}" for number in range(20)]
MRPC = ["Quality\t#1 ID\tone\ttwo", *(f"{n % 2}\t{n}\tfirst {n}\tsecond {n}" for n in range(20))]


def test_columns_by_name_with_quotes_as_letters(write: Write) -> None:
    folder = write(".tsv", train=SST, dev=SST[:5], test=[SST[0], 'a "quote\t1\r'])
    sets = opened(Sentences(source=str(folder)))
    assert sets.test.texts == ('a "quote',) and sets.test.labels == ("1",)
    assert len(sets.val) == 4 and sets.labels == ("0", "1")
    assert sets.train.picture_NI.shape == (20, 0) and sets.train.texts[0] == 'it\'s 0 "good"'


@pytest.mark.parametrize("text", [(), ("a", "b", "c"), ("label",), ("sentence", "label")])
def test_a_label_is_not_read_and_one_or_two_texts_are(text: tuple[str, ...]) -> None:
    with pytest.raises(SettingError, match="text"):
        checked(Sentences, {"text": text})


def test_a_file_without_a_header_has_numbered_columns(write: Write) -> None:
    folder = write(".tsv", train=COLA, dev=COLA[:6])
    sets = opened(Sentences(source=str(folder), text=("3",), column="1", split="val"))
    assert sets.test.texts[5] == "sentence 5" and sets.test.labels[:2] == ("0", "1")
    assert len(sets.train) == 20


def test_of_two_texts_the_second_stands_behind(write: Write) -> None:
    folder = write(".tsv", train=MRPC, dev=MRPC)
    task = Sentences(source=str(folder), text=("one", "two"), column="Quality", split="val")
    assert opened(task).train.texts[3] == "first 3 [SEP] second 3"


def test_the_same_sentence_is_not_held_out_and_trained_on(write: Write) -> None:
    lines = ["sentence\tlabel", *(f"s {n // 2}\t{n % 2}" for n in range(40))]
    sets = opened(Sentences(source=str(write(".tsv", train=lines)), split="val", val_share=0.25))
    assert len(sets.val) == 10 and not set(sets.val.texts) & set(sets.train.texts)


BAD_TABLES: dict[str, tuple[list[str], str]] = {
    "unequal lengths": ([SST[0], "a\t1", "b"], "line 3, 1 columns, where the first line has 2"),
    "a blank text": ([SST[0], " \t1"], "line 2, column 'sentence': must not be blank"),
    "a blank label": ([SST[0], "a\t"], "line 2, column 'label': must not be blank"),
    "another label": ([SST[0], "a\t2"], "line 2, column 'label': '2' is no label of train.tsv"),
    "a column misspelt": (
        ["sentences\tlabel", "a\t1"], "unknown column of",
    ),
    "two columns of one name": (["sentence\tlabel\tlabel", "a\t1\t1"], "has two columns 'label'"),
    "no line": ([SST[0]], "test.tsv: no lines"),
    "no UTF-8": ([SST[0], "\udcff\t1"], "line 2, not UTF-8; write the file anew"),
    "no label, as GLUE's": (["index\tsentence", "0\ta"], "'label'; "),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_TABLES)
def test_bad_tables_are_refused_with_file_line_and_column(what: str, write: Write) -> None:
    lines, message = BAD_TABLES[what]
    folder = write(".tsv", train=SST, dev=SST, test=lines)
    with pytest.raises(SettingError, match=re.escape(message)) as refused:
        opened(Sentences(source=str(folder)))
    assert str(folder / "test.tsv") in str(refused.value)


def test_the_digest_of_a_table_is_that_of_its_files(write: Write, tmp_path: Path) -> None:
    folder = write(".tsv", train=SST, dev=SST)
    before = item_folder_digest(Sentences(source=str(folder), split="val"))
    moved = folder.rename(tmp_path / "elsewhere")
    task = Sentences(source=str(moved), split="val")
    assert item_folder_digest(task) == before
    (moved / "dev.tsv").write_text("\n".join(SST[:7]))
    assert item_folder_digest(task) != before


@pytest.fixture
def classes(tmp_path: Path) -> Callable[..., Path]:
    """Writes pictures by class: `classes({"train/cat": 3})`."""

    def written(counts: dict[str, int]) -> Path:
        for place, (name, count) in enumerate(counts.items()):
            (tmp_path / "probe" / name).mkdir(parents=True)
            for number in range(count):
                path = tmp_path / "probe" / name / f"{number}.png"
                path.write_bytes(png(100 * place + number))
        return tmp_path / "probe"

    return written


def test_pictures_by_class(classes: Callable[..., Path]) -> None:
    folder = classes({"train/cat": 2, "train/dog/deep": 3, "val/dog": 1, "test/cat": 2})
    (folder / "train" / "cat" / ".DS_Store").write_bytes(b"hidden")
    (folder / "train" / "README").write_bytes(b"beside")
    for stray in ("Thumbs.db", "README", "notes.txt", "labels.json"):
        (folder / "train" / "cat" / stray).write_bytes(b"no picture")
    (folder / "test" / "cat" / "1.png").rename(folder / "test" / "cat" / "1.PNG")
    sets = opened(ImageProbe(source=str(folder)))
    assert sets.train.labels == ("cat", "cat", "dog", "dog", "dog") and not len(sets.val)
    assert sets.test.labels == ("cat", "cat") and sets.train.texts == ()
    assert sets.train.picture_NI.tolist() == [[0], [1], [2], [3], [4]]
    assert opened(ImageProbe(source=str(folder), split="val")).test.labels == ("dog",)


def test_classes_that_cannot_be_read(classes: Callable[..., Path]) -> None:
    folder = classes({"train/cat": 2, "train/dog": 2, "val/cow": 1})
    with pytest.raises(DataError, match=r"test does not exist; set the task's split to 'val'"):
        opened(ImageProbe(source=str(folder)))
    with pytest.raises(DataError, match=r"val: 1 of 1 items .*\n  cow/0.png, folder: 'cow' is no"):
        opened(ImageProbe(source=str(folder), split="val"))
    (folder / "val" / "cow").rename(folder / "val" / "cat")
    (folder / "train" / "cat" / "notes.png").write_text("no picture")
    with pytest.raises(DataError, match=r"cat/notes.png: .* is not a picture that can be read"):
        opened(ImageProbe(source=str(folder), split="val"))
    (folder / "train" / "empty").mkdir()
    (folder / "train" / "empty" / "0.txt").write_text("no picture")
    with pytest.raises(DataError, match=r"train/empty has no picture .*ends as .png"):
        opened(ImageProbe(source=str(folder), split="val"))


def test_the_digest_of_classes_is_of_names_and_pictures(classes: Callable[..., Path]) -> None:
    folder = classes({"train/cat": 2, "train/dog": 2, "test/cat": 1})
    task = ImageProbe(source=str(folder))
    before = item_folder_digest(task)
    moved = folder.rename(folder.with_name("elsewhere"))
    task = ImageProbe(source=str(moved))
    assert item_folder_digest(task) == before
    (moved / "train" / "cat").rename(moved / "train" / "cow")
    assert item_folder_digest(task) != before
    (moved / "train" / "cow").rename(moved / "train" / "cat")
    (moved / "train" / "cat" / "0.png").write_bytes(png(77))
    assert item_folder_digest(task) != before
