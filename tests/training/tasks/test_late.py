"""Late interaction is scored alike by loss, teacher, retrieval, groups and what compares new items:
each against a loop over tokens.
"""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from architectures import build
from architectures.contract import FusionDesign
from architectures.layers.heads import itc_head
from harness.export.comparing import Comparer
from harness.training.data.batches import Batch, Batches
from harness.training.data.corpus import Corpus
from harness.training.data.group_sets import groups_of
from harness.training.data.identity import matches
from harness.training.data.transforms import normalised
from harness.training.objectives.compared import group_tables
from harness.training.objectives.forward import terms
from harness.training.objectives.itm import Negatives
from harness.training.objectives.state import ObjectiveState
from harness.training.randomness import stream
from harness.training.scoring.ranking import hits_at
from harness.training.settings.objectives import ITC, MLM, Objectives
from harness.training.settings.tasks import Pairs, Retrieval
from harness.training.tasks.retrieval import score
from tests.training.tasks.conftest import BACKBONE

CPU = torch.device("cpu")
ROWS = 5
both_kinds = pytest.mark.parametrize("how", ["late_mean", "late_sum"])


def late(how: str, corpus: Corpus) -> FusionDesign:
    return build.design(
        "dual_encoder",
        {"similarity": how},
        BACKBONE,
        corpus.tokenizer.vocabulary,
        draw=lambda role: stream(0, "initial weights", role),
        objectives=("itc",),
    ).eval()


def tables(design: FusionDesign, image_BCHW, ids_BL, real_BL) -> tuple[torch.Tensor, torch.Tensor]:
    """Tables (I, T) where images ask and where texts ask, one pair after another."""
    head, how = itc_head(design), itc_head(design).similarity
    image, text = design.encode_image(image_BCHW), design.encode_text(ids_BL, real_BL)
    by_image, by_text = [], []
    for tokens_PD in image.tokens_BPD:
        a_PE = F.normalize(head.image(tokens_PD), dim=-1)
        for words_LD, real_L in zip(text.tokens_BLD, real_BL, strict=True):
            cosine_PL = a_PE @ F.normalize(head.text(words_LD[real_L]), dim=-1).T
            of_words = cosine_PL.max(0).values
            by_text.append(of_words.sum() if how == "late_sum" else of_words.mean())
            asked = cosine_PL.max(1).values.mean()
            by_image.append(by_text[-1] if how == "late_sum" else asked)
    one, other = (torch.stack(each).view(len(image_BCHW), -1) for each in (by_image, by_text))
    return one, other


def batch_of(corpus: Corpus) -> Batch:
    return Batches(corpus.train, corpus.tokenizer, ROWS, 0, MLM()).at(0)


def loss_of(table_BB: torch.Tensor, match_BB: torch.Tensor, temperature: float) -> torch.Tensor:
    wanted_BB = match_BB / match_BB.sum(1, keepdim=True)
    return -(wanted_BB * (table_BB / temperature).log_softmax(1)).sum(1).mean()


@both_kinds
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("teacher", [False, True], ids=["batch", "teacher"])
def test_the_loss_is_that_of_tables_by_loops(how, packed, teacher, two_objects: Corpus) -> None:
    """Value and gradients; with a teacher that has the design's weights and is half the target."""
    design, batch = late(how, two_objects), batch_of(two_objects)
    settings = ITC(distil=0.5, temperature=0.2) if teacher else ITC(temperature=0.2)
    state = ObjectiveState(Objectives(itc=settings).with_field("teacher.ramp_epochs", 0), design)
    nobody = torch.zeros(ROWS, dtype=torch.int64)
    negatives = Negatives(image_for_text_B=nobody, text_for_image_B=nobody)
    state.settings = state.settings.with_fields({"itm.weight": 0.0, "mlm.weight": 0.0})
    taught = state.teach(design, batch, packed=packed)
    losses = terms(design, state, batch, negatives=negatives, taught=taught, packed=packed)
    ours = losses.terms["itc"].loss
    by_image, by_text = tables(design, batch.pixels(), batch.ids_BL, batch.text_is_real_BL)
    naive = torch.zeros(())
    for table_BB, match_BB in ((by_image, batch.match_BB), (by_text.T, batch.match_BB.T)):
        hard = loss_of(table_BB, match_BB, 0.2)
        soft_BB = (table_BB.detach() / 0.2).softmax(1)
        soft = -(soft_BB * (table_BB / 0.2).log_softmax(1)).sum(1).mean()
        naive = naive + ((hard + soft) / 2 if teacher else hard) / 2
    torch.testing.assert_close(ours, naive, rtol=1e-5, atol=1e-5)
    weights = [p for p in design.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(ours, weights, allow_unused=True)
    wanted = torch.autograd.grad(naive, weights, allow_unused=True)
    largest = max(float(g.abs().max()) for g in wanted if g is not None)
    for gradient, expected in zip(gradients, wanted, strict=True):
        assert (gradient is None) == (expected is None)
        if gradient is not None:
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4 * largest)


@both_kinds
@torch.no_grad()
def test_retrieval_ranks_by_who_asks(how: str, two_objects: Corpus) -> None:
    design, split = late(how, two_objects), two_objects.test
    rows = np.arange(len(split))
    ids = torch.from_numpy(split.ids(rows, np.zeros_like(rows)))
    pixels = normalised(torch.from_numpy(split.images_NHWC.copy()).permute(0, 3, 1, 2))
    by_image, by_text = (x.numpy() for x in tables(design, pixels, ids, ids != 0))
    identity = split.identity(rows, np.zeros_like(rows))
    right = matches(identity, identity).numpy()
    scores = score(design, two_objects, Retrieval(captions="first"), CPU)
    assert scores.protocol == "ITC alone"
    np.testing.assert_array_equal(hits_at(by_image, right, 5), scores.predictions["i2t_5"])
    np.testing.assert_array_equal(hits_at(by_text.T, right.T, 5), scores.predictions["t2i_5"])


@both_kinds
@torch.no_grad()
def test_groups_and_new_items_score_a_pair_by_the_mean_of_both_ways(
    how: str, two_objects: Corpus
) -> None:
    design, words = late(how, two_objects), two_objects.tokenizer
    groups = groups_of(two_objects, Pairs(count=3))
    found = group_tables(design, groups, words, CPU)["itc"]
    comparer = Comparer(design=design, reader=None, caption_tokens=20, device=CPU)
    for group, table in zip(groups.groups, found, strict=True):
        pixels = torch.from_numpy(groups.images_PHWC[list(group.pictures)]).permute(0, 3, 1, 2)
        ids, real = words.encode(group.captions)
        by_image, by_text = tables(design, normalised(pixels), ids, real)
        wanted = ((by_image + by_text) / 2).numpy()
        np.testing.assert_allclose(table, wanted, rtol=1e-5, atol=1e-6)
        image, text = design.encode_image(normalised(pixels)), design.encode_text(ids, real)
        np.testing.assert_allclose(comparer.cosines(image, text), wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(
            comparer.ranked(image, text, 0, of_captions=False), (-by_image.numpy()).argsort(1)
        )
        np.testing.assert_array_equal(
            comparer.ranked(image, text, 0, of_captions=True), (-by_text.T.numpy()).argsort(1)
        )
