"""Multiway's three modes against a VLMo written with loops, from references.md and, for the layout
of the bias table, microsoft/unilm; without blocks of the product.
"""

import math

import pytest
import timm
import torch
from torch import Tensor

from architectures import build
from architectures.backbone import scale
from architectures.frozen import SettingError
from architectures.views.cost import cost
from tests.architectures.reference import Weights, linear, norm, part, randomised

MULTIWAY = {"layers": 3, "vl_layers": 1}
SIDE, WORDS_AT_MOST = 2, 12


def table_row(i: int, j: int, words: int) -> int:
    """The row of the bias table for position i asking position j, in [words | class, patches]."""
    distances = (2 * SIDE - 1) ** 2
    if i < words and j < words:
        first = distances + 5
        last = first + 2 * WORDS_AT_MOST - 3
        if i and j:
            return first + (j - i) + WORDS_AT_MOST - 2
        return last + (2 if i == j else 1 if j == 0 else 0)
    if i < words or j < words:
        return distances + (3 if i < words else 4)
    a, b = i - words, j - words
    if not a or not b:
        return distances + (2 if a == b else 1 if b == 0 else 0)
    down, right = ((a - 1) // SIDE - (b - 1) // SIDE, (a - 1) % SIDE - (b - 1) % SIDE)
    return (down + SIDE - 1) * (2 * SIDE - 1) + right + SIDE - 1


def vlmo_layer(weights: Weights, j: int, x: Tensor, words: int, together: bool) -> Tensor:
    """references.md 6: one row through layer j. Words come first; the top layer, and only where
    both are there, gives all of them to the vision-language expert.
    """
    own = part(weights, f"image.vit.blocks.{j}")
    heads, size = 2, x.shape[1] // 2
    table = weights.get("positions.bias_table")
    q, k, v = linear(own, "attn.qkv", norm(own, "norm1", x)).chunk(3, dim=1)
    mixed = torch.zeros_like(x)
    for head in range(heads):
        at = slice(head * size, (head + 1) * size)
        for i in range(len(x)):
            scores = [float(q[i, at] @ k[n, at]) / math.sqrt(size) for n in range(len(x))]
            if table is not None:
                for n in range(len(x)):
                    scores[n] += float(table[table_row(i, n, words), j * heads + head])
            raised = [math.exp(score) for score in scores]
            for n, share in enumerate(raised):
                mixed[i, at] += share / sum(raised) * v[n, at]
    x = x + own["ls1.gamma"] * linear(own, "attn.proj", mixed)
    rows = []
    for i, token in enumerate(x):
        expert, name = own, "norm2"
        if together and j == 2:
            expert, name = part(weights, "fusion_experts.2"), "norm"
        elif i < words:
            expert, name = part(weights, f"text_experts.{j}"), "norm"
        inner = linear(expert, "mlp.fc1", norm(expert, name, token))
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        rows.append(token + own["ls2.gamma"] * linear(expert, "mlp.fc2", inner))
    return torch.stack(rows)


def vlmo(weights: Weights, words: Tensor, patches: Tensor, together: bool) -> Tensor:
    """Words (L, D), image tokens (P, D), both or one of them, before their type rows."""
    kinds = [weights["types.text.weight"], weights["types.image.weight"]]
    x = torch.cat([words + kinds[0], patches + kinds[1]])
    for j in range(3):
        x = vlmo_layer(weights, j, x, len(words), together)
    return norm(weights, "image.vit.norm", x)


@torch.no_grad()
@pytest.mark.parametrize("positions", ["relative", "absolute"])
@pytest.mark.parametrize("packed", [False, True])
def test_multiways_three_modes_equal_loops(make, batch, positions, packed):
    fields = {**MULTIWAY, "positions": positions}
    design = randomised(make("multiway", fields, image_norm_eps=1e-12, text_width=24))
    images, ids, real = (x[:3] for x in batch)
    image = design.encode_image(images.double())
    text = design.encode_text(ids, real, packed=packed)
    fused = design.fuse(image, text)
    weights = dict(design.named_parameters())
    assert ("positions.bias_table" in weights) == (positions == "relative")
    for row in range(3):
        words = text.tokens_BLD[row][real[row]]
        patches = image.tokens_BPD[row]
        together = vlmo(weights, words, patches, together=True)
        torch.testing.assert_close(fused.text_BRD[row][real[row]], together[: len(words)])
        torch.testing.assert_close(fused.image_BPD[row], together[len(words) :])
        pooled = linear(weights, "pooler", together[0]).tanh()
        torch.testing.assert_close(fused.pooled_BD[row], pooled)
        by_itself = vlmo(weights, words, patches[:0], together=False)
        torch.testing.assert_close(text.pooled_BD[row], by_itself[0])
        at = torch.tensor([[2, 0]])  # the shortest row has three words
        read = design.text_alone(ids[row : row + 1], real[row : row + 1], at)
        torch.testing.assert_close(read, by_itself[at[0]])
        by_itself = vlmo(weights, words[:0], patches, together=False)
        torch.testing.assert_close(image.pooled_BD[row], by_itself[0])


def test_scales_and_biases_start_at_their_constants(make):
    design = make("multiway", {"drop_path": 0.1, "layers": 3})
    assert not design.positions.bias_table.any()
    for block in design.image.vit.blocks:
        assert block.ls1.gamma.unique().tolist() == [torch.tensor(0.1).item()]
    rates = [block.drop_path for block in design.image.vit.blocks]
    assert rates == pytest.approx([0, 0.05, 0.1])
    assert "image.vit.blocks.0.ls1.gamma" not in dict(
        make("multiway", {"layer_scale": 0}).named_parameters()
    )


def test_experts_that_nothing_would_use_are_not_built(make):
    alone = make("multiway", {**MULTIWAY, "separate_passes": False})
    assert list(alone.text_experts) == ["0", "1"] and list(alone.fusion_experts) == ["2"]
    assert alone.image.vit.blocks[2].mlp is None and alone.image.vit.blocks[1].mlp is not None
    assert "itc" not in alone.heads
    assert list(make("multiway", MULTIWAY).text_experts) == ["0", "1", "2"]


@pytest.mark.parametrize("separate_passes", [False, True])
def test_pretrained_image_weights_fill_attention_and_image_experts(make, tmp_path, separate_passes):
    """Positions of the file are passed over where they are relative; a ViT without layer scales is
    one whose scales are 1.
    """
    sizes = dict(img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0)
    model = randomised(timm.create_model("vit_tiny_patch16_224", **sizes))
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    fields = {"layers": 3, "vl_layers": 2, "separate_passes": separate_passes}
    named = {"vision_weights": str(tmp_path / "vit.pth"), "dtype": torch.float32}
    design, random = make("multiway", fields, **named), make("multiway", fields).float()
    blocks, theirs = design.image.vit.blocks, model.blocks
    assert torch.equal(blocks[1].attn.qkv.weight, theirs[1].attn.qkv.weight)
    assert torch.equal(blocks[0].mlp.fc1.weight, theirs[0].mlp.fc1.weight)
    assert blocks[0].ls2.gamma.unique().tolist() == [1.0]
    third = (model.image.vit.blocks[2].attn.qkv.weight for model in (design, random))
    assert torch.equal(*third)
    text = (model.text_experts["0"].mlp.fc1.weight for model in (design, random))
    assert torch.equal(*text)
    assert blocks[2].ls1.gamma.unique().tolist() == [torch.tensor(0.1).item()]


def test_parameters_and_flops_equal_the_formulae():
    """Of a block: attention with its norm and scales 4 d^2 + 8 d, each expert 8 d^2 + 7 d."""
    tiny, fields = scale("tiny"), {"layers": 4}
    with torch.device("meta"):
        design = build.construct("multiway", fields, tiny, 50)
    size = {n: sum(p.numel() for p in m.parameters()) for n, m in design.named_children()}
    d, words, image = 192, 25, 65
    expert = 8 * d * d + 7 * d
    assert size["text_experts"] == 4 * expert and size["fusion_experts"] == 2 * expert
    blocks = sum(p.numel() for p in design.image.vit.blocks.parameters())
    assert blocks == 4 * (4 * d * d + 8 * d + expert)
    assert size["positions"] == ((2 * 8 - 1) ** 2 + 5 + 2 * 64) * 4 * 3
    counted = cost("multiway", fields, tiny, 50, text_tokens=words)
    both = words + image
    assert counted.fuse.flops == 2 * (4 * (12 * both * d * d + 2 * both**2 * d) + d * d)
    assert counted.text.flops == 0 and counted.image.flops == 2 * 64 * 3 * 8 * 8 * d
    itc = 2 * d * 128
    for n in (words, image):  # of the last layer, the first token alone
        itc += 3 * (12 * n * d * d + 2 * n * n * d) + 2 * n * d * d + 10 * d * d + 2 * n * d
    assert counted.heads["itc"].flops == 2 * itc


def test_other_tokens_than_class_token_and_patches_have_no_distance(make):
    with pytest.raises(SettingError, match="set positions to 'absolute'"):
        make("multiway", {}, vision="deit_tiny_distilled_patch16_224")
