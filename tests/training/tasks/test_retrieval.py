"""Retrieval of tiny designs: the order of candidates against sorting, chance, what is refused."""

import math

import numpy as np
import pytest
import torch

from architectures import build, registry
from architectures.backbone import scale
from architectures.contract import FusionDesign, ImageStates, TextStates
from architectures.designs.split_bert import SplitBertConfig
from architectures.frozen import SettingError
from harness.training.data.corpus import Corpus, load_corpus
from harness.training.data.identity import matches
from harness.training.data.transforms import normalised
from harness.training.randomness import stream
from harness.training.scoring.contract import TaskScores
from harness.training.scoring.ranking import hits_at
from harness.training.settings.data import Scenes
from harness.training.settings.objectives import ITC, ITM, Objectives
from harness.training.settings.tasks import Retrieval
from harness.training.tasks.retrieval import refuse, score, why_not

TEST = 24


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load_corpus(Scenes(train=64, val=16, test=TEST), 32, tmp_path_factory.mktemp("cache"))


def design_for(name: str, corpus: Corpus, objectives: tuple[str, ...]) -> FusionDesign:
    return build.design(
        name,
        {},
        scale("nano"),
        corpus.tokenizer.vocabulary,
        draw=lambda role: stream(0, "initial weights", role),
        objectives=objectives,
    ).eval()


def states_of(design: FusionDesign, corpus: Corpus) -> tuple[ImageStates, TextStates, np.ndarray]:
    """States of all test pictures and their first captions, and which of them fit."""
    split, rows = corpus.test, np.arange(TEST)
    ids = torch.from_numpy(split.ids(rows, np.zeros_like(rows)))
    pixels = normalised(torch.from_numpy(split.images_NHWC.copy()).permute(0, 3, 1, 2))
    keys = split.identity(rows, np.zeros_like(rows))
    right = matches(keys, keys).numpy()
    return design.encode_image(pixels), design.encode_text(ids, ids != 0), right


def logits_of(design: FusionDesign, image: ImageStates, text: TextStates) -> np.ndarray:
    """Both logits of every pair, by a loop over pictures."""
    each = []
    for picture in range(TEST):
        shown = image.take(torch.full((TEST,), picture))
        each.append(design.heads["itm"](design.fuse(shown, text).pooled_BD))
    return torch.stack(each).numpy()


def value_of(scores: TaskScores, name: str) -> float:
    return next(score.value for score in scores.scores if score.name == name)


@pytest.mark.parametrize("name", ["single_stream", "split_bert"])
@torch.no_grad()
def test_without_itc_every_pair_is_scored_by_itm(name: str, corpus: Corpus) -> None:
    design = design_for(name, corpus, ("itm", "mlm"))
    scores = score(design, corpus, Retrieval(), torch.device("cpu"))
    assert scores.protocol == "every pair by ITM"
    assert value_of(scores, "mean_recall") == value_of(scores, "mean_recall_every_pair")
    image, text, right = states_of(design, corpus)
    match = logits_of(design, image, text)[..., 1]
    assert np.array_equal(hits_at(match, right, 1), scores.predictions["i2t_1"])
    assert np.array_equal(hits_at(match.T, right.T, 5), scores.predictions["t2i_5"])


@torch.no_grad()
def test_the_best_by_itc_are_ordered_by_the_match_logit_alone(corpus: Corpus) -> None:
    """As ALBEF does, by sorting; the difference of the two logits would give another order."""
    design = design_for("split_bert", corpus, ("itc", "itm"))
    torch.nn.init.normal_(design.heads["itm"].weight, generator=torch.Generator().manual_seed(0))
    scores = score(design, corpus, Retrieval(rerank=8), torch.device("cpu"))
    assert scores.protocol == "re-ranked"
    image, text, right = states_of(design, corpus)
    features = design.heads["itc"](image.pooled_BD, text.pooled_BD)
    cosine, logits = (features[0] @ features[1].T).numpy(), logits_of(design, image, text)

    def by_sorting(by: np.ndarray, query: int, way: str, k: int) -> float:
        row, col = (query, slice(None)) if way == "i2t" else (slice(None), query)
        best = np.argsort(-cosine[row, col])[:8]
        order = best[np.argsort(-by[row, col][best])]
        return float(right[row, col][order[:k]].any())

    differ = 0
    for way in ("i2t", "t2i"):
        for k in (1, 5):
            wanted = [by_sorting(logits[..., 1], query, way, k) for query in range(TEST)]
            assert scores.predictions[f"{way}_{k}"].tolist() == wanted
            share = value_of(scores, f"{way}_r_at_{k}")
            assert share == pytest.approx(100 * sum(wanted) / TEST)
            less = logits[..., 1] - logits[..., 0]
            differ += wanted != [by_sorting(less, query, way, k) for query in range(TEST)]
    assert differ


