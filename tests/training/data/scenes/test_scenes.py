import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from harness.training.data.cache import DataError
from harness.training.data.corpus import Corpus, load_corpus
from harness.training.data.scenes.draft import (
    COLOURS,
    DIRECTIONS,
    PLACES,
    SHAPES,
    SIZES,
    draft_scenes,
    split_of,
)
from harness.training.data.scenes.pixels import RGB
from harness.training.data.scenes.words import SYNONYMS
from harness.training.data.splits import NAMES, Split
from harness.training.settings.data import Scenes, Text

PLAIN = {other: word for word, others in SYNONYMS.items() for other in others}
OBJECT = f"({'|'.join(SIZES)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"


def plain(caption: str) -> str:
    """The caption with synonyms taken back."""
    return " ".join(PLAIN.get(word, word) for word in caption.split())


def objects(truth: dict) -> set[tuple[str, str, str]]:
    return {(o["size"], o["colour"], o["shape"]) for o in truth["objects"]}


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Split:
    data = Scenes(train=300, val=8, test=8, objects=(2, 4), text=Text(max_tokens=24))
    return load_corpus(data, 32, tmp_path_factory.mktemp("several")).train


def test_captions_of_one_object_say_all_four_attributes(corpus: Corpus) -> None:
    for captions, truth in zip(corpus.train.captions, corpus.train.truth, strict=True):
        (it,) = truth["objects"]
        place = Counter(it["place"].split())
        for caption in map(plain, captions):
            said = Counter(caption.split())
            for words in (SIZES, COLOURS, SHAPES):
                assert [w for w in words if said[w]] == [
                    it[{SIZES: "size", COLOURS: "colour", SHAPES: "shape"}[words]]
                ], caption
            edges = {"top", "bottom", "left", "right", "centre"}
            assert Counter({w: n for w, n in said.items() if w in edges}) == place, caption
            assert 4 <= len(caption.split()) <= 7


def test_captions_of_one_picture_are_worded_differently(corpus: Corpus) -> None:
    assert all(len(set(captions)) == 3 for captions in corpus.train.captions)
    assert len({caption for captions in corpus.train.captions for caption in captions}) > 1500


def test_captions_of_several_objects_name_all_and_a_true_relation(several: Split) -> None:
    # longest first, so that `above` is not read where `above left of` stands
    where = "|".join(sorted(DIRECTIONS.values(), key=len, reverse=True))
    seen = set()
    for captions, truth in zip(several.captions, several.truth, strict=True):
        by_look = {(o["size"], o["colour"], o["shape"]): o for o in truth["objects"]}
        for caption in map(plain, captions):
            assert caption.startswith("only ")
            assert set(re.findall(OBJECT, caption)) == set(by_look)
            between = re.search(f"{OBJECT} (?:is )?({where}) (?:a |the )?{OBJECT}", caption)
            assert between, caption
            one, other = by_look[between.groups()[:3]], by_look[between.groups()[4:]]
            right, down = one["x"] - other["x"], one["y"] - other["y"]
            said = between.group(4)
            assert ("left" in said) == (right < -0.2) and ("right" in said) == (right > 0.2)
            assert ("above" in said) == (down < -0.2) and ("below" in said) == (down > 0.2)
            seen.add(said)
    assert seen == set(DIRECTIONS.values())
    assert {len(truth["objects"]) for truth in several.truth} == {2, 3, 4}


def test_pictures_show_what_the_truth_says(several: Split) -> None:
    for image, truth in zip(several.images_NHWC, several.truth, strict=True):
        for it in truth["objects"]:
            if it["shape"] == "ring":
                continue
            y, x = int(it["y"] * 32), int(it["x"] * 32)
            nearest = min(RGB, key=lambda name: np.abs(image[y, x] - np.array(RGB[name])).sum())
            assert nearest == it["colour"]


