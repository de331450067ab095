"""The full objective in one step: packed and padded alike, objectives off are absent."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from architectures.facts import OBJECTIVES
from harness.training.data.batches import Batches, validation_batches
from harness.training.data.corpus import Corpus
from harness.training.loop.gradients import Gradients
from harness.training.objectives.forward import compared, terms, total
from harness.training.objectives.state import ObjectiveState
from harness.training.objectives.term import Losses
from harness.training.objectives.validation import curve_values, validate
from harness.training.settings.objectives import Objectives
from tests.training.objectives.conftest import BATCH, FULL, every_design, for_design

DISTIL_NOTES = {
    "itc": {"itc_hard_loss", "itc_distil_loss", "itc_pair_cosine"},
    "itm": {"itm_negative_cosine"},
    "mlm": {"mlm_hard_loss", "mlm_distil_loss"},
    "lm": set(),
}


def numbers(losses: Losses) -> dict[str, float]:
    found = {name: float(term.loss.detach()) for name, term in losses.terms.items()}
    return found | {name: float(note) for name, note in losses.notes.items()}


@every_design
def test_packed_and_padded_are_the_same(name: str, make, batches: Batches) -> None:
    """Second step of an epoch, with teacher and queue; dropout off: losses, notes, queue and
    gradients.
    """
    objectives = for_design(name)
    design, found = make(name, objectives, dropout=0.0), []
    batch = batches.at(1)
    assert not batch.text_is_real_BL.all()
    for packed in (True, False):
        torch.manual_seed(0)  # of the noise in the queue
        state = ObjectiveState(objectives, design)
        state.before_step(0.5)
        taught = state.teach(design, batch, packed=packed)
        drawing = torch.Generator().manual_seed(0)
        losses = terms(design, state, batch, negatives=drawing, taught=taught, packed=packed)
        state.remember(taught, batch.identity)
        found.append(numbers(losses))
        design.zero_grad()
        total(losses.terms, objectives).backward()
        norms = Gradients.of_design(design, state).norms()
        found[-1] |= {norm: float(value) for norm, value in norms.items()}
        if state.queue is not None:
            found[-1]["queue"] = float(state.queue.image_QE[:BATCH][..., 0].square().sum())
    active = set(objectives.active())
    expected = active.union(*(DISTIL_NOTES[one] for one in active))
    if "itc" not in active:
        expected -= {"itm_negative_cosine"}
    assert set(found[0]) - {"queue", *norms} == expected
    assert found[0] == pytest.approx(found[1], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    "on", [("itc",), ("itm",), ("mlm",), ("lm",), ("itc", "itm"), ("itm", "mlm"), ("itc", "lm")]
)
def test_objectives_that_are_off_are_absent(on: tuple[str, ...], make, batches: Batches) -> None:
    objectives = FULL
    for name in set(FULL.active()) - set(on):
        objectives = objectives.with_field(f"{name}.weight", 0.0)
    design = make("split_bert", objectives)
    assert set(design.heads) == set(on)
    state, batch = ObjectiveState(objectives, design), batches.at(0)
    taught = state.teach(design, batch, packed=True)
    assert (taught is None) == (not {"itc", "mlm"} & set(on)) and (state.queue is None) == (
        "itc" not in on
    )
    drawing = torch.Generator().manual_seed(0)
    losses = terms(design, state, batch, negatives=drawing, taught=taught, packed=True)
    state.remember(taught, batch.identity)
    assert tuple(losses.terms) == on
    notes = set().union(*(DISTIL_NOTES[name] for name in on))
    assert set(losses.notes) == (notes if "itc" in on else notes - {"itm_negative_cosine"})


def test_a_switched_off_part_changes_no_other(make, batches: Batches) -> None:
    """alpha 0 with a teacher that gives keys is the same ITC as without distillation."""
    design, batch, found = make("split_bert", dropout=0.0), batches.at(0), []
    for objectives in (FULL, FULL.with_field("itc.distil", 0.0).with_field("mlm.distil", 0.0)):
        torch.manual_seed(0)
        state = ObjectiveState(objectives, design)
        state.before_step(0.0)  # the ramp stands at 0
        taught = state.teach(design, batch, packed=True)
        drawing = torch.Generator().manual_seed(0)
        losses = terms(design, state, batch, negatives=drawing, taught=taught, packed=True)
        found.append({name: float(term.loss.detach()) for name, term in losses.terms.items()})
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_validation_asks_neither_teacher_nor_queue(
    corpus: Corpus, make, batches: Batches, trainer
) -> None:
    """Its losses are those of a state that has none, whatever the queue and the ramp say."""
    design = make("split_bert")
    fixed = validation_batches(corpus.val, corpus.tokenizer, 8, 4, FULL.mlm)
    plain = Objectives().with_field("lm.weight", 1.0)
    bare, full = ObjectiveState(plain, design), ObjectiveState(FULL, design)
    full.settings = FULL.with_field("itc.same", "positive")
    for parameter in full.twin.parameters():
        parameter.data.fill_(torch.nan)
    full.queue.image_QE.fill_(torch.nan)
    found = [
        curve_values(validate(design, state, fixed, trainer("split_bert", plain).precision), plain)
        for state in (bare, full)
    ]
    assert found[0] == found[1] and design.training
    names = {f"val/{o}_{what}" for o in OBJECTIVES for what in ("loss", "accuracy")}
    assert set(found[0]) == names | {"val/loss"}


def test_the_terms_are_of_the_batch_that_is_fed(make, batches: Batches) -> None:
    """Another picture in a row changes every loss; which batch of an epoch it is changes none."""
    design = make("split_bert", dropout=0.0)
    found = []
    for change in (None, "image", "step"):
        batch = batches.at(0)
        if change == "image":
            batch = dataclasses.replace(batch, image_BCHW=batch.image_BCHW.flip(0))
        if change == "step":
            batch = dataclasses.replace(batch, step=99)
        torch.manual_seed(0)
        state = ObjectiveState(FULL, design)
        taught = state.teach(design, batch, packed=True)
        drawing = torch.Generator().manual_seed(0)
        found.append(numbers(terms(design, state, batch, negatives=drawing, taught=taught)))
    assert found[0] == found[2]
    assert all(found[0][name] != found[1][name] for name in OBJECTIVES)


@pytest.mark.parametrize("name", ["split_bert", "query_bottleneck"])
@torch.no_grad()
def test_cosines_are_exact_under_autocast(name: str, make, batches: Batches) -> None:
    """They are divided by a small temperature; bfloat16 would leave three digits of them."""
    objectives = for_design(name)
    design, batch = make(name, objectives).eval(), batches.at(0)
    state = ObjectiveState(objectives, design)
    taught = state.teach(design, batch, packed=True)
    rows = taught.image_BE, taught.text_BE
    exact = compared(rows, batch.identity, state, taught)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = compared(rows, batch.identity, state, taught)
    for one, other in zip(exact, under, strict=True):
        assert torch.equal(one.cosine_BK, other.cosine_BK)
        assert torch.equal(one.taught_BK, other.taught_BK)
    if rows[0].ndim == 2:
        own_BB = (rows[0].double()[:, None] * rows[1].double()).sum(-1)
        torch.testing.assert_close(
            exact[0].cosine_BK[:, :BATCH].double(), own_BB, rtol=0, atol=1e-6
        )
