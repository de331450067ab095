"""Retrieval on hand-made scores; what a perfect, a constant and a tied scorer earn."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from architectures import build, registry
from architectures.backbone import scale
from architectures.contract import FusionDesign
from architectures.designs.split_bert import SplitBertConfig
from architectures.frozen import SettingError
from harness.training.data.corpus import Corpus, load_corpus
from harness.training.data.identity import matches
from harness.training.data.transforms import normalised
from harness.training.randomness import stream
from harness.training.scoring.chance import recall_chance
from harness.training.scoring.ranking import hits_at
from harness.training.settings.data import Scenes
from harness.training.settings.objectives import ITC, ITM, Objectives
from harness.training.settings.tasks import Retrieval
from harness.training.tasks.retrieval import refuse, score, why_not


def test_a_perfect_scorer_always_hits() -> None:
    right = np.eye(6, dtype=bool)
    assert hits_at(right.astype(float), right, 1).tolist() == [1.0] * 6


def test_a_model_that_gives_no_numbers_finds_nothing() -> None:
    """All scores NaN; and the score of one wrong candidate of each query."""
    right = np.eye(3, 4, dtype=bool)
    nothing = np.full((3, 4), np.nan, dtype=np.float32)
    assert hits_at(nothing, right, 1).tolist() == [0.0] * 3
    some = np.where(np.eye(3, 4, k=1, dtype=bool), nothing, right)
    assert hits_at(some, right, 1).tolist() == [0.0] * 3
    assert hits_at(some, right, 2).tolist() == [1.0] * 3


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**31))
def test_a_constant_scorer_earns_chance(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    right = rng.random((9, 15)) < 0.2
    right[:, 0] = True
    hits = hits_at(np.zeros((9, 15)), right, k)
    np.testing.assert_allclose(hits.mean(), recall_chance(k, right.sum(1), 15))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**31))
def test_hits_are_the_mean_over_tie_orders(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (1, 6)).astype(float)
    right = rng.random((1, 6)) < 0.4
    right[0, rng.integers(6)] = True
    found = []
    for _ in range(3000):
        order = np.lexsort((rng.random(6), -scores[0]))
        found.append(right[0, order[:k]].any())
    assert abs(hits_at(scores, right, k)[0] - np.mean(found)) < 0.05


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load_corpus(Scenes(train=64, val=16, test=24), 32, tmp_path_factory.mktemp("cache"))


def design_for(name: str, corpus: Corpus, objectives: tuple[str, ...]) -> FusionDesign:
    words = corpus.tokenizer.vocabulary
    return build.design(
        name,
        {},
        scale("nano"),
        words,
        draw=lambda role: stream(0, "initial weights", role),
        objectives=objectives,
    ).eval()


@pytest.mark.parametrize("name", ["single_stream", "split_bert"])
def test_without_itc_every_pair_is_scored_by_itm(name: str, corpus: Corpus) -> None:
    design = design_for(name, corpus, ("itm", "mlm"))
    found = score(design, corpus, Retrieval(), torch.device("cpu"))
    assert found.protocol == "every pair by ITM"
    assert found.values["mean_recall"] == found.values["mean_recall_every_pair"]
    split, rows = corpus.test, np.arange(24)
    ids = torch.from_numpy(split.ids(rows, np.zeros_like(rows)))
    pixels = normalised(torch.from_numpy(split.images_NHWC.copy()).permute(0, 3, 1, 2))
    image, text = design.encode_image(pixels), design.encode_text(ids, ids != 0)
    match = []
    with torch.no_grad():
        for picture in range(24):
            shown = image.take(torch.full((24,), picture))
            logits = design.heads["itm"](design.fuse(shown, text).pooled_BD)
            match.append(logits[:, 1] - logits[:, 0])
    identity = split.identity(rows, np.zeros_like(rows))
    right = matches(identity, identity).numpy()
    by_loop = torch.stack(match).numpy()
    assert np.array_equal(hits_at(by_loop, right, 1), found.predictions["i2t_1"])
    assert np.array_equal(hits_at(by_loop.T, right.T, 5), found.predictions["t2i_5"])


def test_too_many_pairs_are_refused_before_training(corpus: Corpus) -> None:
    facts = registry.find("split_bert").facts(SplitBertConfig(), scale("nano"))
    task, alone = Retrieval(every_pair=500), Objectives(itc=ITC(weight=0))
    assert why_not(facts, alone) == ""
    with pytest.raises(SettingError, match="576 pairs of test, and the task's every_pair is 500"):
        refuse(facts, alone, corpus, task)
    refuse(facts, Objectives(), corpus, task)
    refuse(facts, alone, corpus, Retrieval())


def test_a_design_that_only_masks_words_is_not_scored() -> None:
    facts = registry.find("split_bert").facts(SplitBertConfig(), scale("nano"))
    neither = Objectives(itc=ITC(weight=0), itm=ITM(weight=0))
    assert why_not(facts, neither) == "retrieval ranks by ITC or ITM, and neither is on"
