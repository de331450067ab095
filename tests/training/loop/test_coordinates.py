"""A coordinate check: under `mup` a few steps move every layer as far at 512 columns as at 64.

Yang et al., Tensor Programs V (arXiv 2203.03466). What a linear map computes of a fixed batch is
compared before and after four steps of AdamW: the logarithm of its mean absolute change against
the logarithm of the width. Bounds were chosen on seeds 0 and 100.
"""

import copy
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from architectures import build, registry
from architectures.backbone import Backbone
from harness.planning.plan import applicable
from harness.training.data.batches import Batches, validation_batches
from harness.training.data.corpus import Corpus
from harness.training.loop.trainer import Trainer
from harness.training.objectives.forward import terms
from harness.training.randomness import stream
from harness.training.settings.loop import Budget, Final, Freeze, Optimizer, Span
from harness.training.settings.objectives import Objectives
from harness.training.settings.spec import TrainSpec

LEVEL = 0.35
"""Slope within which a change is level; one that goes by the width has 1."""
GROWS = 0.5
"""Slope above which half of all maps are under `standard`."""
WIDTHS = (64, 128, 256, 512)
ROWS, STEPS, SEED = 16, 4, 7
FIELDS = {
    "split_bert": {"text_layers": 2},
    "full_text_deep_fusion": {"fusion_layers": 2},
    "distilbert_fusion": {"distil_layers": 2},
    "query_bottleneck": {"queries": 4},
    "bridge": {"fusion_layers": 2},
    "co_attention": {"fusion_layers": 2},
    "merged_attention": {"fusion_layers": 2},
}
OBJECTIVES = Objectives().with_field("itm.hard_share", 0.0)
OUTPUTS = ("heads.itm", "heads.mlm.decoder")
"""Their logits start at 1/sqrt(width) under `mup`, and what hidden layers move changes them so much
less at first: they are only to have no growth."""


def trainer_of(
    name: str,
    corpus: Corpus,
    backbone: Backbone,
    seed: int = SEED,
    fields: Mapping[str, object] = MappingProxyType({}),
    **settings: object,
) -> Trainer:
    cls, config = registry.find(name), {**FIELDS.get(name, {}), **fields}
    objectives, _ = applicable(OBJECTIVES, cls.facts(registry.config(name, config), backbone))
    spec = TrainSpec(
        design=name, config=config, backbone=backbone, data="", objectives=objectives, seed=seed,
        optimizer=Optimizer(learning_rate=1e-3, warmup_share=0, final_share=1, clip_norm=0),
        budget=Budget(steps=STEPS), batch_size=ROWS, **settings,
    )  # fmt: skip
    words = corpus.tokenizer.vocabulary
    design = build.design(
        name, config, backbone, words, draw=lambda role: stream(seed, "init", role),
        objectives=objectives.active(),
    )  # fmt: skip
    batches = Batches(corpus.train, corpus.tokenizer, ROWS, seed, objectives.mlm)
    return Trainer(spec, design, batches, [])


def backbone_of(width: int, parameterisation: str, heads: int | None = None) -> Backbone:
    heads = heads or width // 32
    return Backbone(
        vision="vit_tiny_patch16_224", image_size=16, patch_size=8, image_layers=2, text_layers=4,
        max_positions=16, dropout=0.0, image_width=width, text_width=width, text_mlp=4 * width,
        image_heads=heads, text_heads=heads, itc_width=width, init_std=0.08,
        parameterisation=parameterisation,
    )  # fmt: skip


@torch.no_grad()
def computed(run: Trainer, corpus: Corpus) -> dict[str, Tensor]:
    """What every linear map makes of the validation pictures, by its role."""
    seen: dict[str, Tensor] = {}

    def keep(role: str, output: Tensor) -> None:
        seen.setdefault(role, output.clone())

    hooks = [
        linear.register_forward_hook(lambda _, __, x, role=role: keep(role, x))
        for role, linear in run.design.eval().named_modules()
        if isinstance(linear, nn.Linear)
    ]
    masking = run.spec.objectives.mlm
    (batch,) = validation_batches(corpus.val, corpus.tokenizer, 8, 8, masking)
    terms(run.design, run.state, batch, negatives=torch.Generator().manual_seed(0))
    for hook in hooks:
        hook.remove()
    run.design.train()
    return seen


