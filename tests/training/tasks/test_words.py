"""The task words: which words are of which kind, perfect and constant readers, what is refused."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from architectures import registry
from architectures.contract import Fused, FusionDesign
from architectures.frozen import SettingError
from harness.training.data.corpus import Corpus
from harness.training.data.masked_kinds import masked_kinds
from harness.training.data.scenes.arranging import draw_scenes
from harness.training.data.scenes.kinds import kinds, kinds_in
from harness.training.data.scenes.swaps import captions_and_swaps
from harness.training.settings.data import Pictures
from harness.training.settings.graded_scenes import graded_scenes
from harness.training.settings.objectives import MLM, Objectives
from harness.training.settings.tasks import Words
from harness.training.tasks.words import names, refuse, score, why_not
from tests.training.tasks.conftest import BACKBONE

CPU = torch.device("cpu")
TASK = Words(captions="all")
FACTS = registry.find("split_bert").facts(registry.config("split_bert", {}), BACKBONE)

Build = Callable[..., FusionDesign]


def spelled(corpus: Corpus, labels: np.ndarray) -> str:
    return corpus.tokenizer.decode([int(label) for label in labels if label >= 0])


def test_every_word_of_a_kind_is_masked_once(two_objects: Corpus) -> None:
    masked = masked_kinds(two_objects.test, "all", two_objects.tokenizer, kinds(), 10**6)
    captions = [caption for its in two_objects.test.captions for caption in its]
    told = Counter(word for caption in captions for word in caption.split())
    for kind, its in masked.items():
        found = Counter(spelled(two_objects, labels) for labels in its.labels_NR)
        single = {word for entry in kinds()[kind] for word in (entry.split()[0],)}
        assert found == {word: told[word] for word in single if told[word]}, kind
    assert (
        set(masked) == {"colour", "shape", "size", "direction"} == set(kinds_in(two_objects.data))
    )


def test_a_masked_caption_is_the_caption_but_for_its_word(two_objects: Corpus) -> None:
    split, tokens = two_objects.test, two_objects.tokenizer
    masked = masked_kinds(split, "first", tokens, kinds(), 30)["direction"]
    assert len(masked) == 24 or len(masked) == 30
    for row, ids, places, labels in zip(
        masked.rows_N, masked.ids_NL, masked.positions_NR, masked.labels_NR, strict=True
    ):
        assert (ids == tokens.mask_id).sum() == (labels >= 0).sum() > 0
        restored = ids.copy()
        restored[places[labels >= 0]] = labels[labels >= 0]
        assert np.array_equal(restored, split.ids(np.array([row]), np.array([0]))[0])


def test_an_entry_of_two_words_wins_over_one_of_one_word(two_objects: Corpus) -> None:
    split = replace(
        two_objects.test, captions=(("red circle left of blue square",), ("red ring top left",))
    )
    masked = masked_kinds(split, "first", two_objects.tokenizer, kinds(), 9)
    assert masked["direction"].rows_N.tolist() == [0]
    assert [spelled(two_objects, labels) for labels in masked["place"].labels_NR] == ["top", "left"]
    assert masked["place"].rows_N.tolist() == [1, 1]


def test_a_number_is_not_masked_where_it_counts_nothing(two_objects: Corpus) -> None:
    split = replace(two_objects.test, captions=(("one can",), ("one red",)))
    masked = masked_kinds(split, "first", two_objects.tokenizer, kinds(), 9)
    assert masked["number"].rows_N.tolist() == [1] and set(masked) == {"number", "colour"}


def test_fewer_items_are_spread_over_the_split(two_objects: Corpus) -> None:
    few = masked_kinds(two_objects.test, "all", two_objects.tokenizer, kinds(), 12)["colour"]
    assert len(few) == 12 and few.rows_N[0] == 0 and few.rows_N[-1] >= 20
    assert sorted(few.rows_N) == few.rows_N.tolist()


class Told(torch.nn.Module):
    """An MLM head that says the tokens it was told, whatever it reads."""

    def __init__(self, answers: list[torch.Tensor], vocabulary: int) -> None:
        super().__init__()
        self.answers, self.vocabulary = iter(answers), vocabulary

    def forward(self, text_BRD: torch.Tensor) -> torch.Tensor:
        answer_BR = next(self.answers)
        assert text_BRD.shape[:2] == answer_BR.shape
        return torch.nn.functional.one_hot(answer_BR.clamp(min=0), self.vocabulary).float()


@pytest.mark.parametrize("knows", ["all", "commonest"])
def test_a_perfect_reader_is_always_right_and_a_constant_one_earns_chance(
    knows: str, two_objects: Corpus, small: Build
) -> None:
    vocabulary = two_objects.tokenizer.vocabulary
    design = small("split_bert", vocabulary, ("mlm",))
    masked = masked_kinds(two_objects.test, "all", two_objects.tokenizer, kinds(), 512)
    answers = []
    for its in masked.values():
        labels = torch.from_numpy(its.labels_NR)
        values, counts = labels.unique(dim=0, return_counts=True)
        told = labels if knows == "all" else values[counts.argmax()].expand_as(labels)
        answers += told.split(128)
    design.heads["mlm"] = Told(answers, vocabulary)
    scores = score(design, two_objects, TASK, CPU)
    for level in scores.levels:
        earned = level.items if knows == "all" else round(level.chance * level.items)
        assert level.successes == earned > 0
        assert 0 < level.chance < 0.7
    assert [s.name for s in scores.scores] == [*masked, "mean"]
    if knows == "all":
        assert {s.value for s in scores.scores} == {100.0}
    assert {s.name for s in scores.scores} <= set(names(TASK, two_objects.data))


@torch.no_grad()
def test_a_word_is_read_beside_its_own_picture(two_objects: Corpus, small: Build) -> None:
    design = small("split_bert", two_objects.tokenizer.vocabulary, ("mlm",))
    fuse, seen = design.fuse, []

    def noting(image, text, **rest) -> Fused:  # type: ignore[no-untyped-def]
        seen.append(image.tokens_BPD[:, 0])
        return fuse(image, text, **rest)

    design.fuse = noting  # type: ignore[method-assign]
    score(design, two_objects, Words(items=20), CPU)
    masked = masked_kinds(two_objects.test, "first", two_objects.tokenizer, kinds(), 20)
    split = two_objects.test
    pixels = torch.from_numpy(split.images_NHWC.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    cls_ND = design.encode_image(pixels).tokens_BPD[:, 0]
    for its, read_BD in zip(masked.values(), seen, strict=True):
        torch.testing.assert_close(read_BD, cls_ND[its.rows_N])


def test_own_lists_are_read_and_what_has_no_word_is_refused(two_objects: Corpus) -> None:
    own = Words(words={"warm": ("red", "orange", "yellow")})
    assert names(own, two_objects.data) == ("warm", "mean")
    refuse(FACTS, Objectives(), two_objects, own)
    with pytest.raises(SettingError, match="no caption of test has a word of 'animals'"):
        refuse(FACTS, Objectives(), two_objects, Words(words={"animals": ("dog",)}))
    pictures = replace(two_objects, data=Pictures(train="x"))
    with pytest.raises(SettingError, match="list them in the task's `words`"):
        refuse(FACTS, Objectives(), pictures, Words())
    refuse(FACTS, Objectives(), pictures, own)


def test_kinds_have_names_that_a_score_can_have() -> None:
    for kind, message in (("mean", "the mean of all kinds"), ("a/b", "pattern|letters"), ("", "")):
        with pytest.raises(SettingError, match=rf"^Words\.words\.{kind}.*({message})"):
            Words(words={kind: ("red",)})


@pytest.mark.parametrize("changes", [
    {}, {"objects": (1, 2)}, {"objects": (1, 1), "distractors": (1, 1)}, {"counting": 0.5},
    {"counting": 1.0}, {"grammar": "wide"}, {"grammar": "wide", "sizes": ("large", "small")},
])  # fmt: skip
def test_no_caption_says_a_kind_that_scenes_do_not_have(changes: dict[str, object]) -> None:
    scenes = graded_scenes("binding").with_fields(changes)
    drawn = draw_scenes(scenes, "train", 100)
    captions, _ = captions_and_swaps(scenes, drawn, np.random.default_rng(0))
    words = {word for its in captions for caption in its for word in caption.split()}
    own = set(kinds_in(scenes))
    for kind, entries in kinds().items():
        if kind and kind not in own:
            others = {w for k in own for entry in kinds()[k] for w in entry.split()} | {"one", "no"}
            assert not words & ({w for entry in entries for w in entry.split()} - others), kind
    if scenes.counting < 1:
        for kind in own:
            assert words & {entry.split()[0] for entry in kinds()[kind]}, kind


def test_every_design_that_fuses_words_is_scored_and_the_others_say_why() -> None:
    for name in registry.names():
        facts = registry.find(name).facts(registry.config(name, {}), BACKBONE)
        assert bool(why_not(facts, Objectives(), Words())) == bool(facts.why_not("mlm")), name
    assert "MLM is off" in why_not(FACTS, Objectives(mlm=MLM(weight=0)), Words())