PROTOCOLS = {"itc": ("itc",), "reranked": ("itc", "itm"), "every_pair": ("itm",)}


@pytest.mark.parametrize("most", [500_000, 1])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_constant_design_earns_exactly_chance(protocol: str, most: int, corpus: Corpus) -> None:
    """Heads without weights say the same of all; beyond `every_pair` ties are drawn by lot, which
    is fair but not exact.
    """
    design = design_for("split_bert", corpus, PROTOCOLS[protocol])
    for name, parameter in design.heads.named_parameters():
        torch.nn.init.constant_(parameter, float(name.endswith("bias")))
    task = Retrieval(rerank=7, every_pair=500_000 if protocol == "every_pair" else most)
    scores = score(design, corpus, task, torch.device("cpu"))
    right = states_of(design, corpus)[2]
    misses = [
        [math.comb(TEST - int(n), k) / math.comb(TEST, k) for k in (1, 5, 10)]
        for n in (*right.sum(0), *right.sum(1))
    ]
    chance = 1 - np.mean(misses, axis=0)
    exact = most > 1 or protocol != "reranked"
    close = dict(rel=1e-12) if exact else dict(rel=0.4)
    assert value_of(scores, f"mean_recall_{protocol}") == pytest.approx(
        100 * chance.mean(), **close
    )
    assert value_of(scores, "mean_recall") == value_of(scores, f"mean_recall_{protocol}")
    for level, share in zip(scores.levels, chance, strict=True):
        assert (level.items, level.chance) == (2 * TEST, pytest.approx(share, rel=1e-12))
        assert level.successes == int(2 * TEST * share) or not exact


def test_scores_say_their_unit_and_how_they_came_about(corpus: Corpus) -> None:
    design = design_for("split_bert", corpus, ("itc", "itm"))
    scores = score(design, corpus, Retrieval(), torch.device("cpu"))
    assert {(s.unit, s.higher_is_better) for s in scores.scores} == {("percent", True)}
    assert [(s.name, s.protocol) for s in scores.scores] == [
        ("mean_recall", "re-ranked"),
        ("mean_recall_itc", "ITC alone"),
        ("mean_recall_reranked", "re-ranked"),
        *((f"{way}_r_at_{k}", "re-ranked") for k in (1, 5, 10) for way in ("i2t", "t2i")),
    ]
    shares = [value_of(scores, f"{way}_r_at_{k}") for way in ("i2t", "t2i") for k in (1, 5, 10)]
    assert value_of(scores, "mean_recall") == pytest.approx(sum(shares) / 6)
    assert scores.protocol == "re-ranked"
    pooled = sum(scores.predictions[f"{way}_5"].sum() for way in ("i2t", "t2i"))
    (level,) = [level for level in scores.levels if level.name == "r_at_5"]
    assert level.successes == pooled


def test_too_many_pairs_are_refused_before_training(corpus: Corpus) -> None:
    facts = registry.find("split_bert").facts(SplitBertConfig(), scale("nano"))
    task, alone = Retrieval(every_pair=500), Objectives(itc=ITC(weight=0))
    assert why_not(facts, alone, Retrieval()) == ""
    with pytest.raises(SettingError, match="576 pairs of test, and the task's every_pair is 500"):
        refuse(facts, alone, corpus, task)
    refuse(facts, Objectives(), corpus, task)
    refuse(facts, alone, corpus, Retrieval())


def test_a_design_that_only_masks_words_is_not_scored() -> None:
    facts = registry.find("split_bert").facts(SplitBertConfig(), scale("nano"))
    neither = Objectives(itc=ITC(weight=0), itm=ITM(weight=0))
    assert (
        why_not(facts, neither, Retrieval()) == "retrieval ranks by ITC or ITM, and neither is on"
    )
