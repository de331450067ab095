"""Folders of groups: what is read, and what is refused with file, line and field."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.training.data.cache import DataError
from harness.training.data.decoding import Square
from harness.training.data.group_files import folder_digest, read_groups, read_lines
from tests.training.data.conftest import png

SQUARE = Square(side=8, channels=3, fit="squash")
GOOD = {
    "group": "one",
    "images": ["a.png", "b.png"],
    "captions": ["red circle left of blue square", "blue square left of red circle"],
    "match": [[1, 0], [0, 1]],
    "tag": "relation",
}
ONE = {"group": "x", "images": ["a.png"], "captions": ["a b"], "match": [[1]]}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes lines, and pictures a.png to d.png, into a folder."""

    def written(*lines: object) -> Path:
        folder = tmp_path / "groups"
        (folder / "deep").mkdir(parents=True, exist_ok=True)
        for seed, name in enumerate(("a.png", "b.png", "c.png", "deep/d.png")):
            (folder / name).write_bytes(png(seed))
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (folder / "groups.jsonl").write_text("".join(f"{text}\n" for text in texts), newline="\n")
        return folder

    return written


def test_groups_come_in_with_each_picture_once(write: Write, tmp_path: Path) -> None:
    other = {**GOOD, "group": 2, "images": ["deep/d.png", "a.png"], "match": [[0, 1], [1, 0]]}
    one_sided = {**ONE, "captions": ["x", "y", "z"], "match": [[1, 1, 0]]}
    folder = write(GOOD, other, one_sided)
    groups = read_groups(str(folder), SQUARE, tmp_path / "cache")
    assert groups.images_PHWC.shape == (3, 8, 8, 3) and groups.images_PHWC.dtype == np.uint8
    assert [group.pictures for group in groups.groups] == [(0, 1), (2, 0), (0,)]
    assert [group.name for group in groups.groups] == ["one", "2", "x"]
    assert groups.groups[0].tag == "relation" and groups.groups[2].tag == ""
    assert groups.groups[1].match_kl.tolist() == [[False, True], [True, False]]
    again = read_groups(str(folder), SQUARE, tmp_path / "cache")
    assert np.array_equal(again.images_PHWC, groups.images_PHWC)
    assert len(list((tmp_path / "cache").iterdir())) == 2  # the entry and its lock


def changed(**fields: object) -> dict[str, object]:
    return {**GOOD, **fields}


