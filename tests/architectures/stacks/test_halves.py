"""Layers with a half for words and one for image tokens: against loops, and against one stack."""

import pytest
import torch
from torch.nn.functional import gelu

from architectures import registry
from architectures.frozen import SettingError
from architectures.weights.slots import role_digests
from tests.architectures.reference import linear, norm, part, randomised

NAME = "merged_attention"
SIZES = [
    ({"text_layers": 2, "fusion_layers": 3}, {}),
    ({"text_layers": 1, "fusion_layers": 2}, {"text_width": 24, "text_heads": 3, "text_mlp": 40}),
]
tied = pytest.mark.parametrize("tied", ["mlp", "none"])


def both(halves, name, x, is_image):
    """Every token by the half that is its own, one after another."""
    rows = [linear(halves[i], name, token) for i, token in zip(is_image, x, strict=True)]
    return torch.stack(rows)


def joint_layer(halves, x, is_image, heads):
    """One row (N, D) of words and image tokens; `halves`: weights for words, for image tokens."""
    q, k, v = (
        both(halves, f"self_attention.{of}", x, is_image) for of in ("query", "key", "value")
    )
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(0, 1) for t in (q, k, v))
    mixed = ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(0, 1).flatten(1)
    rows = []
    for i, token, added in zip(
        is_image, x, both(halves, "self_attention.output", mixed, is_image), strict=True
    ):
        token = norm(halves[i], "self_norm", token + added)
        inner = gelu(linear(halves[i], "mlp.inner", token))
        rows.append(norm(halves[i], "mlp_norm", token + linear(halves[i], "mlp.outer", inner)))
    return torch.stack(rows)


@torch.no_grad()
@tied
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("fields", "sizes"), SIZES, ids=["16", "24"])
def test_values_equal_loops(make, batch, tied, fields, sizes, packed, dtype):
    design = randomised(make(NAME, {**fields, "tied": tied}, dtype=dtype, **sizes))
    image = design.encode_image(batch[0][:3].to(dtype))
    text = design.encode_text(*(x[:3] for x in batch[1:]), packed=packed)
    fused = design.fuse(image, text)
    weights = dict(design.named_parameters(remove_duplicate=False))
    tolerance = 1e-11 if dtype is torch.float64 else 1e-5
    for row, length in enumerate(batch[2][:3].sum(1).tolist()):
        words = linear(weights, "text_projection", text.tokens_BLD[row, :length])
        shown = linear(weights, "image_projection", image.tokens_BPD[row])
        x = torch.cat([words + weights["types.text.weight"], shown + weights["types.image.weight"]])
        is_image = [False] * length + [True] * len(shown)
        for j in range(len(design.fusion)):
            halves = [part(weights, f"{name}.{j}") for name in ("fusion", "image_fusion")]
            x = joint_layer(halves, x, is_image, design.backbone.text_heads)
        near = {"rtol": tolerance, "atol": tolerance}
        torch.testing.assert_close(fused.text_BRD[row, :length], x[:length], **near)
        torch.testing.assert_close(fused.image_BPD[row], x[length:], **near)


@tied
@pytest.mark.parametrize("over", ["towers", "patches"])
@pytest.mark.parametrize("read_at", [None, torch.tensor([[2, 1]] * 8)])
def test_equal_halves_are_one_stack_and_share_its_gradient(make, batch, tied, over, read_at):
    fields = {"over": over, "fusion_layers": 2, "pooled": "both", "fusion_from": "last"}
    one = randomised(make(NAME, fields))
    two = make(NAME, {**fields, "tied": tied})
    stack = "layers" if over == "patches" else "fusion"
    state = one.state_dict()
    two.load_state_dict(
        {name: state[name.replace(f"image_{stack}.", f"{stack}.")] for name in two.state_dict()}
    )
    images, ids, real = batch
    pooled, grads = [], []
    for design in (one, two):
        fused = design.fuse(
            design.encode_image(images), design.encode_text(ids, real), read_at_BR=read_at
        )
        words = fused.text_BRD[real] if read_at is None else fused.text_BRD
        (words.pow(3).sum() + fused.pooled_BD.sum()).backward()
        pooled.append((words, fused.pooled_BD, fused.image_BPD))
        grads.append({name: p.grad for name, p in design.named_parameters()})
    torch.testing.assert_close(*pooled)
    for role in [role for role in grads[1] if role.startswith(f"image_{stack}.")]:
        grads[1][role.removeprefix("image_")] += grads[1].pop(role)
    torch.testing.assert_close(*grads)


def test_halves_start_from_one_pretrained_layer_and_share_what_they_should(make, small):
    fields = {"fusion_layers": 2, "fusion_from": "last"}
    counts = {}
    for tied in ("all", "mlp", "none"):
        design = make(NAME, {**fields, "tied": tied}, dtype=torch.float32)
        counts[tied] = sum(p.numel() for p in design.parameters())
        digests = role_digests(design)
        for role in [role for role in digests if role.startswith("image_fusion.")]:
            assert digests[role] == digests[role.removeprefix("image_")]
        own = {role.split(".")[2] for role in digests if role.startswith("image_fusion.")}
        names = {"all": "", "mlp": "mlp mlp_norm", "none": "mlp mlp_norm self_attention self_norm"}
        assert own == set(names[tied].split())
    width, inner = small.text_width, small.text_mlp
    mlp = 2 * width * inner + inner + width + 2 * width
    attention = 4 * width * (width + 1) + 2 * width
    assert counts["mlp"] - counts["all"] == 2 * mlp
    assert counts["none"] - counts["mlp"] == 2 * attention


def test_a_last_half_that_nothing_reads_is_refused(small):
    config = registry.config(NAME, {"over": "patches", "tied": "none"})
    with pytest.raises(SettingError, match="set pooled to 'both'"):
        registry.find(NAME).facts(config, small)
