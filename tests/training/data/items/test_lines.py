"""Folders of lines: what is read, and what is refused with file, line and field."""

import json
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from architectures.frozen import SettingError
from harness.planning.task_notes import _memorised
from harness.training.data.cache import DataError
from harness.training.data.items.items import also_learnt
from harness.training.data.items.listed import ItemTask, item_folder_digest, listed_of
from harness.training.settings.task import FineTune
from harness.training.settings.tasks import NLVR2, VQA, Entailment, Grounding
from tests.training.data.conftest import png
from tests.training.data.items.conftest import Write, opened

LABELS = ("entailment", "neutral", "contradiction")


def claim(number: int, **fields: object) -> dict[str, object]:
    image, label = f"{number % 10}.png", LABELS[number % 3]
    return {"image": image, "sentence": f"claim {number}", "label": label, **fields}


def question(number: int, **fields: object) -> dict[str, object]:
    answers = ["Yes ", "yes", "no"] if number % 2 else {"red": 2, "blue": 1}
    return {"image": f"{number % 10}.png", "question": f"q {number}", "answers": answers, **fields}


def pair(number: int, **fields: object) -> dict[str, object]:
    images = [f"{number % 10}.png", f"{(number + 1) % 10}.png"]
    return {"images": images, "sentence": f"s {number}", "label": number % 2 == 0, **fields}


def thing(number: int, **fields: object) -> dict[str, object]:
    box = [1, 2, 5.5, 8]
    return {"image": f"{number % 10}.png", "expression": "the cat", "box": box, **fields}


MAKERS = {"entailment": (Entailment, claim), "vqa": (VQA, question), "nlvr2": (NLVR2, pair),
          "grounding": (Grounding, thing)}  # fmt: skip


def task_of(name: str, folder: Path, **fields: object) -> ItemTask:
    return MAKERS[name][0](source=str(folder), **fields)


def test_claims_come_in_with_each_picture_once(write: Write) -> None:
    lines = [claim(number) for number in range(30)]
    folder = write(train=lines, val=lines[:6], test=lines[6:15])
    (folder / "copy.png").write_bytes((folder / "3.png").read_bytes())
    lines[0]["image"] = "./copy.png"
    write(train=lines)
    sets = opened(Entailment(source=str(folder)))
    assert (len(sets.train), len(sets.val), len(sets.test)) == (30, 6, 9)
    assert sets.labels == ("contradiction", "neutral", "entailment")
    assert sets.train.images_PHWC.shape == (10, 8, 8, 3)
    assert sets.train.picture_NI[0] == sets.train.picture_NI[3]
    assert sets.train.texts[4] == "claim 4" and sets.test.labels[0] == "entailment"
    assert opened(Entailment(source=str(folder), split="val")).test.texts == sets.val.texts


def test_a_label_in_another_case_is_no_label_of_its_own(write: Write) -> None:
    lines = [claim(number) for number in range(30)]
    lines[4]["label"] = "Neutral"
    folder = write(train=lines, val=lines[:3], test=lines[:3])
    where = r"train\.jsonl: 1 of 30 .*\n  line 5, field 'label': 'Neutral' is 'neutral' elsewhere"
    with pytest.raises(DataError, match=where):
        opened(Entailment(source=str(folder)))


@pytest.mark.parametrize("with_val", [True, False])
@pytest.mark.parametrize("name", MAKERS)
def test_what_is_learnt_does_not_hang_on_what_is_scored(
    name: str, with_val: bool, write: Write
) -> None:
    lines = [MAKERS[name][1](number) for number in range(40)]
    for line in lines[1::2] if name == "nlvr2" else ():  # else all hang together by their pictures
        line["images"] = ["1.png", "2.png"]
    for line in lines[::2] if name == "nlvr2" else ():
        line["images"] = ["3.png", "4.png"]
    val = {"val": lines[:6]} if with_val else {}
    folder = write(train=lines, test=lines[6:15], **val)
    one, other = (
        opened(task_of(name, folder, split=split, finetune=FineTune())) for split in ("test", "val")
    )
    assert one.train.texts == other.train.texts and one.val.texts == other.val.texts
    assert (len(one.train) == 40) == with_val and len(other.test) == len(one.val)


def test_the_same_pixels_in_another_file_are_one_picture(write: Write) -> None:
    folder = write(train=[claim(0), claim(1, image="other.bmp")], val=[claim(0)], test=[claim(1)])
    Image.open(folder / "0.png").save(folder / "other.bmp")
    sets = opened(Entailment(source=str(folder)))
    assert sets.train.picture_NI[0] == sets.train.picture_NI[1] != sets.test.picture_NI[0]