BAD = {
    "a group of three captions": (
        [changed(captions=["a", "b", "c"])],
        "line 1, field 'images': 2 images and 3 captions; a group has one image, or as many",
    ),
    "a missing image": (
        [GOOD, changed(group="2", images=["a.png", "no.png"])],
        "1 of 2 groups cannot be used:\n  line 2, field 'images': 'no.png': No such file",
    ),
    "an image outside": (
        [changed(images=["a.png", "../outside.png"])],
        "line 1, field 'images': '../outside.png' lies outside",
    ),
    "an absolute path": (
        [changed(images=["a.png", "/etc/hosts"])],
        "line 1, field 'images': '/etc/hosts' lies outside",
    ),
    "a match of another shape": (
        [changed(match=[[1, 0]])],
        "line 1, field 'match': 1 rows of 2 values, where 2 images and 2 captions need 2 of 2",
    ),
    "a match with rows of another length": (
        [changed(match=[[1, 0], [1]])],
        "field 'match': 2 rows of 2 and 1 values",
    ),
    "a match that is no assignment": (
        [changed(match=[[1, 1], [0, 0]])],
        "field 'match': every image needs exactly one right caption of its own",
    ),
    "a match that is no truth": ([changed(match=[[2, 0], [0, 1]])], "line 1, field match.0.0: "),
    "equal captions": (
        [changed(captions=["a  B", "A b"])],
        "line 1, field 'captions': two of them are equal but for case and spacing",
    ),
    "one image twice": ([changed(images=["a.png", "a.png"])], "field 'images': the same image"),
    "no negative": (
        [{**ONE, "captions": ["x", "y"], "match": [[1, 1]]}],
        "line 1, field 'match': no caption is wrong, so there is no negative to tell apart",
    ),
    "no positive": (
        [{**ONE, "captions": ["x", "y"], "match": [[0, 0]]}],
        "line 1, field 'match': no caption is right",
    ),
    "a set of right statements": (
        [ONE, {**ONE, "group": "y"}],
        "field 'match': every group of one caption is right, so there is no negative",
    ),
    "a set of wrong statements": (
        [{**ONE, "match": [[0]]}],
        "every group of one caption is wrong, so there is no positive",
    ),
    "a group twice": (
        [GOOD, GOOD],
        "line 2, field 'group': 'one' stands in line 1 already",
    ),
    "a field misspelt": (
        [{**GOOD, "caption": []}],
        "line 1, unknown field of GroupLine 'caption'; did you mean 'captions'?",
    ),
    "a field missing": ([{"group": "x"}], "line 1, field images: "),
    "an empty caption": ([changed(captions=["", "b"])], "line 1, field captions.0: "),
    "no JSON": (["{"], "line 1, no JSON ("),
    "no object": (["[1]"], "line 1, list where an object with 'group' should be"),
    "no group": ([], "no groups"),
    "too many captions": (
        [{**ONE, "captions": list("abcdefghi"), "match": [[1] + [0] * 8]}],
        "line 1, field captions: ",
    ),
    "a blank caption": ([changed(captions=[" ", "b"])], "line 1, field 'captions': one of them is"),
    "one image by two paths": (
        [changed(images=["a.png", "./a.png"])],
        "line 1, field 'images': the same image twice",
    ),
    "JSON that is too deep": (["", "[" * 10**5], "1 of 1 groups cannot be used:\n  line 2, JSON"),
    "a tag without a name": ([changed(tag="颜色")], "line 1, field 'tag': '颜色' has no letter"),
    "two tags of one name": (
        [changed(tag="form-a"), changed(group="2", tag="form a")],
        "line 2, field 'tag': 'form a' and 'form-a' (line 1) both have scores called 'form_a'",
    ),
    "a tag that is too long": ([changed(tag="x" * 101)], "line 1, field tag: "),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_groups_are_refused_with_file_line_and_field(what: str, write: Write) -> None:
    lines, message = BAD[what]
    folder = write(*lines)
    with pytest.raises(DataError, match=re.escape(message)) as refused:
        folder_digest(str(folder))
    assert str(refused.value).startswith(f"{folder}/groups.jsonl")


def test_many_bad_lines_are_counted(write: Write) -> None:
    folder = write(*(changed(group=str(n), images=["a.png", "no.png"]) for n in range(8)))
    with pytest.raises(DataError, match="8 of 8 groups cannot be used") as refused:
        folder_digest(str(folder))
    assert str(refused.value).endswith("and 3 more") and "line 5" in str(refused.value)


def test_a_picture_that_is_none_is_named_before_anything_is_kept(
    write: Write, tmp_path: Path
) -> None:
    folder = write(GOOD, changed(group="2", images=["c.png", "b.png"]))
    (folder / "c.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"line 2, field 'images': 'c.png' is not a picture"):
        read_groups(str(folder), SQUARE, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_only_line_feeds_end_a_line(start: str, write: Write) -> None:
    captions = ["a\u2028b", "c\x85d"]
    raw = json.dumps(changed(captions=captions), ensure_ascii=False)
    folder = write(f"{start}{raw}\r", " ", raw.replace('"one"', '"two"'))
    lines = read_lines(folder)
    assert [list(line.captions) for line in lines] == [captions] * 2


def test_pictures_of_a_group_that_look_alike_are_refused(write: Write, tmp_path: Path) -> None:
    folder = write(GOOD, changed(group="2", images=["c.png", "b.png"]))
    shutil.copy(folder / "b.png", folder / "c.png")
    with pytest.raises(DataError, match=r"line 2, field 'images': two of them show the same pic"):
        read_groups(str(folder), SQUARE, tmp_path / "cache")


def test_a_picture_outside_belongs_into_the_folder(write: Write) -> None:
    folder = write(changed(images=["a.png", "../outside.png"]))
    with pytest.raises(DataError, match=r"lies outside .*; put it into the folder"):
        folder_digest(str(folder))


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"groups.jsonl cannot be read .*fuselab convert"):
        folder_digest(str(tmp_path / "nowhere"))


def test_a_link_that_leads_outside_is_refused(write: Write, tmp_path: Path) -> None:
    folder = write(GOOD)
    (tmp_path / "outside.png").write_bytes(png(1))
    (folder / "b.png").unlink()
    (folder / "b.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(DataError, match=r"line 1, field 'images': 'b.png' lies outside"):
        folder_digest(str(folder))


def test_the_digest_is_of_the_content_and_not_of_the_place(write: Write, tmp_path: Path) -> None:
    folder = write(GOOD)
    before = folder_digest(str(folder))
    moved = folder.rename(tmp_path / "elsewhere")
    assert folder_digest(str(moved)) == before
    (moved / "c.png").write_bytes(b"named by no group")
    assert folder_digest(str(moved)) == before
    (moved / "a.png").write_bytes(png(9))
    assert folder_digest(str(moved)) != before
