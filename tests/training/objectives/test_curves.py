"""Names that curves are known by, and the norm of the gradient by part."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.training.loop.gradients import PARTS, Gradients, part_of
from harness.training.objectives.state import ObjectiveState
from tests.training.objectives.conftest import FULL, every_design, for_design

START = ["train/temperature", "train/itc_alpha", "train/mlm_alpha", "train/queue_fill"]
LOSSES = [
    "itc_loss",
    "itc_accuracy",
    "itm_loss",
    "itm_accuracy",
    "mlm_loss",
    "mlm_accuracy",
    "lm_loss",
    "lm_accuracy",
    "loss",
]
NOTES = [
    "itc_hard_loss",
    "itc_distil_loss",
    "itc_pair_cosine",
    "itm_negative_cosine",
    "mlm_hard_loss",
    "mlm_distil_loss",
    "grad_norm",
    "grad_norm_image",
    "grad_norm_text",
    "grad_norm_fusion",
    "grad_norm_heads",
]


def test_names_of_the_full_objective(trainer) -> None:
    """Stable: results and reports read them, and old runs hold them."""
    objectives = FULL.with_field("itc.queue_start", "empty")
    run = trainer("multiway", objectives, steps=4, gap=8)
    first, middle, _ = [measurement.values for measurement in run.train(lambda: False)]
    fixed = [f"{room}/{name}" for room in ("val", "gap") for name in LOSSES]
    assert list(first) == START + fixed
    train = [f"train/{name}" for name in LOSSES + NOTES]
    assert list(middle) == [*START, *train, "train/learning_rate", *fixed]
    assert first["train/queue_fill"] == 0.0 and middle["train/queue_fill"] == 1.0
    # 8 steps an epoch: the second step, the last before the measurement, began at 1 / 8
    assert first["train/itc_alpha"] == 0.0 == first["train/mlm_alpha"]
    assert middle["train/itc_alpha"] == middle["train/mlm_alpha"] == pytest.approx(0.4 / 8)
    assert first["train/temperature"] == pytest.approx(0.07) != middle["train/temperature"]
    for part in LOSSES:
        assert first[f"gap/{part}"] != 0.0 or "accuracy" in part
    # a mean of (1 - alpha) hard + alpha distil lies between the two
    mixed = middle["train/itc_hard_loss"], middle["train/itc_distil_loss"]
    assert min(mixed) - 1e-4 <= middle["train/itc_loss"] <= max(mixed) + 1e-4
    assert -1 <= middle["train/itm_negative_cosine"] <= 1


def test_a_design_without_fusion_has_the_curves_it_can_have(trainer) -> None:
    run = trainer("dual_encoder", for_design("dual_encoder"), steps=2)
    *_, last = [measurement.values for measurement in run.train(lambda: False)]
    assert {"train/itc_loss", "train/itc_hard_loss", "val/itc_loss"} <= set(last)
    assert not any("itm" in name or "mlm_l" in name for name in last)
    assert "train/grad_norm_fusion" not in last and last["train/grad_norm_text"] > 0


@pytest.mark.parametrize(
    ("role", "part"),
    {
        "image.vit.blocks.0.mlp.fc1.weight": "image",
        "embeddings.word.weight": "text",
        "layers.1.mlp.inner.weight": "text",
        "layers.10.mlp.inner.weight": "text",
        "text_norm.weight": "text",
        "layers.2.mlp.inner.weight": "fusion",
        "fusion.0.mlp.inner.weight": "fusion",
        "pooler.weight": "fusion",
        "heads.itc.image.weight": "heads",
        "state.temperature": "heads",
    }.items(),
)
def test_part_by_hand(role: str, part: str) -> None:
    """Text reads the picture in layers 2 and 11, and not in 1 and 10."""
    assert part_of(role, ("layers.2", "layers.11")) == part


@every_design
def test_parts_sum_to_the_whole_norm(name: str, make) -> None:
    """Each parameter belongs to one part, and is counted once."""
    objectives = for_design(name)
    design = make(name, objectives)
    state = ObjectiveState(objectives, design)
    drawing = torch.Generator().manual_seed(0)
    learning = [*design.named_parameters(), ("state.temperature", state.temperature)]
    squares = dict.fromkeys(PARTS, 0.0)
    for role, parameter in learning:
        parameter.grad = torch.randn(parameter.shape, generator=drawing)
        squares[part_of(role, design.crossings())] += float(parameter.grad.square().sum())
    gradients = Gradients.of_design(design, state)
    norms = {part: float(norm) for part, norm in gradients.norms().items()}
    there = [part for part in PARTS if squares[part]]
    assert list(norms) == ["grad_norm", *(f"grad_norm_{part}" for part in there)]
    assert norms["grad_norm"] ** 2 == pytest.approx(sum(squares.values()), rel=1e-5)
    for part in there:
        assert norms[f"grad_norm_{part}"] ** 2 == pytest.approx(squares[part], rel=1e-5)
    can_fuse = design.facts(design.config, design.backbone).can_fuse
    assert squares["image"] > 0 and squares["text"] > 0 and squares["heads"] > 0
    assert (squares["fusion"] > 0) == can_fuse
    gradients.clip(gradients.norms()["grad_norm"], 0.5)
    assert float(gradients.norms()["grad_norm"]) == pytest.approx(0.5, rel=1e-4)


class Seen(TorchDispatchMode):
    """The operators that are called inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_a_gpu_would_not_wait_for_the_norms(make) -> None:
    """Neither a number is asked for, nor is a tensor made of numbers of Python."""
    objectives = for_design("split_bert")
    design = make("split_bert", objectives)
    gradients = Gradients.of_design(design, ObjectiveState(objectives, design))
    for parameter in design.parameters():
        parameter.grad = torch.ones_like(parameter)
    with Seen() as seen:
        gradients.clip(gradients.norms()["grad_norm"], 0.5)
    assert "linalg_vector_norm" in seen.names
    assert not seen.names & {"lift_fresh", "_local_scalar_dense", "nonzero", "index"}
