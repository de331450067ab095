"""The traps of published systems that touch a loss (references, section 12): avoided, or a switch.

Others stand where their subject is: ALBEF 7 and 16 also in test_queue, ALBEF 9, 18 and open_clip's
in test_gather, ALBEF 17's order of update and dropout in test_teacher.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from harness.training.data.batches import Batches
from harness.training.data.identity import Identity, matches
from harness.training.objectives import itm
from harness.training.objectives.forward import terms, total
from harness.training.objectives.mlm import masked_words
from harness.training.objectives.state import ObjectiveState
from harness.training.settings.objectives import ALBEF_OBJECTIVES, ITM, Objectives
from tests.training.objectives.conftest import FULL

PUBLISHED, MASKED = ITM(same="negative"), ITM(same="masked")


def drawing(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_albef_1_the_softmax_of_the_teacher_is_over_the_vocabulary() -> None:
    """A constant added to all words of one place changes nothing; over the places it would. And
    the order of the places is none of the loss.
    """
    logits, taught = torch.randn(2, 6, 9, generator=drawing(), dtype=torch.float64)
    labels = torch.arange(6)
    loss = masked_words(logits, labels, taught, 1.0)[0].loss
    shift = torch.arange(6.0, dtype=torch.float64)[:, None] * 10
    torch.testing.assert_close(masked_words(logits, labels, taught + shift, 1.0)[0].loss, loss)
    torch.testing.assert_close(masked_words(logits + shift, labels, taught, 1.0)[0].loss, loss)
    alone = [masked_words(logits[i : i + 1], labels[i : i + 1], taught[i : i + 1], 1.0)[0].loss
             for i in range(6)]  # fmt: skip
    torch.testing.assert_close(torch.stack(alone).mean(), loss)


@pytest.mark.parametrize("settings", [PUBLISHED, MASKED, ITM(hard_share=0.3)])
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("cosine", [0.0, 1.0, float("nan"), float("inf")])
def test_albef_5_the_draw_of_negatives_never_fails(settings: ITM, size: int, cosine: float) -> None:
    """One row, all of one identity, weights that underflow at the lowest temperature, a model that
    has diverged: a row without a candidate has no negative, and no row its own pair.
    """
    logits = (2 * cosine * torch.eye(size) - cosine) / 0.001
    for match in (torch.eye(size, dtype=torch.bool), torch.ones(size, size, dtype=torch.bool)):
        found = itm.draw_negatives(logits, logits.T, match, settings, drawing())
        for drawn in (found.image_for_text_B, found.text_for_image_B):
            assert ((drawn >= -1) & (drawn < size)).all()
            if cosine == cosine and cosine != float("inf"):
                assert (drawn != torch.arange(size)).all()
            if settings.same == "masked" and match.all():
                assert (drawn == -1).all()
            if cosine == 0 and size > 1 and not (settings.same == "masked" and match.all()):
                assert (drawn >= 0).all()


@pytest.mark.parametrize("least", [1.4e-45, 1e-44, 1e-38, 1.0])
def test_albef_5_weights_near_the_least_float(least: float) -> None:
    """As published nothing is divided again, so all weights of a row may be that small."""
    weights = torch.tensor([[0.0, least, 0.0, least]]).expand(400, 4)
    drawn = itm.draw_rows(weights, drawing())
    counts = torch.bincount(drawn, minlength=4).tolist()
    assert counts[0] == counts[2] == 0 and 150 < counts[1] < 250
    assert (itm.draw_rows(torch.zeros(3, 3)) == -1).all()


def test_albef_5_a_batch_of_one_identity_trains(make, batches: Batches) -> None:
    """No candidate is left: ITM learns from the true pairs alone, and nothing is NaN."""
    batch = batches.at(0)
    one = torch.zeros_like(batch.rows_B)
    identity = Identity(
        group_B=one, picture_B=one, caption_B=one, captions_BC=one[:, None].expand(-1, 2)
    )
    batch = dataclasses.replace(batch, identity=identity, match_BB=matches(identity, identity))
    objectives = FULL.with_field("itm.same", "masked").with_field("itc.same", "positive")
    design = make("split_bert", objectives)
    state = ObjectiveState(objectives, design)
    taught = state.teach(design, batch, packed=True)
    losses = terms(design, state, batch, negatives=drawing(), taught=taught, packed=True)
    total(losses.terms, objectives).backward()
    assert int(losses.terms["itm"].items) == len(batch)
    assert float(losses.notes["itm_negative_cosine"]) == 0.0
    assert all(p.grad.isfinite().all() for p in design.parameters() if p.grad is not None)


@pytest.mark.parametrize(("now", "after"), [(3.0, 0.5), (-1.0, 0.001), (1e-6, 0.001), (0.2, 0.2)])
def test_albef_6_the_temperature_is_clamped(now: float, after: float, trainer) -> None:
    """Before every step."""
    run = trainer("multiway", Objectives(), learning_rate=1e-9)
    run.state.temperature.data.fill_(now)
    run.state.before_step(0.0)
    assert float(run.state.temperature.detach()) == pytest.approx(after)


def test_albef_6_validation_never_sees_a_temperature_out_of_bounds(trainer) -> None:
    """A large step may throw it over the bound: it is back before anything is measured."""
    run = trainer("multiway", Objectives(), learning_rate=1.0, warmup_share=0.0)
    run.one_step()
    assert 0.001 <= run.measure()["train/temperature"] <= 0.5


@pytest.mark.parametrize("seed", range(3))
def test_albef_7_duplicates_are_no_negatives_unless_published(seed: int) -> None:
    """The same for ViLT's and BridgeTower's false images that may be the true ones (trap f)."""
    keys = torch.tensor([1, 1, 2, 3])
    match = keys[:, None] == keys
    logits = 10 * match.float()  # duplicates are the most alike
    drawn = {}
    for settings in (PUBLISHED, MASKED):
        found = itm.draw_negatives(logits, logits.T, match, settings, drawing(seed))
        drawn[settings.same] = match[torch.arange(4), found.text_for_image_B].tolist()
    assert drawn == {"negative": [True, True, False, False], "masked": [False] * 4}
    assert ALBEF_OBJECTIVES.itc.same == ALBEF_OBJECTIVES.itm.same == "negative"
    assert (Objectives().itc.same, Objectives().itm.same) == ("positive", "masked")


@pytest.mark.parametrize("per_epoch", [1, 4, 1000])
def test_albef_13_the_ramp_ends_with_its_epochs(per_epoch: int, make) -> None:
    """It counts epochs and not steps, so a short epoch finishes it too."""
    design = make("dual_encoder", FULL)
    for over, done in ((1.0, per_epoch), (0.5, per_epoch / 2), (0.0, 0)):
        state = ObjectiveState(FULL.with_field("teacher.ramp_epochs", over), design)
        for step in range(0, 3 * per_epoch, max(1, per_epoch // 10)):
            state.before_step(step / per_epoch)
            assert state.ramp == pytest.approx(1.0 if step >= done else step / done)


def test_albef_14_a_checkpoint_that_lacks_something_is_refused(make) -> None:
    """Queue, teacher or temperature that are not there are not left as they are."""
    state = ObjectiveState(FULL, make("dual_encoder", FULL.with_field("itm.weight", 0.0)))
    whole = state.state_dict()
    state.load_state_dict(whole)
    for lacking in ("queue.", "twin.", "temperature", "queue.captions_QC", "queue._extra_state"):
        less = {k: v for k, v in whole.items() if not k.startswith(lacking)}
        with pytest.raises((KeyError, RuntimeError)):
            state.load_state_dict(less)


def test_albef_17_what_decays_and_what_the_optimizer_sees(trainer) -> None:
    """The temperature has no decay (there, and for VLMo's logit scale, it has); embeddings have,
    as there; the teacher is not in the optimizer at all.
    """
    run = trainer("multiway", FULL, weight_decay=0.3)
    decay = {id(p): g["weight_decay"] for g in run.optimizer.param_groups for p in g["params"]}
    assert decay[id(run.state.temperature)] == 0.0
    assert decay[id(run.design.word_embedding().weight)] == 0.3
    assert not any(id(p) in decay for p in run.state.twin.parameters())


def test_vilt_19_a_curve_is_the_loss_and_not_its_weight_times_it(trainer) -> None:
    """Only `loss` is weighted."""
    found = []
    for weight in (1.0, 3.0):
        run = trainer("multiway", Objectives().with_field("mlm.weight", weight))
        run.one_step()
        found.append(run.measure())
    one, three = found
    for name in ("itc", "itm", "mlm"):
        assert one[f"train/{name}_loss"] == three[f"train/{name}_loss"]
    more = three["train/loss"] - one["train/loss"]
    assert more == pytest.approx(2 * one["train/mlm_loss"], rel=1e-5)
