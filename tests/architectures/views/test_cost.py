"""Costs against the formulae of the field, by hand, and passes that add up."""

import pytest
import torch

from architectures import build, registry
from architectures.backbone import Backbone, scale
from architectures.views.cost import Cost, Pass, cost, measure

TINY = Backbone(
    vision="vit_tiny_patch16_224", image_size=32, patch_size=8, image_width=32, image_layers=3,
    image_heads=2, text_width=32, text_layers=4, text_heads=2, text_mlp=128, max_positions=16,
    itc_width=8,
)  # fmt: skip
L, P, D, V = 10, 17, 32, 70


def block(n: int, d: int = D) -> int:
    """Multiply-accumulates of a block on n tokens; references.md section 0."""
    return 12 * n * d * d + 2 * n * n * d


def cross(n: int, k: int, d: int = D) -> int:
    return 2 * n * d * d + 2 * k * d * d + 2 * n * k * d


@pytest.fixture(scope="module")
def split() -> Cost:
    return cost("split_bert", {"text_layers": 1}, TINY, V, text_tokens=L)


def test_flops_equal_the_formulae(split):
    patches = (P - 1) * 3 * 8 * 8 * D
    assert split.image.flops == 2 * (3 * block(P) + patches)
    assert split.text.flops == 2 * block(L)
    assert split.fuse.flops == 2 * 3 * (block(L) + cross(L, P))
    assert split.heads["itc"].flops == 2 * (2 * D * 8)
    assert split.heads["itm"].flops == 2 * (D * 2)
    assert split.masked == 2
    assert split.heads["mlm"].flops == 2 * 2 * (D * D + D * V)


def test_late_interaction_maps_every_token_and_costs_no_weight():
    pooled, late = (
        cost("dual_encoder", {"similarity": how}, TINY, V, text_tokens=L)
        for how in ("pooled", "late_mean")
    )
    assert pooled.heads["itc"].flops == 2 * (2 * D * 8)
    assert late.heads["itc"].flops == 2 * (P + L) * D * 8
    assert (late.image.flops, late.text.flops) == (pooled.image.flops, pooled.text.flops)
    assert late.parameters == pooled.parameters


def test_reading_some_positions_saves_their_share_of_the_last_layer(split):
    saved = (block(L) - 2 * L * D * D) / L + 2 * D * D + 2 * P * D  # keys, values: all positions
    assert split.fuse.flops - split.fuse_pooled.flops == 2 * (L - 1) * saved
    assert split.fuse_masked.flops - split.fuse_pooled.flops == 2 * 2 * saved


def test_parameters_at_the_papers_sizes():
    with torch.device("meta"):
        design = build.construct("split_bert", {}, scale("base"), 30522)
    size = {n: sum(p.numel() for p in m.parameters()) for n, m in design.named_children()}
    mlm = sum(p.numel() for n, p in design.heads["mlm"].named_parameters() if n != "decoder.weight")
    assert size["image"] == 85_844_736
    assert size["embeddings"] + size["layers"] + mlm == 123_697_722
    assert size["embeddings"] == 23_837_184
    assert size["layers"] == 12 * 7_087_872 + 6 * 2_363_904


def test_a_design_without_fusion_has_no_cost_there():
    with torch.device("meta"):
        design = build.construct("dual_encoder", {"text_layers": 2}, TINY, V)
    counted = measure(design, text_tokens=L)
    assert counted.text.flops == 2 * 2 * block(L)
    assert counted.fuse == Pass() and counted.heads.keys() == {"itc"}


@pytest.mark.parametrize("name", registry.names())
def test_every_design_has_a_cost_that_adds_up(name):
    smaller = TINY.with_field("image_layers", 1).with_field("text_layers", 6)
    depths = {"text_layers": 2, "fusion_layers": 1}
    fields = {n: d for n, d in depths.items() if n in registry.find(name).Config.model_fields}
    made = cost(name, fields, smaller, V, text_tokens=L)
    assert sum(made.by_part.values()) == made.parameters == made.trainable
    assert made.image.flops > 0 and made.image.kept_bytes > 0
