"""Grad-CAM maps over the registry: against loops with a plain softmax, and what has no map."""

import contextlib
import dataclasses

import pytest
import torch
from torch.nn import functional as F

from architectures import registry
from architectures.downstream import gradcam
from architectures.frozen import SettingError
from architectures.layers import blocks, vit_blocks
from architectures.layers.heads import itc_head
from architectures.layers.kept import kept_attention
from architectures.layers.similarity import similarities
from tests.architectures.conftest import SMALL
from tests.architectures.designs.test_designs import (
    INDIRECT,
    awake,
    every_design,
    one_of_each,
    states,
)

HEADS = ("itc", "itm")


@contextlib.contextmanager
def plain(monkeypatch, layer):
    """Computes all attention by a plain softmax, and keeps that of one layer: (B, H, Q, K)."""
    kept, inside = [], []

    def attention(q, k, v, bias=None, *_):
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5
        weights = torch.exp(scores if bias is None else scores + bias)
        weights = weights / weights.sum(-1, keepdim=True)
        kept.extend([weights] if inside else [])
        return torch.einsum("bhqk,bhkd->bhqd", weights, v)

    def fused(q, k, v, attn_mask=None, **_):
        return attention(q, k, v, attn_mask)

    with monkeypatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", fused)
        patch.setattr(vit_blocks, "attend", attention)
        patch.setattr(blocks, "attend", attention)
        hooks = (
            layer.register_forward_pre_hook(lambda *_: inside.append(True)),
            layer.register_forward_hook(lambda *_: inside.clear()),
        )
        yield kept
        for hook in hooks:
            hook.remove()


def loops(weights, gradient, rows):
    """Sums probability times positive gradient by hand: (B, H, Q, K) -> (B, K)."""
    batch, heads, _, keys = weights.shape
    total = torch.zeros(batch, keys, dtype=weights.dtype)
    for b in range(batch):
        for h in range(heads):
            for q in rows[b]:
                for k in range(keys):
                    if gradient[b, h, q, k] > 0:
                        total[b, k] += weights[b, h, q, k] * gradient[b, h, q, k] / heads
    return total


@one_of_each
def test_maps_are_probabilities_times_positive_gradients(make, batch, monkeypatch, name, fields):
    images, ids, real = (x[:3] for x in batch)
    design = awake(make(name, fields))
    facts = design.facts(design.config, design.backbone)
    for by in HEADS:
        if gradcam.why_not(facts, HEADS, by):
            with pytest.raises((SettingError, TypeError, KeyError)):
                gradcam.maps(design, images, ids, real, by=by)
            continue
        got = gradcam.maps(design, images, ids, real, by=by)
        assert got.map_Bhw.shape == (3, 2, 2) and not got.map_Bhw.requires_grad
        if by == "itc":
            layer = design.get_submodule(gradcam.layer_of(design, by, None))
            with plain(monkeypatch, layer) as kept:
                image, head = design.encode_image(images), itc_head(design)
                _ = image.pooled_BD
                (weights,) = kept
            a, b = head.features(image, design.encode_text(ids, real))
            if head.similarity == "pooled":
                score_B = torch.einsum("b...e,be->b...", a, b).reshape(3, -1).amax(1)
            else:  # a loop over tokens holds it elsewhere
                score_B = similarities(a, b, head.similarity).diagonal()
            torch.testing.assert_close(got.score.diagonal(), score_B)
            rows = [[0] if head.similarity == "pooled" else range(5)] * 3
        else:
            layer = gradcam.layer_of(design, by, None)
            image, text = design.encode_image(images), design.encode_text(ids, real)
            fused = design.fuse(image, text, keep_attention=[layer])
            weights, score_B = fused.attention[layer], design.heads["itm"](fused.pooled_BD)[:, 1]
            torch.testing.assert_close(got.score[:, 1], score_B)
            rows = [torch.arange(7)[own] for own in real]
        (gradient,) = torch.autograd.grad(score_B.sum(), weights)
        wanted = loops(weights, gradient, rows) / (7 if by == "itm" else len(rows[0]))
        torch.testing.assert_close(got.map_Bhw.flatten(1), wanted[:, -4:].detach())
        assert got.map_Bhw.any()


