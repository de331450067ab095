"""What is asked and said of scenes is true of their ground truth, read here a second way."""

import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from harness.training.data.cache import DataError
from harness.training.data.corpus import Corpus, load_corpus
from harness.training.data.scenes.draft import COLOURS, DIRECTIONS, PLACES, SHAPES, SIZES
from harness.training.data.scenes.entailment import HIDDEN, LABELS, entailments
from harness.training.data.scenes.expressions import expressions
from harness.training.data.scenes.floors import TASKS, task_floors
from harness.training.data.scenes.questions import KINDS, questions
from harness.training.data.scenes.truth import Scene
from harness.training.data.scenes.two_pictures import statements
from harness.training.data.scenes.wording import NUMBERS
from harness.training.data.scenes.words import SYNONYMS
from harness.training.settings.data import Scenes, Text

PLAIN = {other: word for word, others in SYNONYMS.items() for other in others}
WHERE = "|".join(sorted(DIRECTIONS.values(), key=len, reverse=True))
BACKGROUND = 128
Makers = dict[str, Callable]
MAKERS: Makers = {
    "questions": questions,
    "entailments": entailments,
    "statements": statements,
    "expressions": expressions,
}


@pytest.fixture(scope="module", params=[(1, 1), (2, 5)], ids=["one", "several"])
def scenes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    data = Scenes(train=500, val=200, test=8, objects=request.param, text=Text(max_tokens=40))
    return load_corpus(data, 48, tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    data = Scenes(train=500, val=200, test=8, objects=(2, 5), text=Text(max_tokens=40))
    return load_corpus(data, 48, tmp_path_factory.mktemp("several"))


def plain(text: str) -> str:
    """The text with synonyms and plurals taken back."""
    words = []
    for word in text.split():
        for end in ("es", "s", ""):
            stem = word.removesuffix(end)
            if (stem := PLAIN.get(stem, stem)) in (*SHAPES, "thing") or not end:
                words.append(stem)
                break
    return " ".join(words)


def which(truth: dict, phrase: str) -> set[int]:
    """The objects that a phrase fits."""
    look, _, place = phrase.partition(" at ")
    assert place in (*PLACES, ""), phrase
    words = {*look.split()} - {"a", "an", "the", "thing", *HIDDEN}
    assert words <= {*SIZES, *COLOURS, *SHAPES}, phrase
    return {
        i
        for i, it in enumerate(truth["objects"])
        if words <= {it["size"], it["colour"], it["shape"]} and place in ("", it["place"])
    }


def stand(truth: dict, phrase: str, direction: str, other: str) -> bool:
    """There is a thing that stands so from another one."""
    one, two = which(truth, phrase), which(truth, other)
    return any(
        r["subject"] in one and r["object"] in two and r["relation"] == direction
        for r in truth["relations"]
    )


def holds(truth: dict, text: str) -> bool:
    """`a red circle`, `a red circle left of a square`: is there one?"""
    between = re.fullmatch(f"(.*?) ({WHERE}) (an? .*)", text)
    return stand(truth, *between.groups()) if between else bool(which(truth, text))


def test_questions_have_their_answers(scenes: Corpus) -> None:
    rows = questions(scenes.val.truth, 0, 600)
    kinds = Counter(row.kind for row in rows)
    one = len(scenes.val.truth[0]["objects"]) == 1
    assert set(kinds) == set(KINDS) - ({"relation", "count"} if one else set())
    assert max(kinds.values()) - min(kinds.values()) <= 4 and len(rows) > 590
    for row in rows:
        truth, text = scenes.val.truth[row.picture], plain(row.question)
        assert sum(share for _, share in row.answers) == pytest.approx(1)
        assert row.answers[0][1] == max(share for _, share in row.answers)
        assert len({plain(answer) for answer, _ in row.answers}) == 1
        answer = row.answers[0][0]
        if row.kind in ("existence", "relation"):
            assert holds(truth, text.removeprefix("is there ")) == (answer == "yes"), row
        elif row.kind == "count":
            phrase = re.fullmatch("how many (.*) are there", text).group(1)
            assert len(which(truth, phrase)) == NUMBERS.index(answer), row
        else:
            (it,) = which(truth, re.search(" is (the .*)", text).group(1))
            assert truth["objects"][it][row.kind] == answer, row


def test_open_questions_have_answers_in_equal_shares(several: Corpus) -> None:
    rows = [row for row in questions(several.train.truth, 0, 3000) if row.kind == "count"]
    few = Counter(row.answers[0][0] for row in rows)
    assert few["zero"] / len(rows) == pytest.approx(few["one"] / len(rows), abs=0.08)
    assert few["two"] > 50


def test_sentences_have_their_label(scenes: Corpus) -> None:
    seen = set()
    for row in entailments(scenes.val.truth, 0, 900):
        truth, text = scenes.val.truth[row.picture], plain(row.sentence)
        text = text.removeprefix("there is ")
        look, that, halves = text.partition(" that is ")
        one, two = (halves if that else text).split(" or ")
        hidden, other = (one, two) if set(one.split()) & set(HIDDEN) else (two, one)
        assert len(set(hidden.split()) & set(HIDDEN)) == 1 and not set(other.split()) & set(HIDDEN)
        if not that:
            follows, possible = holds(truth, other), which(truth, hidden)
        elif other in (*SIZES, *COLOURS):
            article, *rest = look.split()
            follows, possible = which(truth, " ".join([article, other, *rest])), which(truth, look)
        else:
            follows, possible = holds(truth, f"{look} {other}"), which(truth, look)
        label = "entailment" if follows else "neutral" if possible else "contradiction"
        assert row.label == label, row
        seen.add((bool(that), other in (*SIZES, *COLOURS), label))
    several = bool(scenes.val.truth[0]["relations"])
    assert len(seen) == (9 if several else 6), "every form has every label"


def test_statements_have_their_label(scenes: Corpus) -> None:
    seen, seen_related = set(), False
    for row in statements(scenes.val.truth, 0, 800):
        text = plain(row.statement)
        form = re.fullmatch(
            "(.*? shows?(?: the same number of| more| two| three| four| five| six| seven|)) "
            "(.*?)( than the .*| in all|)", text
        )  # fmt: skip
        start, phrase, _ = form.groups()
        truths = [scenes.val.truth[picture] for picture in row.pictures]
        related = re.search(f" ({WHERE}) ", phrase)
        left, right = (holds(t, phrase) if related else len(which(t, phrase)) for t in truths)
        seen_related |= bool(related)
        true = {
            "both pictures show": left > 0 < right,
            "only one picture shows": (left > 0) + (right > 0) == 1,
            "at least one picture shows": left + right > 0,
            "neither picture shows": left + right == 0,
            "the left picture shows": left > 0,
            "the right picture shows": right > 0,
            "the left picture shows more": left > right,
            "the right picture shows more": right > left,
            "both pictures show the same number of": left == right,
        } | {f"the two pictures show {n}": left + right == NUMBERS.index(n) for n in NUMBERS}
        assert true[start] == row.label, row
        seen.add((start, row.label))
    assert len(seen) >= 18
    assert seen_related == bool(scenes.val.truth[0]["relations"])


@pytest.mark.parametrize("places", [False, True])
def test_expressions_fit_one_thing(several: Corpus, places: bool) -> None:
    rows = expressions(several.val.truth, 0, 400, places=places)
    related = 0
    for row in rows:
        truth, text = several.val.truth[row.picture], plain(row.expression)
        between = re.fullmatch(f"(.*?) ({WHERE}) (the .*)", text)
        if between:
            one, direction, other = between.groups()
            (anchor,) = which(truth, other)
            fitting = {
                r["subject"] for r in truth["relations"]
                if r["object"] == anchor and r["relation"] == direction
            } & which(truth, one)  # fmt: skip
            related += 1
        else:
            fitting = which(truth, text)
        (thing,) = fitting
        it, (x0, y0, x1, y1) = truth["objects"][thing], row.boxes[row.right]
        assert x0 < it["x"] < x1 and y0 < it["y"] < y1
        assert len(row.boxes) == len(truth["objects"]) > 1
        assert places or (not between and " at " not in text)
    assert (related > 30) == places
    assert len(rows) == 400


def test_boxes_hold_what_is_painted(scenes: Corpus) -> None:
    """Alone in its picture each shape is as wide and as high as its box, to two pixels."""
    seen = set()
    for image, truth in zip(scenes.train.images_NHWC, scenes.train.truth, strict=True):
        scene = Scene.of(truth)
        painted = (np.abs(image.astype(int) - BACKGROUND).max(axis=2) > 15).nonzero()
        edges = np.array(scene.boxes)
        box = [edges[:, 0].min(), edges[:, 1].min(), edges[:, 2].max(), edges[:, 3].max()]
        y, x = painted
        actual = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) / 48
        assert np.abs(actual - box).max() < 2 / 48, truth
        seen |= {it["shape"] for it in truth["objects"]}
    assert seen == set(SHAPES)