def test_questions_have_shares_of_people(write: Write) -> None:
    folder = write(train=[question(number) for number in range(20)], test=[question(1)])
    sets = opened(VQA(source=str(folder)))
    assert sets.test.answers == ((("yes", 2 / 3), ("no", 1 / 3)),)
    assert sets.test.labels == ("yes",) and "red" in sets.train.labels


def test_pairs_have_several_pictures(write: Write) -> None:
    lines = [pair(number, label="True" if number % 2 else 0) for number in range(6)]
    sets = opened(NLVR2(source=str(write(train=lines, val=lines, test=[pair(3)]))))
    assert sets.test.picture_NI.tolist() == [[3, 4]] and sets.labels == ("false", "true")
    assert sets.test.labels == ("false",) and sets.train.labels[:2] == ("false", "true")


def test_boxes_are_shares_of_the_square(write: Write) -> None:
    folder = write(test=[thing(0, proposals=[[0, 0, 12, 8], [-0.5, 0, 6, 8.5]])])
    sets = opened(Grounding(source=str(folder)))
    assert sets.test.box == ((1 / 12, 2 / 8, 5.5 / 12, 1.0),)
    assert sets.test.proposals == (((0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.5, 1.0)),)
    assert not len(sets.train) and not len(sets.val)


@pytest.mark.parametrize("name", ["entailment", "vqa"])
def test_validation_is_held_out_by_picture(name: str, write: Write) -> None:
    folder = write(train=[MAKERS[name][1](number) for number in range(100)])
    measure = FineTune().with_field("measure.items", 1000)
    sets = opened(task_of(name, folder, split="val", val_share=0.3, finetune=measure))
    assert len(sets.train) == 70 and len(sets.val) == 30 and sets.test.texts == sets.val.texts
    assert not set(sets.train.picture_NI.ravel()) & set(sets.val.picture_NI.ravel())
    again = opened(task_of(name, folder, split="val", val_share=0.3, finetune=measure))
    assert again.val.texts == sets.val.texts and again.content == sets.content


def test_chains_of_pictures_stay_together(write: Write) -> None:
    lines = [pair(n, images=[f"{n // 2}.png", f"{n // 2 + 5}.png"]) for n in range(10)]
    sets = opened(NLVR2(source=str(write(train=lines)), split="val", val_share=0.2))
    assert len(sets.val) == 2 and len(sets.train) == 8
    assert not set(sets.train.picture_NI.ravel()) & set(sets.val.picture_NI.ravel())


def test_curves_are_measured_on_few_items_and_all_are_scored(write: Write) -> None:
    lines = [claim(number) for number in range(40)]
    task = Entailment(source=str(write(train=lines, val=lines)), split="val")
    few = task.with_field("finetune.measure.items", 8)
    assert len(opened(few).val) == 8 and len(opened(few).test) == 40


