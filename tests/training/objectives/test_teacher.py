"""The momentum teacher, of every design of the registry: it follows, and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch

from architectures import registry
from architectures.contract import FusionDesign
from harness.training.data.batches import Batches
from harness.training.objectives.forward import terms, total
from harness.training.objectives.state import ObjectiveState
from harness.training.objectives.teacher import Taught, Twin
from harness.training.settings.objectives import Objectives
from tests.training.objectives.conftest import FULL, every_design, for_design


def moved(design: FusionDesign, seed: int) -> None:
    """As if a step had been taken."""
    drawing = torch.Generator().manual_seed(seed)
    for parameter in design.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=drawing)


def copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {role: parameter.detach().clone() for role, parameter in module.named_parameters()}


def same(one: Taught, other: Taught) -> bool:
    both = [(x, getattr(other, name)) for name, x in vars(one).items() if x is not None]
    assert both
    return all(torch.equal(x, y) for x, y in both)


@every_design
def test_it_follows(name: str, make, batches: Batches) -> None:
    """After n steps as by a loop over weights; a tied embedding stays tied; nothing is shared, and
    nothing learns. Dropout in it is a switch.
    """
    objectives = for_design(name).with_field("teacher.momentum", 0.9)
    design = make(name, objectives)
    state = ObjectiveState(objectives, design)
    twin = state.twin
    naive = copied(twin.design)
    assert set(twin.design.heads) == set(objectives.taught())
    for step in range(3):
        for role, value in design.named_parameters():
            assert step or role not in naive or torch.equal(naive[role], value)
        moved(design, step)
        theirs = copied(design)
        naive = {role: 0.9 * value + (1 - 0.9) * theirs[role] for role, value in naive.items()}
        twin.follow(design)
    for role, value in twin.design.named_parameters():
        torch.testing.assert_close(value, naive[role], rtol=1e-6, atol=1e-6)
    if "mlm" in objectives.taught():
        word = twin.design.word_embedding().weight
        assert twin.design.heads["mlm"].decoder.weight is word
        assert "heads.mlm.decoder.weight" not in naive
    assert not any(p.requires_grad for p in twin.parameters())
    assert not {p.data_ptr() for p in twin.parameters()} & {
        p.data_ptr() for p in design.parameters()
    }
    said = []
    for seed, dropout in ((0, True), (0, False), (1, False)):
        twin.settings = objectives.teacher.with_field("momentum", 1.0).with_field(
            "dropout", dropout
        )
        torch.manual_seed(seed)
        said.append(state.teach(design, batches.at(0), packed=True))
    assert not any(x.requires_grad for one in said for x in vars(one).values() if x is not None)
    assert same(said[1], said[2]) and not same(said[0], said[1])
    assert design.training


@pytest.mark.parametrize("update", ["before", "after"])
def test_when_it_follows(update: str, make, batches: Batches) -> None:
    """`before`, as published: asked with what it has just become; `after`: with what it was."""
    objectives = FULL.with_field("teacher.update", update).with_field("teacher.dropout", False)
    design = make("split_bert", objectives)
    state, old = ObjectiveState(objectives, design), ObjectiveState(objectives, design)
    moved(design, 0)
    new = copy.deepcopy(old)
    new.twin.follow(design)
    for other in (old, new):
        other.twin.settings = objectives.teacher.with_field("momentum", 1.0)
    batch = batches.at(0)
    said = state.teach(design, batch, packed=True)
    expected, wrong = (new, old) if update == "before" else (old, new)
    assert same(said, expected.teach(design, batch, packed=True))
    assert not same(said, wrong.teach(design, batch, packed=True))
    assert all(map(torch.equal, state.twin.parameters(), new.twin.parameters()))


@pytest.mark.parametrize(("momentum", "share"), [(1.0, 0.0), (0.0, 1.0)])
def test_momentum_of_1_and_0(momentum: float, share: float, make) -> None:
    objectives = FULL.with_field("teacher.momentum", momentum)
    design = make("dual_encoder", for_design("dual_encoder"))
    twin = Twin(design, objectives.teacher, ("itc",))
    before = copied(twin.design)
    moved(design, 0)
    twin.follow(design)
    for role, value in twin.design.named_parameters():
        assert torch.equal(value, design.get_parameter(role) if share else before[role])


def test_dropout_draws_by_the_seed_and_not_in_evaluation(make, batches: Batches) -> None:
    batch, design = batches.at(0), make("split_bert")
    state = ObjectiveState(FULL.with_field("teacher.momentum", 1.0), design)

    def ask(seed: int) -> Taught:
        torch.manual_seed(seed)
        return state.teach(design, batch, packed=True)

    assert same(ask(0), ask(0)) and not same(ask(0), ask(1))
    design.eval()
    assert same(ask(0), ask(1))


def test_no_gradient_reaches_it(make, batches: Batches) -> None:
    design = make("split_bert")
    state, batch = ObjectiveState(FULL, design), batches.at(0)
    state.before_step(0.5)
    taught = state.teach(design, batch, packed=True)
    before = copied(state.twin)
    drawing = torch.Generator().manual_seed(0)
    losses = terms(design, state, batch, negatives=drawing, taught=taught, packed=True)
    total(losses.terms, FULL).backward()
    assert all(p.grad is None for p in state.twin.parameters())
    assert all(torch.equal(p, before[role]) for role, p in state.twin.named_parameters())
    assert all(p.grad is not None for role, p in design.named_parameters())
    assert state.temperature.grad is not None


def test_only_those_who_ask_are_answered(make, batches: Batches) -> None:
    """No teacher without a question; what nobody asks is neither kept nor computed."""
    design, batch = make("split_bert"), batches.at(0)
    cases = {
        (): Objectives(),
        ("itc",): Objectives().with_field("itc.distil", 0.4),
        ("mlm",): Objectives().with_field("mlm.distil", 0.4),
    }
    for asked, objectives in cases.items():
        state = ObjectiveState(objectives, design)
        taught = state.teach(design, batch, packed=False)
        assert objectives.taught() == asked
        if not asked:
            assert taught is None and state.twin is None
            continue
        assert set(state.twin.design.heads) == set(asked)
        assert (taught.words_NV is not None) == ("mlm" in asked)
        assert (taught.image_BE is not None) == (taught.text_BE is not None) == ("itc" in asked)


def test_every_design_can_have_a_teacher() -> None:
    assert all(for_design(name).taught() for name in registry.names())