def test_no_description_is_in_two_splits_and_train_has_every_attribute(corpus: Corpus) -> None:
    groups = [set(split.group_N.tolist()) for split in (corpus.train, corpus.val, corpus.test)]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    captions = [
        {c for cs in s.captions for c in map(plain, cs)} for s in (corpus.train, corpus.test)
    ]
    assert not captions[0] & captions[1]
    assert corpus.notes == ()
    seen = [truth["objects"][0] for truth in corpus.train.truth]
    for field, values in (
        ("shape", SHAPES), ("colour", COLOURS), ("size", SIZES), ("place", PLACES)
    ):  # fmt: skip
        assert {it[field] for it in seen} == set(values)


def test_every_seed_leaves_enough_descriptions_in_every_split() -> None:
    every = [f"{s} {c} {h} {p}" for s in SIZES for c in COLOURS for h in SHAPES for p in PLACES]
    assert len(every) == 1296
    for seed in range(20):
        counts = Counter(split_of(text, seed) for text in every)
        assert counts["train"] > 800 and counts["val"] > 140 and counts["test"] > 140
        kept = {w for text in every if split_of(text, seed) == "train" for w in text.split()}
        assert kept == {w for text in every for w in text.split()}


def test_a_group_is_a_description(corpus: Corpus) -> None:
    by_group: dict[int, set] = {}
    for group, truth in zip(corpus.train.group_N.tolist(), corpus.train.truth, strict=True):
        (it,) = truth["objects"]
        by_group.setdefault(group, set()).add(
            tuple(it[k] for k in ("size", "colour", "shape", "place"))
        )
    assert all(len(looks) == 1 for looks in by_group.values())
    assert len({*map(tuple, by_group.values())}) == len(by_group)
    assert len(set(corpus.train.picture_N.tolist())) == len(corpus.train), "all drawn differently"


def test_two_objects_in_other_cells_but_the_same_relation_are_one_description() -> None:
    draft, texts = draft_scenes(Scenes(train=4000, objects=(2, 2)), "train")
    where = [(np.sign(a // 3 - b // 3), np.sign(a % 3 - b % 3)) for a, b in draft.cell_MN.tolist()]
    known = {}
    for row, text in enumerate(texts):
        looks = [tuple(f[row]) for f in (draft.size_MN, draft.colour_MN, draft.shape_MN)]
        assert known.setdefault(text, (looks, where[row])) == (looks, where[row])
    assert len(known) == len({repr(v) for v in known.values()})
    assert {texts[0].count(";"), texts[-1].count(";")} == {2}


def test_the_same_settings_give_the_same_corpus_and_another_seed_another(tmp_path: Path) -> None:
    data = Scenes(train=40, val=8, test=8)
    one, again = (load_corpus(data, 16, tmp_path / name) for name in "ab")
    assert one.content == again.content
    for name in NAMES:
        assert np.array_equal(getattr(one, name).images_NHWC, getattr(again, name).images_NHWC)
    other = load_corpus(data.with_field("seed", 1), 16, tmp_path / "a")
    assert other.content != one.content
    assert not np.array_equal(one.train.group_N, other.train.group_N)


@pytest.mark.parametrize(("size", "channels"), [(16, 3), (48, 1), (256, 3)])
def test_sizes_and_channels(tmp_path: Path, size: int, channels: int) -> None:
    images = load_corpus(Scenes(train=8, val=2, test=2), size, tmp_path, channels).train.images_NHWC
    assert images.shape == (8, size, size, channels) and images.dtype == np.uint8
    assert np.ptp(images, axis=(1, 2)).max(axis=1).min() > 25, "something is drawn on each"


@pytest.mark.parametrize("objects", [(3, 2), (1, 10)])
def test_impossible_object_counts_are_refused(tmp_path: Path, objects: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=r"objects=\(\d+, \d+\)"):
        load_corpus(Scenes(train=8, val=2, test=2, objects=objects), 16, tmp_path)


def test_captions_that_do_not_fit_are_noted(tmp_path: Path) -> None:
    data = Scenes(train=8, val=2, test=2, text=Text(max_tokens=6))
    assert any("cut to 6 tokens" in note for note in load_corpus(data, 16, tmp_path).notes)
