"""Which parameters are decayed and how fast each of them learns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from architectures import build, registry
from architectures.backbone import scale
from architectures.contract import FusionDesign
from harness.outputs.folder import RunFolder
from harness.planning.plan import plan
from harness.runs.assemble import build_design, load_data, training_batches
from harness.runs.run import execute
from harness.study import Cell, Study, Variant
from harness.training.loop import optimizer
from harness.training.loop.trainer import Trainer
from harness.training.objectives.state import ObjectiveState
from harness.training.settings.loop import Optimizer
from harness.training.settings.objectives import Objectives
from harness.training.settings.spec import RunSpec

NEW = ("cross_attention", "cross_norm", "pooler", "types", "heads.itc", "heads.itm")
FIELDS = {"text_layers": 1, "pooler": True, "type_embeddings": True}


def groups_of(
    name: str, fields: dict[str, Any], decay: float = 0.02
) -> tuple[FusionDesign, list[tuple[float, float, list[str]]]]:
    """A design on the meta device; rate, decay and roles of every group of its parameters."""
    with torch.device("meta"):
        design = build.construct(name, fields, scale("nano"), 50)
    state = ObjectiveState(Objectives(), design)
    adamw = optimizer.build(Optimizer(weight_decay=decay), design, state, fused=False)
    roles = {id(p): role for role, p in design.named_parameters()}
    roles[id(state.temperature)] = "temperature"
    return design, [
        (group["rate"], group["weight_decay"], [roles[id(p)] for p in group["params"]])
        for group in adamw.param_groups
    ]


def of(design: FusionDesign, *, matrices: bool) -> list[str]:
    return [role for role, p in design.named_parameters() if (p.ndim > 1) == matrices]


def is_new(role: str) -> bool:
    return any(part in role for part in NEW)


@pytest.mark.parametrize("decay", [0.02, 0.0])
@pytest.mark.parametrize("name", ["dual_encoder", "split_bert"])
def test_at_rate_one_there_are_matrices_and_the_rest(name: str, decay: float) -> None:
    """In the order of the parameters, in which the gradient's norm is summed."""
    design, groups = groups_of(name, {}, decay)
    rest = [*of(design, matrices=False), "temperature"]
    assert groups == [(1.0, decay, of(design, matrices=True)), (1.0, 0.0, rest)]


@pytest.mark.parametrize("name", registry.names())
def test_every_parameter_is_in_one_group_and_norms_are_not_decayed(name: str) -> None:
    design, groups = groups_of(name, {"new_part_rate": 3.0})
    every = [role for _, _, roles in groups for role in roles]
    assert sorted(every) == sorted([*(n for n, _ in design.named_parameters()), "temperature"])
    flat = {*of(design, matrices=False), "temperature"}
    bare = flat | ({"positions.bias_table"} & set(every))  # VLMo's relative positions
    assert all((role in bare) == (decay == 0) for _, decay, roles in groups for role in roles)
    fast = {role for rate, _, roles in groups for role in roles if rate == 3}
    assert {role for role in fast if role.startswith("heads.")} == {
        role for role in every if role.startswith(("heads.itc.", "heads.itm."))
    }
    assert not any(role.startswith(("image.", "embeddings.", "heads.mlm.")) for role in fast)


def test_a_table_of_relative_positions_is_not_decayed() -> None:
    """A matrix, which microsoft/unilm's VLMo exempts by name; other tables are decayed."""
    _, groups = groups_of("multiway", {})
    decays = {role: decay for _, decay, roles in groups for role in roles}
    assert decays["positions.bias_table"] == 0 and decays["embeddings.word.weight"] > 0
    _, groups = groups_of("multiway", {"positions": "absolute"})
    decays = {role: decay for _, decay, roles in groups for role in roles}
    assert decays["image.vit.pos_embed"] > 0


def test_new_parts_have_their_own_rate() -> None:
    design, groups = groups_of("split_bert", {**FIELDS, "new_part_rate": 5.0})
    wanted = [
        (rate, decay, [r for r in of(design, matrices=bool(decay)) if is_new(r) == (rate == 5)])
        for rate, decay in ((1.0, 0.02), (1.0, 0.0), (5.0, 0.02), (5.0, 0.0))
    ]
    wanted[1][2].append("temperature")
    assert sorted(groups) == sorted(wanted)
    assert groups[0][0] == 1.0


