"""Curves of binding: what they count, and that measuring them changes nothing."""

import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from architectures.contract import FusionDesign
from architectures.frozen import SettingError
from harness.training.data.corpus import Corpus
from harness.training.objectives.binding import binding_of, curve_names
from harness.training.settings.data import Pictures
from harness.training.settings.graded_scenes import graded_scenes
from harness.training.settings.loop import Measure
from harness.training.settings.tasks import Pairs, Words
from harness.training.tasks import pairs, words
from tests.training.tasks.conftest import small as small
from tests.training.tasks.conftest import two_objects as two_objects

CPU = torch.device("cpu")
MEASURE = Measure(pairs=30, words=40)


def test_curves_are_the_scores_of_the_tasks(
    two_objects: Corpus, small: Callable[..., FusionDesign]
) -> None:
    design = small("split_bert", two_objects.tokenizer.vocabulary, ("itc", "itm", "mlm")).train()
    curves = binding_of(MEASURE, two_objects).curves(design, CPU, contextlib.nullcontext)
    assert design.training
    assert set(curves) <= set(curve_names(MEASURE, two_objects.data))
    design.eval()
    of_pairs = pairs.score(design, two_objects, Pairs(split="val", count=30), CPU)
    values = {score.name: score.value / 100 for score in of_pairs.scores}
    assert curves["pairs/all"] == pytest.approx(values["group_match"])
    assert curves["pairs/all_itc"] == pytest.approx(values["group_match_itc"])
    assert curves["pairs/colour"] == pytest.approx(values["colour_group_match"])
    assert curves["pairs/relation_itc"] == pytest.approx(values["relation_group_match_itc"])
    of_words = words.score(design, two_objects, Words(split="val", items=40), CPU)
    for score in of_words.scores[:-1]:
        assert curves[f"words/{score.name}"] == pytest.approx(score.value / 100)


def test_a_design_has_the_curves_that_its_heads_allow(
    two_objects: Corpus, small: Callable[..., FusionDesign]
) -> None:
    binding = binding_of(MEASURE, two_objects)
    alone = small("dual_encoder", two_objects.tokenizer.vocabulary, ("itc",))
    names = set(binding.curves(alone, CPU, contextlib.nullcontext))
    assert "pairs/all" in names and not [n for n in names if "_itc" in n or "words" in n]
    read = small("split_bert", two_objects.tokenizer.vocabulary, ("mlm",))
    assert all(n.startswith("words/") for n in binding.curves(read, CPU, contextlib.nullcontext))


def test_nothing_is_measured_unless_asked(two_objects: Corpus) -> None:
    assert curve_names(Measure(), two_objects.data) == ()
    off = binding_of(Measure(), two_objects)
    assert off.groups is None and not off.words


def test_only_curves_that_scenes_have_are_named() -> None:
    scenes = graded_scenes("binding")
    every = curve_names(MEASURE, scenes)
    assert {"pairs/colour", "pairs/all_itc", "words/direction"} <= set(every)
    assert not {"pairs/count", "pairs/size", "words/size", "words/number"} & set(every)
    assert "pairs/relation" not in curve_names(Measure(pairs=2), scenes)


def test_pictures_are_refused(two_objects: Corpus) -> None:
    pictures = replace(two_objects, data=Pictures(train="x"))
    with pytest.raises(SettingError, match=r"measure\.pairs and measure\.words are for scenes"):
        binding_of(Measure(words=1), pictures)
    binding_of(Measure(), pictures)
