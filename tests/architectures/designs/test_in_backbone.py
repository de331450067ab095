"""Fused towers against towers written with loops, from references.md 4 and microsoft/FIBER, without
blocks of the product; and, while gates are shut, against the same towers alone, to the last bit.
"""

import math

import pytest
import torch
from torch import Tensor

from architectures import build, registry
from architectures.backbone import scale
from architectures.frozen import SettingError
from architectures.views.cost import cost
from architectures.views.graph import graph
from tests.architectures.reference import Weights, embed, linear, norm, part, randomised
from tests.architectures.views.test_cost import TINY, D, L, P, V, block, cross

HEADS, PATCH = 2, 8


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Head by head, one row, nothing masked."""
    size = q.shape[1] // HEADS
    found = []
    for head in range(HEADS):
        at = slice(head * size, (head + 1) * size)
        found.append((q[:, at] @ k[:, at].T / math.sqrt(size)).softmax(1) @ v[:, at])
    return torch.cat(found, dim=1)


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def let_in(own: Weights, found: Tensor, other: Tensor | None, squashed: bool) -> Tensor:
    """What self-attention found, and through the gate what it reads of the other tower."""
    if other is None:
        return found
    asks = norm(own, "norm", found) if "norm.weight" in own else found
    q = linear(own, "attention.query", asks)
    k, v = (linear(own, f"attention.{which}", other) for which in ("key", "value"))
    read = linear(own, "attention.output", attended(q, k, v))
    gate = own.get("gate.gamma", torch.ones(1, dtype=found.dtype))
    return found + (gate.tanh() if squashed else gate) * read


def text_layer(weights: Weights, j: int, x: Tensor, other: Tensor | None, squashed: bool) -> Tensor:
    """RoBERTa's post-norm layer; what is read joins before the residual."""
    own = part(weights, f"layers.{j}")
    q, k, v = (linear(own, f"self_attention.{which}", x) for which in ("query", "key", "value"))
    found = linear(own, "self_attention.output", attended(q, k, v))
    found = let_in(part(weights, f"text_crossing.{j}"), found, other, squashed)
    x = norm(own, "self_norm", x + found)
    return norm(own, "mlp_norm", x + linear(own, "mlp.outer", gelu(linear(own, "mlp.inner", x))))


def image_block(weights: Weights, j: int, x: Tensor, other: Tensor | None, squashed: bool):
    """A ViT's pre-norm block; the same."""
    own = part(weights, f"image.vit.blocks.{j}")
    q, k, v = linear(own, "attn.qkv", norm(own, "norm1", x)).chunk(3, dim=1)
    found = linear(own, "attn.proj", attended(q, k, v))
    x = x + let_in(part(weights, f"image_crossing.{j}"), found, other, squashed)
    return x + linear(own, "mlp.fc2", gelu(linear(own, "mlp.fc1", norm(own, "norm2", x))))


def embedded(weights: Weights, image: Tensor) -> Tensor:
    """Class token and patches of one image (C, H, W), with their positions."""
    own = part(weights, "image.vit")
    matrix = own["patch_embed.proj.weight"].flatten(1)
    rows = [own["cls_token"][0, 0]]
    for top in range(0, image.shape[1], PATCH):
        for left in range(0, image.shape[2], PATCH):
            patch = image[:, top : top + PATCH, left : left + PATCH].flatten()
            rows.append(matrix @ patch + own["patch_embed.proj.bias"])
    return torch.stack(rows) + own["pos_embed"][0]


def towers(weights: Weights, image: Tensor, ids, depth: int, fused: int, readers: str, squashed):
    """Words (L, D) and image tokens (P, D) of one row, after both towers; fused 0: alone."""
    blocks = 2
    x, y = embed(part(weights, "embeddings"), ids), embedded(weights, image)
    for j in range(depth - fused):
        x = text_layer(weights, j, x, None, squashed)
    for j in range(blocks - fused):
        y = image_block(weights, j, y, None, squashed)
    for i in range(fused):
        given = x, y  # both read what the other was given, not what it has become
        read_x = given[1] if readers != "image" else None
        read_y = given[0] if readers != "text" else None
        x = text_layer(weights, depth - fused + i, x, read_x, squashed)
        y = image_block(weights, blocks - fused + i, y, read_y, squashed)
    return x, norm(weights, "image.vit.norm", y)


