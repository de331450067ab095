import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from architectures.frozen import SettingError, checked
from harness.training.data.cache import DataError
from harness.training.data.corpus import Corpus, content_key, load_corpus
from harness.training.data.scenes.arranging import draw_scenes
from harness.training.data.scenes.draft import (
    COLOURS,
    DIRECTIONS,
    SHAPES,
    SIZES,
    draft_scenes,
    split_of,
)
from harness.training.data.scenes.pixels import RGB
from harness.training.data.scenes.statements import is_true as holds
from harness.training.data.scenes.statements import swapped_scene
from harness.training.data.scenes.swaps import swap_groups, swap_tags
from harness.training.settings.data import LATER_FIELDS, Scenes, Text
from tests.training.data.scenes.reading import is_true, plain, read

FEW = {"colours": ("red", "orange", "blue", "green"), "shapes": ("circle", "square", "bar", "star"),
       "sizes": ("large",)}  # fmt: skip
KINDS = {
    "one": Scenes(colours=("red", "blue"), distractors=(1, 2)),
    "few": Scenes(objects=(2, 2), **FEW),
    "wide": Scenes(objects=(2, 2), grammar="wide", captions=6, **FEW),
    "all": Scenes(
        objects=(2, 3), distractors=(1, 2), repeat_colours=0.5, counting=0.25, grammar="wide"
    ),
    "counts": Scenes(objects=(1, 3), counting=0.9, shapes=("cross", "circle", "diamond", "square")),
    "rows": Scenes(objects=(2, 2), directions="two", places=("top left", "top right", "centre"),
                   repeat_colours=1),
}  # fmt: skip
SMALL = {"train": 240, "val": 40, "test": 40, "text": Text(max_tokens=64)}
SWAPPED = [name for name in KINDS if name != "one"]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Corpus]:
    cache = tmp_path_factory.mktemp("kinds")
    return {n: load_corpus(data.with_fields(SMALL), 32, cache) for n, data in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_captions_are_true_and_swapped_ones_are_not(corpora: dict[str, Corpus], kind: str) -> None:
    for split in (corpora[kind].train, corpora[kind].test):
        assert split.swapped is not None
        for row, truth in enumerate(split.truth):
            said = {read(caption) for caption in split.captions[row]}
            assert len(said) == 1, "all captions of a picture say the same"
            for caption, other in zip(split.captions[row], split.swapped[row], strict=True):
                assert is_true(caption, truth), caption
                if other:
                    assert Counter(other.split()) == Counter(caption.split())
                    assert not is_true(other, truth), (caption, other)
    swapped = sum(map(bool, (c for own in corpora[kind].train.swapped for c in own)))
    assert (swapped > 200) == (kind != "one")


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_show_what_the_truth_says(corpora: dict[str, Corpus], kind: str) -> None:
    split = corpora[kind].train
    for image, truth in zip(split.images_NHWC, split.truth, strict=True):
        centres = {(int(o["y"] * 32), int(o["x"] * 32)) for o in truth["objects"]}
        assert len(centres) == len(truth["objects"])
        for it in truth["objects"]:
            y, x = int(it["y"] * 32), int(it["x"] * 32)
            nearest = min(RGB, key=lambda name: np.abs(image[y, x] - np.array(RGB[name])).sum())
            assert nearest == it["colour"] or it["shape"] == "ring"


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_is_what_captions_say(corpora: dict[str, Corpus], kind: str) -> None:
    split = corpora[kind].train
    pairs = {(g, read(c[0])) for g, c in zip(split.group_N.tolist(), split.captions, strict=True)}
    assert len(pairs) == len({g for g, _ in pairs}) == len({what for _, what in pairs})


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_one_split_is_said_in_another_one(corpora: dict[str, Corpus], kind: str) -> None:
    corpus, data = corpora[kind], KINDS[kind]
    said: dict[str, set] = {}
    for split in (corpus.train, corpus.val, corpus.test):
        captions = [c for own in (*split.captions, *split.swapped) for c in own if c]
        if swap_tags(data):
            groups = swap_groups(data, split.name, 30, 16).groups
            captions += [c for group in groups for c in group.captions]
        said[split.name] = {read(caption) for caption in captions}
    assert not said["train"] & said["val"] and not said["train"] & said["test"]
    assert not said["val"] & said["test"] and corpus.notes == ()
    looks = [
        {(o["colour"], o["shape"]) for truth in split.truth for o in truth["objects"]}
        for split in (corpus.train, corpus.test)
    ]
    words = [{w for own in s.captions for c in own for w in plain(c).split()}
             for s in (corpus.train, corpus.test)]  # fmt: skip
    assert looks[1] <= looks[0] and words[1] <= words[0], "training sees each look and word"


@pytest.mark.parametrize("kind", SWAPPED)
def test_groups_need_the_picture_and_the_order_of_words(kind: str) -> None:
    data, side = KINDS[kind], 48
    tags = swap_tags(data)
    groups = swap_groups(data, "test", 4 * len(tags), side)
    assert Counter(group.tag for group in groups.groups) == dict.fromkeys(tags, 4)
    assert groups.images_PHWC.shape == (8 * len(tags), side, side, 3)
    assert groups.images_PHWC.dtype == np.uint8
    for group in groups.groups:
        one, other = group.captions
        assert Counter(one.split()) == Counter(other.split()) and read(one) != read(other)
        assert group.match_kl.tolist() == [[True, False], [False, True]]
        first, second = (groups.images_PHWC[row].astype(int) for row in group.pictures)
        share = (np.abs(first - second).max(axis=2) > 0).mean()
        assert 0 < share < 0.5, "only what is swapped differs"
    assert len({group.name for group in groups.groups}) == len(groups)


@pytest.mark.parametrize("kind", SWAPPED)
def test_a_swapped_statement_is_true_of_the_swapped_picture_only(kind: str) -> None:
    data = KINDS[kind]
    for scene in draw_scenes(data, "train", 400):
        looks = {o.look for o in scene.objects}
        for tag in swap_tags(data):
            if swapped := swapped_scene(scene, tag):
                assert holds(swapped.statement, swapped.objects)
                assert not holds(swapped.statement, scene.objects)
                assert not holds(scene.statement, swapped.objects)
                assert len({o.look for o in swapped.objects}) == len(looks)
                assert swapped_scene(swapped, tag) == scene


def test_pictures_of_a_group_show_the_colours_of_its_captions() -> None:
    places = ("centre left", "centre right")
    data = Scenes(objects=(2, 2), places=places, **FEW)
    groups = swap_groups(data, "test", 30, 48)
    for group in groups.groups:
        for row, caption in zip(group.pictures, group.captions, strict=True):
            _, (first, second), side, _ = read(caption)
            shown = []
            for sign in (side[1], -side[1]):
                x = 40 if sign > 0 else 8
                patch = groups.images_PHWC[row, 20:28, x - 4 : x + 4].reshape(-1, 3).astype(int)
                far = patch[np.argmax(np.abs(patch - 128).sum(axis=1))]
                shown.append(min(RGB, key=lambda n, far=far: np.abs(far - np.array(RGB[n])).sum()))
            assert shown == [first[1], second[1]], caption


def test_groups_of_scenes_of_the_first_version_are_of_their_split() -> None:
    data = Scenes(objects=(2, 2), seed=3)
    groups = swap_groups(data, "test", 40, 16)
    assert Counter(g.tag for g in groups.groups) == dict.fromkeys(swap_tags(data), 10)
    for caption in (c for group in groups.groups for c in group.captions):
        _, looks, side, _ = read(caption)
        order = [(SIZES.index(a), COLOURS.index(b), SHAPES.index(c)) for a, b, c in looks]
        if order[1] < order[0]:
            looks, side = looks[::-1], (-side[0], -side[1])
        one, two = map(" ".join, looks)
        assert split_of(f"{one}; {two}; 0 {DIRECTIONS[side]} 1", 3) == "test"
    drawn = draft_scenes(data.with_field("train", 20), "train")[1]
    assert re.fullmatch("[a-z ]+; [a-z ]+; 0 [a-z ]+ 1", drawn[0]), "as above"
    assert swap_tags(data) == ("colour", "shape", "size", "relation")


def test_fewer_groups_are_the_first_of_more_and_one_tag_stands_alone() -> None:
    data = KINDS["few"]
    few, more = (swap_groups(data, "val", n, 16, 1) for n in (5, 9))
    assert [g.captions for g in more.groups[:5]] == [g.captions for g in few.groups]
    assert np.array_equal(more.images_PHWC[:10], few.images_PHWC)
    assert more.images_PHWC.shape[-1] == 1
    alone = swap_groups(data, "val", 3, 16, 1, tags=["relation"]).groups
    every = [g.captions for g in more.groups if g.tag == "relation"]
    assert [g.tag for g in alone] == ["relation"] * 3 and [g.captions for g in alone] == every
    other = swap_groups(data.with_field("seed", 1), "val", 5, 16)
    assert other.groups[0].captions != few.groups[0].captions


def test_no_word_order_is_likelier_than_another() -> None:
    """Words alone do not tell a true caption from its swap: either order is as common."""
    data = KINDS["few"].with_field("train", 4000)
    things = [scene.statement.things for scene in draw_scenes(data, "train", 4000)]
    for field in ("colour", "shape"):
        first = [getattr(a, field) < getattr(b, field) for a, b in things
                 if getattr(a, field) != getattr(b, field)]  # fmt: skip
        assert abs(np.mean(first) - 0.5) < 3 * 0.5 / len(first) ** 0.5
    sides = Counter(DIRECTIONS[s.statement.side] for s in draw_scenes(data, "train", 4000))
    for one, other in (("left of", "right of"), ("above", "below")):
        both = sides[one] + sides[other]
        assert abs(sides[one] / both - 0.5) < 3 * 0.5 / both**0.5


def test_colours_repeat_and_counts_occur_as_often_as_wanted(corpora: dict[str, Corpus]) -> None:
    objects = [truth["objects"] for truth in corpora["rows"].train.truth]
    assert all(a["colour"] == b["colour"] and a["y"] // 0.34 == b["y"] // 0.34 for a, b in objects)
    counted = [read(own[0])[0] == "count" for own in corpora["counts"].train.captions]
    assert 0.8 < np.mean(counted) < 0.97
    whole = [truth["objects"] for truth in corpora["all"].train.truth]
    most = [max(Counter(o["colour"] for o in own).values()) / len(own) for own in whole]
    assert 0.4 < np.mean(np.array(most) >= 0.6) < 0.8
    assert corpora["all"].facts["train_cut"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"colours": ("red", "bleu")}, "colours: unknown name in data.colours 'bleu'; .*'blue'"),
     ({"shapes": ("bar", "bar")}, "shapes: data.shapes: 'bar' stands there 2 times"),
     ({"sizes": ("large",), "objects": (3, 3), "colours": ("red",), "shapes": ("bar", "star")},
      "data.objects and data.distractors need 3 looks, and .* make 2"),
     ({"places": ("top left", "centre"), "objects": (2, 2), "distractors": (0, 1)},
      "need 3 places, and data.places has 2"),
     ({"counting": 0.5, "objects": (9, 9)}, "need 9 places, and data.counting one more, and"),
     ({"distractors": (2, 1)}, r"data.distractors=\(2, 1\): the fewest come first"),
     ({"objects": (3, 2), "grammar": "wide"}, r"data.objects=\(3, 2\): the fewest come first"),
     ({"repeat_colours": 0.5}, "data.repeat_colours needs two objects"),
     ({"repeat_colours": 0.5, "objects": (2, 2), "colours": ("red",)}, "needs .* two colours"),
     ({"directions": "two"}, "data.directions='two' needs two of data.objects"),
     ({"directions": "two", "objects": (2, 2), "places": ("top left", "centre")}, "in one row"),
     ({"grammar": "broad"}, "grammar: must be 'plain' or 'wide'")],
)  # fmt: skip
def test_scenes_that_cannot_be_drawn_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        checked(Scenes, changes)