@pytest.mark.parametrize(("name", "labels"), [("entailments", 3), ("statements", 2)])
def test_neither_text_nor_picture_gives_a_label_away(
    scenes: Corpus, name: str, labels: int
) -> None:
    rows = MAKERS[name](scenes.val.truth, 0, 360)
    assert len(rows) == 360 and {row.label for row in rows} in ({*LABELS}, {True, False})
    for start in range(0, len(rows), labels**2):
        square = rows[start : start + labels**2]
        for side in ("sentence", "picture") if labels == 3 else ("statement", "pictures"):
            of_side: dict = {}
            for row in square:
                of_side.setdefault(getattr(row, side), set()).add(row.label)
            assert len(of_side) == labels and all(len(own) == labels for own in of_side.values())


@pytest.mark.parametrize("name", MAKERS)
def test_rows_are_a_function_of_truth_seed_and_count(several: Corpus, name: str) -> None:
    rows = MAKERS[name](several.val.truth, 0, 90)
    assert rows == MAKERS[name](several.val.truth, 0, 90) != MAKERS[name](several.val.truth, 1, 90)
    assert 88 <= len(rows) <= 90


@pytest.mark.parametrize("name", MAKERS)
def test_scenes_that_allow_no_item_are_refused(scenes: Corpus, name: str) -> None:
    with pytest.raises(DataError, match=r"scenes|objects"):
        MAKERS[name]([{"objects": scenes.val.truth[0]["objects"][:1], "relations": []}], 0, 90)


def test_items_are_asked_for_in_whole_squares(scenes: Corpus) -> None:
    with pytest.raises(DataError, match="8 items with 3 labels"):
        entailments(scenes.val.truth, 0, 8)
    assert len(entailments(scenes.val.truth, 0, 17)) == 9


@pytest.mark.parametrize("task", ["entailment", "statements about two pictures"])
def test_the_floors_of_balanced_tasks_are_chance(several: Corpus, task: str) -> None:
    floors = task_floors(several.train, several.val, task, items=(72, 72))
    chance = 1 / 3 if task == "entailment" else 1 / 2
    assert floors.majority == pytest.approx(chance)
    assert floors.text_only == pytest.approx(chance)
    assert floors.picture_only == pytest.approx(chance)


def test_the_floors_of_open_tasks_are_measured(several: Corpus) -> None:
    for task in set(TASKS) - {"entailment", "statements about two pictures"}:
        floors = task_floors(several.train, several.val, task, items=(300, 300))
        assert floors.text_only < 0.45 and floors.picture_only < 0.45, task