def test_a_stack_drawn_fresh_is_new() -> None:
    fields = {"new_part_rate": 5.0, "fusion_layers": 2, "fusion_from": (11, None)}
    _, groups = groups_of("full_text_deep_fusion", fields)
    fast = {role for rate, _, roles in groups for role in roles if rate == 5}
    assert "fusion.1.mlp.inner.weight" in fast and "fusion.0.cross_norm.bias" in fast
    assert "fusion.0.mlp.inner.weight" not in fast


def spec_of(study: Study, outputs: Path, rate: float) -> RunSpec:
    variant = Variant("split_bert", **FIELDS, new_part_rate=rate)
    one = study.model_copy(update={"cells": (Cell(variant=variant, label="x"),), "control": "x"})
    return plan(one, outputs).specs[0]


def first_step(spec: RunSpec, outputs: Path) -> dict[str, Tensor]:
    """By how much each weight moves in the first step of a run."""
    corpus = load_data(spec, outputs)
    design = build_design(spec, corpus.tokenizer.vocabulary)
    before = {role: p.detach().clone() for role, p in design.named_parameters()}
    Trainer(spec.train, design, training_batches(spec, corpus), []).one_step()
    return {role: p.detach() - before[role] for role, p in design.named_parameters()}


def test_new_parts_move_five_times_as_far(tiny: Study, outputs: Path) -> None:
    """Adam's first step is the learning rate in size, so it shows the rate itself."""
    slow, fast = (first_step(spec_of(tiny, outputs, rate), outputs) for rate in (1.0, 5.0))
    assert any(map(is_new, slow)) and not all(map(is_new, slow))
    for role, moved in slow.items():
        times = 5 if is_new(role) else 1
        torch.testing.assert_close(fast[role], times * moved, rtol=1e-3, atol=1e-6)


def test_the_learning_rate_that_is_logged_is_the_schedules(tiny: Study, outputs: Path) -> None:
    spec = spec_of(tiny, outputs, 5.0)
    assert execute(spec, outputs) == "done"
    lines = RunFolder(outputs, spec.train_key()).metric_lines()[1:]
    logged = [line.values["train/learning_rate"] for line in lines]
    # Step 1 of 6 is at the peak; then 36, 108 and 180 degrees of the cosine, down to a tenth.
    wanted = [5e-4 * share for share in (0.9140576475, 0.4109423525, 0.1)]
    assert logged == pytest.approx(wanted, rel=1e-8)


def test_the_settings_reach_adamw() -> None:
    settings = Optimizer(learning_rate=3e-3, betas=(0.8, 0.9), eps=1e-5, weight_decay=0.3)
    weight = torch.nn.Parameter(torch.ones(2, 2))
    frozen = torch.nn.Parameter(torch.ones(2, 2), requires_grad=False)
    adamw = optimizer.over(settings, [("a.w", weight), ("b", frozen)], {"a.": 2.0}, fused=False)
    (group,) = adamw.param_groups
    shown = {name: group[name] for name in ("lr", "betas", "eps", "weight_decay", "rate", "fused")}
    assert shown == {
        "lr": 3e-3, "betas": (0.8, 0.9), "eps": 1e-5, "weight_decay": 0.3, "rate": 2.0,
        "fused": False,
    }  # fmt: skip
    assert group["params"] == [weight]


def test_the_first_prefix_that_fits_gives_the_rate() -> None:
    named = [(role, torch.nn.Parameter(torch.ones(2))) for role in ("a.b.w", "a.w", "c")]
    rates = {"a.b.": 3.0, "a.": 2.0}
    adamw = optimizer.over(Optimizer(), named, rates, fused=True)
    rate_of = {id(p): group["rate"] for group in adamw.param_groups for p in group["params"]}
    assert [rate_of[id(p)] for _, p in named] == [3.0, 2.0, 1.0]
    assert all(group["fused"] for group in adamw.param_groups)
