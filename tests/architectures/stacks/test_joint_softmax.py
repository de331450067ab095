"""Words read words and image tokens under one softmax: against loops, and against what differs."""

import pytest
import torch

from architectures import registry
from architectures.frozen import SettingError
from tests.architectures.reference import embed, layer, linear, norm, part, randomised

JOINT = {"attention": "joint"}


def joint_layer(weights, x, image, heads):
    """One row (L, D): words ask keys of words and of image tokens, made by the same maps."""
    q = linear(weights, "self_attention.query", x)
    both = torch.cat([x, image])
    k, v = (linear(weights, f"self_attention.{which}", both) for which in ("key", "value"))
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(0, 1) for t in (q, k, v))
    probabilities = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    mixed = (probabilities @ v).transpose(0, 1).flatten(1)
    x = norm(weights, "self_norm", x + linear(weights, "self_attention.output", mixed))
    inner = torch.nn.functional.gelu(linear(weights, "mlp.inner", x))
    return norm(weights, "mlp_norm", x + linear(weights, "mlp.outer", inner)), probabilities


def no_self_layer(weights, x, image, heads):
    """The same with cross-attention alone."""
    q = linear(weights, "cross_attention.query", x)
    k, v = (linear(weights, f"cross_attention.{which}", image) for which in ("key", "value"))
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(0, 1) for t in (q, k, v))
    mixed = ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(0, 1).flatten(1)
    x = norm(weights, "cross_norm", x + linear(weights, "cross_attention.output", mixed))
    inner = torch.nn.functional.gelu(linear(weights, "mlp.inner", x))
    return norm(weights, "mlp_norm", x + linear(weights, "mlp.outer", inner))


def rows(design, batch, step):
    """Fused states of every row by loops; `step(weights, x, image, heads)` is a fusion layer."""
    images, ids, real = batch
    weights, heads = dict(design.named_parameters()), design.backbone.text_heads
    tokens_BPD = design.encode_image(images).tokens_BPD
    if "image_projection.weight" in weights:
        tokens_BPD = linear(weights, "image_projection", tokens_BPD)
    k, n = design.text_depth, len(design.layers)
    for row, length in enumerate(real.sum(1).tolist()):
        x = embed(part(weights, "embeddings"), ids[row, :length].tolist())
        for j in range(k):
            x = layer(part(weights, f"layers.{j}"), x, [True] * length, None, heads)
        for j in range(k, n):
            x = step(part(weights, f"layers.{j}"), x, tokens_BPD[row], heads)
        yield x


CASES = [
    (JOINT, lambda *given: joint_layer(*given)[0]),
    ({"self_attention": False}, no_self_layer),
]


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("fields", "step"), CASES, ids=["joint", "no self-attention"])
def test_values_equal_loops(make, batch, fields, step, dtype, packed):
    design = randomised(make("split_bert", {**fields, "text_layers": 5}, dtype=dtype))
    images, ids, real = batch[0].to(dtype), *batch[1:]
    text = design.encode_text(ids, real, packed=packed)
    fused = design.fuse(design.encode_image(images), text).text_BRD
    tolerance = 1e-11 if dtype is torch.float64 else 1e-5
    for row, wanted in enumerate(rows(design, (images, ids, real), step)):
        torch.testing.assert_close(
            fused[row, : len(wanted)], wanted, rtol=tolerance, atol=tolerance
        )


@torch.no_grad()
def test_what_words_give_to_the_image_is_a_part_of_the_softmax(make, batch):
    design = randomised(make("split_bert", {**JOINT, "text_layers": 7}))
    images, ids, real = batch
    fused = design.fuse(
        design.encode_image(images), design.encode_text(ids, real), keep_attention=["layers.7"]
    )
    given_BHLP = fused.attention["layers.7"]
    image = design.encode_image(images)
    assert given_BHLP.shape[-1] == image.tokens_BPD.shape[1]
    weights = dict(design.named_parameters())
    length = int(real[1].sum())
    below = design.encode_text(ids[1:2], real[1:2]).tokens_BLD[0, :length]
    tokens = linear(weights, "image_projection", image.tokens_BPD[1])
    heads = design.backbone.text_heads
    _, probabilities = joint_layer(part(weights, "layers.7"), below, tokens, heads)
    torch.testing.assert_close(given_BHLP[1, :, :length], probabilities[..., length:])


def test_one_softmax_has_no_weights_of_its_own_but_the_projection(make):
    joint, split = make("split_bert", JOINT), make("split_bert", {})
    own = dict(joint.named_parameters()).keys() - dict(split.named_parameters()).keys()
    assert own == {"image_projection.weight", "image_projection.bias"}
    lost = dict(split.named_parameters()).keys() - dict(joint.named_parameters()).keys()
    assert lost and all(".cross_" in name for name in lost)


@pytest.mark.parametrize("name", ["split_bert", "full_text_deep_fusion", "shared_stack"])
def test_words_that_would_read_nothing_are_refused(small, name):
    config = registry.config(name, {**JOINT, "self_attention": False})
    with pytest.raises(SettingError, match=f"{name}: .*leave self_attention on"):
        registry.find(name).facts(config, small)
