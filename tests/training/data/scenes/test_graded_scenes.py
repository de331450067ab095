from collections import Counter
from pathlib import Path

import pytest

from architectures.frozen import SettingError
from harness.study import DIFFICULTIES, Scenes, graded_scenes
from harness.training.data.corpus import load_corpus
from harness.training.data.scenes.arranging import draw_scenes
from harness.training.data.scenes.statements import is_true, meaning
from harness.training.data.scenes.swaps import swap_groups, swap_tags

LOOKS = ("colour", "shape", "relation")
TAGS = {"one": (), "few": (), "binding": LOOKS, "crowded": LOOKS,
        "everything": ("colour", "shape", "size", "relation", "place", "count")}  # fmt: skip
ELSEWHERE = {"few": 0.0, "binding": 0.0, "crowded": 0.006, "everything": 0.001}


@pytest.mark.parametrize("name", DIFFICULTIES)
def test_every_difficulty_can_be_drawn_and_its_captions_fit(name: str, tmp_path: Path) -> None:
    data = graded_scenes(name).with_fields({"train": 300, "val": 40, "test": 40})
    assert load_corpus(data, 16, tmp_path).notes == ()
    assert swap_tags(data) == TAGS[name]
    groups = swap_groups(data, "val", 2 * len(TAGS[name]), 16).groups if TAGS[name] else ()
    assert Counter(group.tag for group in groups) == dict.fromkeys(TAGS[name], 2)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_captions_are_seldom_true_of_pictures_of_another_group(name: str) -> None:
    scenes = draw_scenes(graded_scenes(name), "val", 150)
    groups = [meaning(scene.statement) for scene in scenes]
    wrong = sum(
        is_true(one.statement, other.objects)
        for one, group in zip(scenes, groups, strict=True)
        for other, its in zip(scenes, groups, strict=True)
        if group != its
    )
    assert wrong / len(scenes) ** 2 <= ELSEWHERE[name]


def test_difficulties_are_known_by_name_and_number() -> None:
    assert [graded_scenes(i) for i in range(5)] == list(DIFFICULTIES.values())
    assert graded_scenes(0) == Scenes()
    for wrong, hint in (
        ("bindings", "did you mean 'binding'"),
        (5, "Known: 0, 1, 2"),
        (-1, "'-1'"),
    ):
        with pytest.raises(SettingError, match=f"unknown difficulty of scenes .*{hint}"):
            graded_scenes(wrong)