@every_design
def test_every_design_has_a_way_or_a_reason(make, name, fields):
    design = make(name, fields)
    facts = design.facts(design.config, design.backbone)
    way = gradcam.way(facts, HEADS, "itm")
    if way is None:
        assert all(gradcam.why_not(facts, HEADS, by) for by in HEADS)
        return
    assert gradcam.layers_of(design, way), f"{name}: say why not in its facts, or name layers"
    if facts.can_fuse and not facts.no_words and name not in INDIRECT:
        assert way == "itm"
    for layer in gradcam.layers_of(design, way):
        design.get_submodule(layer)
    assert gradcam.way(facts, ("mlm",), "itm") is None
    assert gradcam.why_not(facts, ("mlm",), way).endswith("is off")


@one_of_each
def test_a_tower_that_keeps_its_attention_says_the_same(make, batch, name, fields):
    design = make(name, fields)
    before = states(design, batch)[0].pooled_BD
    for layer in design.image_pass():
        with kept_attention(design.get_submodule(layer)) as kept:
            during = states(design, batch)[0].pooled_BD
        torch.testing.assert_close(during, before, rtol=0, atol=1e-12)
        (weights,) = kept
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    again = states(design, batch)[0].pooled_BD
    torch.testing.assert_close(again, before, rtol=0, atol=0)
    assert all(not layer._forward_pre_hooks for layer in design.modules())


def test_so_it_does_in_single_precision(make, batch):
    design = make("dual_encoder", {}, dtype=torch.float32, init_std=0.02)
    before = states(design, batch)[0].tokens_BPD
    with kept_attention(design.get_submodule("image.vit.blocks.0")):
        during = states(design, batch)[0].tokens_BPD
    torch.testing.assert_close(during, before, rtol=0, atol=1e-6)


def test_the_default_layers_are_those_of_albef(make):
    design = make("split_bert", {"text_layers": 2}, image_layers=12)
    assert gradcam.layer_of(design, "itm", None) == "layers.4"  # the third of six
    assert gradcam.layer_of(design, "itc", None) == "image.vit.blocks.8"
    assert gradcam.layer_of(design, "itm", -1) == "layers.7"
    with pytest.raises(SettingError, match=r"has 6 of the kind .* take 0 to 5"):
        gradcam.layer_of(design, "itm", 6)


def test_a_frozen_tower_has_a_map_too(make, batch):
    images, ids, real = (x[:2] for x in batch)
    free, frozen = (make("dual_encoder", {}) for _ in range(2))
    frozen.requires_grad_(False)
    with torch.no_grad():
        a, b = (gradcam.maps(d, images, ids, real, by="itc").map_Bhw for d in (free, frozen))
    torch.testing.assert_close(a, b)


def test_temperature_scales_a_map(make, batch):
    images, ids, real = (x[:2] for x in batch)
    design = make("dual_encoder", {})
    cold = gradcam.maps(design, images, ids, real, by="itc")
    warm = gradcam.maps(design, images, ids, real, by="itc", temperature=0.5)
    torch.testing.assert_close(warm.map_Bhw, 2 * cold.map_Bhw)
    torch.testing.assert_close(warm.score, 2 * cold.score)


def test_a_design_without_a_token_for_each_patch_says_so(make, batch, monkeypatch):
    images, ids, real = (x[:2] for x in batch)
    design = make("split_bert", {})
    whole = type(design).encode_image

    def one_token(self, image_BCHW):
        image = whole(self, image_BCHW)
        return dataclasses.replace(image, distinct_UPD=image.distinct_UPD.mean(1, keepdim=True))

    monkeypatch.setattr(type(design), "encode_image", one_token)
    with pytest.raises(SettingError, match="an image is 1 tokens"):
        gradcam.maps(design, images, ids, real, by="itm")


def test_other_blocks_of_timm_are_refused(make):
    design = make("dual_encoder", {}, vision="vit_small_patch16_18x2_224", image_heads=4)
    with (
        pytest.raises(SettingError, match="do not show their attention"),
        kept_attention(design.get_submodule("image.vit.blocks.0")),
    ):
        pass


def test_queries_are_why_words_show_no_map():
    design = registry.find("query_bottleneck")
    assert "queries" in design.facts(design.Config(), SMALL).no_map