def test_too_few_combinations_for_three_splits_are_refused(tmp_path: Path) -> None:
    data = Scenes(colours=("red",), shapes=("bar",), sizes=("large",), places=("centre",))
    with pytest.raises(DataError, match=r"next to no scene of data\.\w+ .* name more"):
        load_corpus(data.with_fields(SMALL), 16, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [(Scenes(), {}, r"data.objects=\(1, 1\): swap groups need captions of two things"),
     (Scenes(objects=(3, 3)), {}, "swap groups need"),
     (KINDS["few"], {"tags": ["colours"]}, "unknown swap in these scenes 'colours'; .*'colour'"),
     (KINDS["few"], {"split": "tests"}, "unknown split 'tests'; did you mean 'test'")],
)  # fmt: skip
def test_groups_that_cannot_be_are_refused(data: Scenes, options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        swap_groups(**{"data": data, "split": "test", "count": 4, "image_size": 16} | options)


def test_later_fields_change_the_version_only_where_they_are_asked_for(tmp_path: Path) -> None:
    data = Scenes(train=40, val=8, test=8)
    assert content_key(data, 16) == "a5b6ed123d587db5d0f3792d647eeca2"
    assert data.is_first_version and set(Scenes.model_fields) >= LATER_FIELDS
    for change in ({"colours": ("red", "blue")}, {"distractors": (0, 1)}, {"counting": 0.1}):
        assert not data.with_fields(change).is_first_version
        assert content_key(data.with_fields(change), 16) != content_key(data, 16)
    assert load_corpus(data, 16, tmp_path).train.swapped is None
    assert not list(tmp_path.rglob("*.swapped.json"))


@pytest.mark.parametrize(
    ("data", "content"),
    [(Scenes(train=40, val=8, test=8), "622a78e063a1a6ad740357f234b703b1"),
     (Scenes(train=40, val=8, test=8, objects=(1, 3), captions=2, text=Text(max_tokens=40)),
      "67a95eeff6fafa787e707c65679b43da")],
)  # fmt: skip
def test_the_first_scenes_keep_their_bits(data: Scenes, content: str, tmp_path: Path) -> None:
    """What main wrote before scenes had later fields: pixels, captions, groups and truth."""
    load_corpus(data, 16, tmp_path)
    (entry,) = {path.parent for path in tmp_path.rglob("content")}
    assert (entry / "content").read_text() == content