def changes(run: Trainer, corpus: Corpus) -> dict[str, float]:
    """By how much the steps of a run change what each map computes, on average."""
    before = computed(run, corpus)
    for _ in range(STEPS):
        run.one_step()
    after = computed(run, corpus)
    return {role: (after[role] - x).abs().mean().item() for role, x in before.items()}


def slopes(
    name: str, corpus: Corpus, how: str, widths: tuple[int, ...], heads: int | None = None
) -> dict[str, float]:
    """The power of the width by which what each map computes changes."""
    each = [changes(trainer_of(name, corpus, backbone_of(w, how, heads)), corpus) for w in widths]
    x_W = np.log(widths) - np.log(widths).mean()
    return {
        role: float(x_W @ np.log([change[role] for change in each]) / (x_W @ x_W))
        for role in each[0]
    }


def check(name: str, corpus: Corpus, widths: tuple[int, ...], heads: int | None = None) -> None:
    level = slopes(name, corpus, "mup", widths, heads)
    hidden = {role: slope for role, slope in level.items() if role not in OUTPUTS}
    assert not {role: slope for role, slope in hidden.items() if abs(slope) > LEVEL}
    if "heads.mlm.decoder" in level:
        assert level["heads.mlm.decoder"] < LEVEL
    assert np.median([*slopes(name, corpus, "standard", widths, heads).values()]) > GROWS


def test_what_a_step_changes_is_level_over_widths(corpus: Corpus) -> None:
    check("split_bert", corpus, (64, 256))


def weights(run: Trainer) -> dict[str, Tensor]:
    return {role: p.detach().clone() for role, p in run.design.named_parameters()}


def test_at_nanos_widths_it_trains_to_the_same_bits(corpus: Corpus) -> None:
    runs = [trainer_of("split_bert", corpus, backbone_of(64, how)) for how in ("standard", "mup")]
    for run in runs:
        run.one_step()
        run.one_step()
    one, other = map(weights, runs)
    assert all(torch.equal(value, other[role]) for role, value in one.items())


def test_rates_go_by_width_and_what_decays_in_a_step_does_not(corpus: Corpus) -> None:
    """Adam's first step is the learning rate in size. What decays is rate times decay."""
    wide = backbone_of(256, "mup").with_field("text_mlp", 512)
    run = trainer_of("split_bert", corpus, wide, fields={"new_part_rate": 3.0})
    groups = {(g["rate"], g["weight_decay"]) for g in run.optimizer.param_groups}
    for wanted in (
        (1.0, 0.02),
        (1.0, 0.0),
        (1 / 4, 0.08),
        (1 / 2, 0.04),
        (3.0, 0.0),
        (3 / 4, 0.08),
    ):
        assert wanted in groups
    before = weights(run)
    run.one_step()
    moved = {role: (value - before[role]).abs().median() for role, value in weights(run).items()}
    times = {"embeddings.norm.weight": 1, "layers.0.mlp.outer.weight": 1 / 2,
             "image.vit.blocks.0.attn.qkv.weight": 1 / 4, "heads.itm.weight": 3 / 4}  # fmt: skip
    for role, rate in times.items():
        assert float(moved[role]) == pytest.approx(1e-3 * rate, rel=0.02), role


def test_it_freezes_and_goes_on_where_it_was_stopped(corpus: Corpus) -> None:
    frozen = {"freeze": Freeze(image=True, text=Span(until=0.5)), "final": Final(kind="ema")}
    whole, first, second = (
        trainer_of("split_bert", corpus, backbone_of(128, "mup"), **frozen) for _ in range(3)
    )
    start = weights(first)
    for _ in range(STEPS):
        whole.one_step()
    first.one_step()
    first.one_step()
    second.restore(copy.deepcopy(first.snapshot()))
    for _ in range(STEPS - 2):
        second.one_step()
    one, other = weights(whole), weights(second)
    assert all(torch.equal(value, other[role]) for role, value in one.items())
    still = {role for role, value in one.items() if torch.equal(value, start[role])}
    assert "image.vit.blocks.1.mlp.fc1.weight" in still and "layers.0.mlp.inner.weight" not in still


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", registry.names())
def test_it_is_in_every_design(name: str, corpus: Corpus) -> None:
    check(name, corpus, WIDTHS)


@pytest.mark.slow
def test_it_is_where_heads_grow_and_not_their_number(corpus: Corpus) -> None:
    check("split_bert", corpus, WIDTHS, heads=2)