def by_loops(design, batch, fused: int) -> list[Tensor]:
    """Fused words and image tokens, what is pooled, and what ITC reads, row by row."""
    weights, config = dict(design.named_parameters()), design.config
    found = []
    for image, ids, real in zip(*batch, strict=True):
        ids, depth = ids[real].tolist(), len(design.layers)
        x, y = towers(weights, image, ids, depth, fused, config.readers, config.gate == "tanh")
        pooled = [linear(weights, "pooler", x[0]).tanh(), linear(weights, "image_pooler", y[0])]
        a, b = towers(weights, image, ids, depth, 0, "both", False)
        found += [x, y, pooled[0], pooled[1].tanh(), a[0], b[0]]
    return found


def by_design(design, batch) -> list[Tensor]:
    images, ids, real = batch
    image, text = design.encode_image(images), design.encode_text(ids, real)
    fused = design.fuse(image, text)
    tokens = fused.image_BPD if len(design.image_crossing) else image.tokens_BPD
    found = []
    for row in range(len(ids)):
        pooled = fused.pooled_BD[row].split([16, 24])
        alone = text.pooled_BD[row], image.pooled_BD[row]
        found += [fused.text_BRD[row][real[row]], tokens[row], *pooled, *alone]
    return found


@pytest.mark.parametrize(
    ("fields", "fused"),
    [
        ({}, 2),
        ({"text_layers": 2, "gate": "tanh"}, 2),  # every layer of both towers is fused
        ({"fusion_layers": 1, "gate": "none"}, 1),
        ({"readers": "text"}, 2),
        ({"readers": "image", "gate": "tanh"}, 2),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_and_gradients_equal_loops(make, batch, fields, fused, dtype):
    design = randomised(make("in_backbone", fields, dtype=dtype, image_norm_eps=1e-12))
    pairs = tuple(x[:3].to(dtype) if x.is_floating_point() else x[:3] for x in batch)
    exact = dtype is torch.float64
    gradients = []
    made = [by_design(design, pairs), by_loops(design, pairs, fused)]
    for mine, wanted in zip(*made, strict=True):
        tolerance = 1e-12 if exact else 1e-5
        torch.testing.assert_close(mine, wanted, rtol=tolerance, atol=tolerance)
    body = {n: p for n, p in design.named_parameters() if not n.startswith("heads.")}
    for outputs in made:
        draw = torch.Generator().manual_seed(2)
        loss = sum((x * torch.randn(x.shape, generator=draw).to(x)).sum() for x in outputs)
        gradients.append(torch.autograd.grad(loss, list(body.values()), allow_unused=True))
    for name, mine, wanted in zip(body, *gradients, strict=True):
        assert (mine is None) == (wanted is None), name
        if mine is not None:
            tolerance = 1e-10 if exact else 1e-4
            torch.testing.assert_close(mine, wanted, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("fields", [{}, {"gate": "tanh"}, {"readers": "text"}])
@torch.no_grad()  # where gradients are kept, only timm's own blocks attend by torch's kernel
def test_at_first_fused_towers_are_the_dual_encoders_to_the_last_bit(
    make, batch, dtype, packed, fields
):
    fields = {**fields, "pooler": False}
    design, dual = make("in_backbone", fields, dtype=dtype), make("dual_encoder", {}, dtype=dtype)
    images, ids, real = batch[0].to(dtype), *batch[1:]
    fused = design.fuse(design.encode_image(images), design.encode_text(ids, real, packed=packed))
    image, text = dual.encode_image(images), dual.encode_text(ids, real, packed=packed)
    assert torch.equal(fused.text_BRD[real], text.tokens_BLD[real])
    firsts = torch.cat([text.tokens_BLD[:, 0], image.tokens_BPD[:, 0]], dim=1)
    assert torch.equal(fused.pooled_BD, firsts)
    assert fused.image_BPD is None or torch.equal(fused.image_BPD, image.tokens_BPD)
    with torch.no_grad():
        for crossing in (*design.text_crossing.values(), *design.image_crossing.values()):
            crossing.gate.gamma.fill_(1e-3)
    opened = design.fuse(design.encode_image(images), design.encode_text(ids, real))
    assert not torch.equal(opened.text_BRD[real], text.tokens_BLD[real])


def test_shut_gates_learn_first(make, batch):
    design = make("in_backbone", {})
    images, ids, real = batch
    fused = design.fuse(design.encode_image(images), design.encode_text(ids, real))
    (fused.pooled_BD.pow(3).sum() + fused.text_BRD[real].pow(3).sum()).backward()
    crossing = {n: p.grad for n, p in design.named_parameters() if "_crossing." in n}
    learns = [name for name, gradient in crossing.items() if gradient.any()]
    assert learns == [name for name in crossing if name.endswith(".gate.gamma")]
    assert len(learns) == 4 and all(design.get_parameter(name) == 0 for name in learns)
    started = make("in_backbone", {"gate_start": 1.0})
    assert all(started.get_parameter(name) == 1 for name in learns)


def test_padding_of_words_is_not_read_by_the_image(make, batch):
    design = make("in_backbone", {"gate": "none"})
    images, ids, real = batch
    image = design.encode_image(images)
    fused = design.fuse(image, design.encode_text(ids, real)).image_BPD
    other = design.fuse(image, design.encode_text(ids.where(real, 9), real)).image_BPD
    read = design.fuse(image, design.encode_text(ids, real | True)).image_BPD
    assert torch.equal(fused, other) and not torch.allclose(fused[1], read[1])


@pytest.mark.parametrize(
    ("fields", "alone", "fused"),
    [
        ({"gate": "none", "fusion_layers": 1}, [8], [0, 8]),
        ({"gate": "none"}, [0], [8, 24]),
        ({"gate": "none", "readers": "text"}, [8, 8], [0, 0]),
    ],
)
def test_blocks_of_the_image_alone_run_once_per_image(make, batch, fields, alone, fused):
    """Images whose self-attention each block makes, of 8 that 24 rows show."""
    design = make("in_backbone", fields)
    images, ids, real = batch
    seen = {0: 0, 1: 0}

    def watch(j):
        def count(module, given):
            seen[j] += given[0].numel() // 24 // 5

        return count

    for j, one in enumerate(design.image.vit.blocks):
        one.attn.qkv.register_forward_pre_hook(watch(j))
    image, text = design.encode_image(images), design.encode_text(ids, real)
    assert [seen[j] for j in range(len(alone))] == alone
    seen |= dict.fromkeys(seen, 0)
    rows = torch.cat([torch.arange(8), torch.arange(8).roll(1), torch.arange(8)])
    whole = design.fuse(image.take(rows), text.take(rows.roll(8)))
    assert list(seen.values()) == fused
    read_at = torch.tensor([[1, 2]] * 24)
    some = design.fuse(image.take(rows), text.take(rows.roll(8)), read_at_BR=read_at)
    torch.testing.assert_close(some.pooled_BD, whole.pooled_BD)
    torch.testing.assert_close(some.text_BRD, whole.text_BRD[:, 1:3])
    assert some.image_BPD is None


def test_below_aligns_what_fusion_makes_anyway(make, batch):
    design = make("in_backbone", {"itc": "below", "fusion_layers": 1, "gate": "none"})
    whole = make("in_backbone", {"fusion_layers": 1})
    shallow = make("dual_encoder", {"text_layers": 7, "image_layers": 1})
    images, ids, real = batch
    for part_of in (lambda d: d.encode_image(images), lambda d: d.encode_text(ids, real)):
        torch.testing.assert_close(part_of(design).pooled_BD, part_of(shallow).pooled_BD)
        assert not torch.allclose(part_of(design).pooled_BD, part_of(whole).pooled_BD)


def test_without_fused_layers_it_is_the_dual_encoder(make, batch, small):
    design, dual = make("in_backbone", {"fusion_layers": 0}), make("dual_encoder", {})
    facts = design.facts(design.config, small)
    assert facts.no_fuse == "fusion_layers = 0 leaves no layer that reads the other tower"
    roles = [name for name, _ in design.named_parameters()]
    assert roles == [name for name, _ in dual.named_parameters()]
    images, ids, real = batch
    assert torch.equal(
        design.encode_text(ids, real).pooled_BD, dual.encode_text(ids, real).pooled_BD
    )
    assert torch.equal(design.encode_image(images).pooled_BD, dual.encode_image(images).pooled_BD)


@pytest.mark.parametrize(
    ("fields", "changes", "says"),
    [
        ({"fusion_layers": 3}, {}, "text tower has 8 layers and the image tower 2 .* take 0 to 2"),
        ({"text_layers": 1, "fusion_layers": 2}, {}, "text tower has 1 layers.*take 0 to 1"),
        ({"text_layers": 9}, {}, "text_layers is 9"),
        ({"itc": "below"}, {}, "set itc to 'towers', or fusion_layers lower"),
        ({"gate": "none", "gate_start": 1.0}, {}, "leave gate_start out"),
        ({"gate_start": float("nan")}, {}, "gate_start"),
        ({}, {"text": "clip"}, "see earlier words only"),
    ],
)
def test_what_cannot_be_built_is_said(make, fields, changes, says):
    with pytest.raises(SettingError, match=f"in_backbone.*{says}"):
        make("in_backbone", fields, **changes)


def test_who_is_fused_with_whom(small):
    def facts(backbone, **fields):
        config = registry.config("in_backbone", fields)
        return registry.find("in_backbone").facts(config, backbone)

    found = facts(scale("base"))
    assert (found.text_layers, found.fusion_layers, found.image_layers) == (6, 6, 6)
    found = facts(scale("nano"))
    assert (found.text_layers, found.fusion_layers, found.image_layers) == (8, 4, 0)
    found = facts(scale("base"), fusion_layers=2, readers="text")
    assert (found.text_layers, found.fusion_layers, found.image_layers) == (10, 2, 12)
    assert found.fusion_reads == (
        "text layers 10, 11 read what image blocks 10, 11 were given, one to one"
    )
    assert facts(small, readers="image").no_words and not facts(small).no_words


def test_the_graph_has_an_arrow_each_way(small):
    def reads(**fields):
        edges = graph("in_backbone", {"fusion_layers": 1, **fields}, small, 50)["edges"]
        found = {(edge["from"], edge["to"]) for edge in edges if edge["as"] == "reads"}
        return {edge for edge in found if "crossing" not in edge[1]}

    text, image = ("image.vit.blocks.0", "layers.7"), ("layers.6", "image.vit.blocks.1")
    assert reads() == {text, image}
    assert reads(readers="text") == {text} and reads(readers="image") == {image}


def test_flops_equal_the_formulae():
    count = 2
    made = cost("in_backbone", {"fusion_layers": count}, TINY, V, text_tokens=L)

    def first(n: int) -> int:
        """A block that only its first token asks in; keys and values are of all."""
        return 2 * n * D * D + 2 * D * D + 2 * n * D + 8 * D * D

    both, pools = block(L) + block(P), 2 * D * D
    crossed = cross(L, P) + cross(P, L)
    assert made.image.flops == 2 * (block(P) + (P - 1) * 3 * 8 * 8 * D)
    assert made.text.flops == 2 * 2 * block(L)
    assert made.fuse.flops == 2 * (count * (both + crossed) + pools)
    last = first(L) + first(P) + cross(1, P) + cross(1, L)
    assert made.fuse_pooled.flops == 2 * (both + crossed + last + pools)
    assert made.heads["itc"].flops == 2 * (both + first(L) + first(P) + 2 * D * 8)
    below = cost("in_backbone", {"fusion_layers": count, "itc": "below"}, TINY, V, text_tokens=L)
    assert below.heads["itc"].flops == 2 * (2 * D * 8)
    one_way = cost(
        "in_backbone", {"fusion_layers": count, "readers": "text"}, TINY, V, text_tokens=L
    )
    assert one_way.image.flops == 2 * (3 * block(P) + (P - 1) * 3 * 8 * 8 * D)
    assert one_way.fuse.flops == 2 * (count * (block(L) + cross(L, P)) + pools)


def test_parameters_at_the_papers_sizes():
    with torch.device("meta"):
        design = build.construct("in_backbone", {}, scale("base"), 30522)
    size = {n: sum(p.numel() for p in m.parameters()) for n, m in design.named_children()}
    d = 768
    assert size["text_crossing"] == 6 * (4 * d * d + 4 * d + 1)
    assert size["image_crossing"] == 6 * (4 * d * d + 6 * d + 1)
    assert size["image"] == 85_844_736 and size["layers"] == 12 * 7_087_872
    assert size["pooler"] + size["image_pooler"] == 1_181_184