GOOD = {name: [maker(number) for number in range(6)] for name, (_, maker) in MAKERS.items()}
BAD = {
    "a label that training has not": (
        "entailment", claim(0, label="maybe"),
        "line 1, field 'label': 'maybe' is no label of train.jsonl, which has contradiction, ",
    ),
    "no answers": ("vqa", question(0, answers=[]), "line 1, field answers: a question needs at l"),
    "no weights": ("vqa", question(0, answers={}), "line 1, field answers: a question needs at l"),
    "answers of one text": ("vqa", question(0, answers="yes"), "field answers: must be a list of"),
    "an answer that is a number": ("vqa", question(0, answers=[1]), "an answer is text, not int"),
    "a blank answer": ("vqa", question(0, answers=["a", " "]), "an answer must not be blank"),
    "a weight of nothing": ("vqa", question(0, answers={"a": 0}), "the weight of 'a' is 0; it mu"),
    "a weight that is none": ("vqa", question(0, answers={"a": None}), "weight of 'a' is no numb"),
    "a weight that is not finite": (
        "vqa", json.dumps(question(0, answers={"a": float("nan")})), "the weight of 'a' is nan; it",
    ),
    "answers that nobody gave in training": (
        "vqa", question(0, answers=["never"]),
        "no answer of test is among the 4 most common ones of train.jsonl (setting answers)",
    ),
    "a pair of one picture": (
        "nlvr2", pair(0, images=["0.png"]), "line 1, field images: must have at least 2 items",
    ),
    "a label that is no truth": ("nlvr2", pair(0, label="maybe"), "field label: must be true or"),
    "a box outside": (
        "grounding", thing(0, box=[1, 2, 13, 8]),
        "line 1, field 'box': the box (1, 2, 13, 8) lies outside its picture of 12 x 8 pixels",
    ),
    "a box that begins outside": ("grounding", thing(0, box=[-1, 2, 3, 8]), "lies outside its pic"),
    "a box beyond": ("grounding", thing(0, box=[12, 2, 12.5, 8]), "lies outside its picture of"),
    "a box without area": ("grounding", thing(0, box=[5, 2, 5, 8]), "field box: has no area"),
    "a box of three edges": ("grounding", thing(0, box=[1, 2, 3]), "line 1, field box.3: is need"),
    "a box of text": ("grounding", thing(0, box=["1", 2, 3, 4]), "field box.0: must be a number"),
    "a proposal outside": (
        "grounding", thing(0, proposals=[[0, 0, 4, 99]]), "line 1, field 'proposals': the box (0",
    ),
    "a picture that is not there": (
        "entailment", claim(0, image="no.png"), "line 1, field 'image': 'no.png': No such file",
    ),
    "a picture outside": (
        "nlvr2", pair(0, images=["0.png", "../x.png"]), "line 1, field 'images': '../x.png' lies",
    ),
    "a blank sentence": ("entailment", claim(0, sentence="\u200b "), "sentence: must not be blan"),
    "no sentence": ("entailment", {"image": "0.png", "label": "neutral"}, "field sentence: is nee"),
    "a sentence that is a list": ("entailment", claim(0, sentence=["a"]), "sentence: must be tex"),
    "a field misspelt": (
        "vqa", question(0, answer="x"),
        "line 1, unknown field of QuestionLine 'answer'; did you mean 'answers'?",
    ),
    "a field twice": (
        "entailment", json.dumps(claim(0))[:-1] + ', "label": "neutral"}',
        "line 1, field 'label' stands twice; keep one of them",
    ),
    "half a letter": ("entailment", json.dumps(claim(0, sentence="a\ud800")), "written as UTF-8"),
    "no UTF-8": ("entailment", "\udcff", "line 1, not UTF-8; write the file anew"),
    "no JSON": ("entailment", "{", "line 1, no JSON ("),
    "no object": ("vqa", "[1]", "line 1, list where an object with 'question' should be"),
    "JSON that is too deep": ("nlvr2", "[" * 10**5, "line 1, JSON that is nested too deep"),
    "a number of many digits": ("grounding", "1" * 5000, "line 1, "),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_lines_are_refused_with_file_line_and_field(what: str, write: Write) -> None:
    name, line, message = BAD[what]
    folder = write(train=GOOD[name], val=GOOD[name], test=[line])
    with pytest.raises(SettingError, match=re.escape(message)) as refused:
        opened(task_of(name, folder))
    assert str(refused.value).startswith(str(folder))


def test_a_picture_that_is_none_is_named_where_it_stands(write: Write) -> None:
    folder = write(train=GOOD["entailment"], test=[claim(7), claim(8)])
    (folder / "8.png").write_bytes(b"no picture")
    with pytest.raises(
        DataError, match=r"test.jsonl: 1 of 2 items .*\n  line 2, field 'image': '8.png' is not a"
    ):
        opened(Entailment(source=str(folder)))
    assert not list((folder.parent / "cache").glob("[!.]*")), "nothing half-written stays"


def test_many_bad_lines_are_counted(write: Write) -> None:
    folder = write(train=[claim(n, sentence="") for n in range(8)], test=[claim(0)])
    with pytest.raises(DataError, match="8 of 8 items cannot be used") as refused:
        opened(Entailment(source=str(folder)))
    assert str(refused.value).endswith("and 3 more") and "line 5" in str(refused.value)


def test_all_items_have_equally_many_pictures(write: Write) -> None:
    three = pair(1, images=["0.png", "1.png", "2.png"])
    folder = write(train=[pair(0), three], test=[pair(0)])
    with pytest.raises(DataError, match=r"line 2, field 'images': 3 images, where the lines"):
        opened(NLVR2(source=str(folder)))
    folder = write(train=[pair(0), pair(1)], val=[pair(0)], test=[three])
    with pytest.raises(DataError, match=r"test.jsonl: items of 3 images, where train.jsonl has 2"):
        opened(NLVR2(source=str(folder)))


@pytest.mark.parametrize("name", MAKERS)
def test_a_split_that_is_not_there_says_what_to_set(name: str, write: Write) -> None:
    folder = write(val=GOOD[name], **({} if name == "grounding" else {"train": GOOD[name]}))
    with pytest.raises(DataError, match=r"test.jsonl does not exist; set the task's split to 'val"):
        opened(task_of(name, folder))
    assert len(opened(task_of(name, folder, split="val")).test) == 6
    with pytest.raises(DataError, match="is not a folder"):
        opened(task_of(name, folder / "nowhere"))


def test_one_label_alone_cannot_be_learnt(write: Write) -> None:
    lines = [claim(n, label="neutral") for n in range(4)]
    with pytest.raises(DataError, match=r"every item has the field 'label' 'neutral'; two are ne"):
        opened(Entailment(source=str(write(train=lines, test=lines))))


def test_the_digest_is_of_the_content_and_not_of_the_place(write: Write, tmp_path: Path) -> None:
    folder = write(train=GOOD["vqa"], test=[question(1)])
    before = item_folder_digest(VQA(source=str(folder)))
    moved = folder.rename(tmp_path / "elsewhere")
    task = VQA(source=str(moved))
    assert item_folder_digest(task) == before
    content = opened(task).content
    (moved / "9.png").write_bytes(b"named by no line")
    assert item_folder_digest(task) == before and opened(task).content == content
    (moved / "1.png").write_bytes(png(99))
    assert item_folder_digest(task) != before and opened(task).content != content
    shutil.copy(moved / "2.png", moved / "1.png")
    changed = item_folder_digest(task)
    (moved / "test.jsonl").write_text(json.dumps(question(3)))
    assert item_folder_digest(task) != changed


def test_another_split_of_a_folder_has_the_same_digest(write: Write) -> None:
    unlabelled = {"image": "1.png", "sentence": "a test that nobody has labelled"}
    folder = write(train=GOOD["entailment"], val=GOOD["entailment"], test=[claim(1)])
    tasks = [Entailment(source=str(folder), split=split) for split in ("val", "test")]
    val, test = map(item_folder_digest, tasks)
    assert val == test
    write(test=[unlabelled, "{", claim(1, image="no.png")])
    assert item_folder_digest(tasks[0]) != val and len(opened(tasks[0]).test) == 6


@pytest.mark.parametrize("name", MAKERS)
def test_damaged_lines_are_refused_in_words(name: str, write: Write) -> None:
    folder = write(train=GOOD[name], val=GOOD[name])
    good = json.dumps(GOOD[name][0]).encode()
    json_values = st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3),
    )
    task = task_of(name, folder)

    @settings(
        max_examples=60, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def check(data: st.DataObject) -> None:
        line = bytearray(good)
        if data.draw(st.booleans()):
            fields = dict(GOOD[name][0])
            fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(json_values)
            line = bytearray(json.dumps(fields).encode())
        else:
            for _ in range(data.draw(st.integers(1, 4))):
                line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
        (folder / "test.jsonl").write_bytes(bytes(line))
        try:
            listed = listed_of(task)
        except SettingError as error:
            assert str(folder) in str(error)
        else:
            assert np.isfinite(
                [edge for row in listed["test"].rows for edge in row.box or ()]
            ).all()

    check()


def test_lines_that_change_are_read_again(write: Write) -> None:
    """Also with the same size and time of change, at once and after a while."""
    folder = write(train=[claim(n) for n in range(6)], test=[claim(0, sentence="one")])
    task = task_of("entailment", folder)
    file = folder / "test.jsonl"
    assert listed_of(task)["test"].rows[0].text == "one"
    before = file.stat()
    for text, wait in (("two", 0.0), ("six", 2.1), ("ten", 0.0)):
        time.sleep(wait)
        listed_of(task)  # old enough to be kept
        file.write_text(json.dumps(claim(0, sentence=text)) + "\n")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert file.stat().st_size == before.st_size
        assert listed_of(task)["test"].rows[0].text == text


def test_items_that_were_learnt_are_counted(write: Write) -> None:
    learnt = [claim(n) for n in range(6)]
    scored = [claim(1), claim(2, image="3.png"), claim(3, sentence="else"), claim(1), claim(4)]
    task = task_of("entailment", write(train=learnt, test=scored))
    assert also_learnt(opened(task)) == 3
    (note,) = _memorised(task, opened(task))
    assert note.startswith("entailment: 3 of the 5 items that are scored stand in training too, ")
    assert "pictures and text alike" in note
    assert not list(_memorised(task, opened(task_of("entailment", write(test=[claim(7)])))))
