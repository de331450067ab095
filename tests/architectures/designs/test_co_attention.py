"""Co-attention against loops (METER, ViLBERT, sequential, tied) and LXMERT's layers; what is
shared, what is read, what it costs.
"""

import copy
import math

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.lxmert.modeling_lxmert import LxmertXLayer

from architectures import build
from architectures.backbone import scale
from architectures.frozen import SettingError
from architectures.views.cost import cost, measure
from architectures.weights.published.lxmert import lxmert_tensors
from tests.architectures.reference import attend, linear, norm, part, randomised

NAME = "co_attention"


def cross_attended(weights, x, other, other_is_real):
    found = attend(weights, "cross_attention", x, other, other_is_real, heads=2)
    return norm(weights, "cross_norm", x + found)


def self_attended(weights, x, real):
    return norm(weights, "self_norm", x + attend(weights, "self_attention", x, x, real, heads=2))


def mlp(weights, x, name="mlp"):
    inner = linear(weights, f"{name}.inner", x)
    inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    return norm(weights, f"{name}_norm", x + linear(weights, f"{name}.outer", inner))


def meter(weights, x, real, other, other_is_real):
    """references.md 3."""
    x = self_attended(weights, x, real)
    return mlp(weights, cross_attended(weights, x, other, other_is_real))


def lxmert(weights, x, real, other, other_is_real):
    """references.md 8, ctrl LXMERT: cross-attention, self-attention, MLP."""
    x = cross_attended(weights, x, other, other_is_real)
    return mlp(weights, self_attended(weights, x, real))


def vilbert(weights, x, real, other, other_is_real):
    """references.md 8, ctrl ViLBERT: cross-attention, MLP, self-attention, MLP."""
    x = mlp(weights, cross_attended(weights, x, other, other_is_real), "cross_mlp")
    return mlp(weights, self_attended(weights, x, real))


def alone(weights, x, real, other, other_is_real):
    """A layer without cross-attention."""
    return mlp(weights, self_attended(weights, x, real))


ORDERS = {"meter": meter, "lxmert": lxmert, "vilbert": vilbert}


def by_loops(design, x, real, image):
    """Fused text, fused image and pooled output of one row."""
    weights = dict(design.named_parameters(remove_duplicate=False))
    config, everything = design.config, [True] * len(image)
    y = linear(weights, "image_projection", image) if config.projections else image
    x = linear(weights, "text_projection", x) if config.projections else x
    x, y = x + weights["types.text.weight"][0], y + weights["types.image.weight"][0]
    for i in range(config.fusion_layers):
        crosses = (config.fusion_layers - 1 - i) % config.cross_every == 0
        step = ORDERS[config.order] if crosses else alone
        heard = x
        x = step(part(weights, f"text_fusion.{i}"), x, real, y, everything)
        heard = x if config.update == "sequential" else heard
        if i < config.fusion_layers - 1 or config.pooled != "text":
            y = step(part(weights, f"image_fusion.{i}"), y, everything, heard, real)
    text, image = linear(weights, "pooler", x[0]).tanh(), None
    if config.pooled == "text":
        return x, y, text
    image = linear(weights, "image_pooler", y[0]).tanh()
    return x, y, torch.cat([text, image]) if config.pooled == "both" else text * image


@torch.no_grad()
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"update": "sequential", "fusion_layers": 2},
        {"order": "lxmert", "tied": "cross", "pooled": "text", "fusion_layers": 3},
        {"order": "vilbert", "text_layers": 4, "fusion_layers": 3, "pooled": "product"},
        {"order": "vilbert", "tied": "all", "fusion_layers": 2, "cross_every": 2},
        {"order": "lxmert", "tied": "all", "update": "sequential", "fusion_layers": 2},
    ],
)
def test_streams_equal_loops(make, batch, fields):
    design = randomised(make(NAME, {**fields, "image_layers": 1}))
    images, ids, real = (x[1:4] for x in batch)  # 3, 5 and 4 words of 7
    image, text = design.encode_image(images), design.encode_text(ids, real)
    fused = design.fuse(image, text)
    for row in range(3):
        wanted = by_loops(design, text.tokens_BLD[row], real[row], image.tokens_BPD[row])
        ours = (fused.text_BRD[row], fused.image_BPD[row], fused.pooled_BD[row])
        words = real[row]
        torch.testing.assert_close(ours[0][words], wanted[0][words])
        torch.testing.assert_close(ours[1:], wanted[1:])


@pytest.mark.parametrize("packed", [False, True])
def test_lxmerts_cross_layers(make, batch, packed):
    """Only the stack of cross layers compares: LXMERT's image side begins with regions and boxes,
    and its text side is BERT's, tested elsewhere. States, and the gradient of every weight.
    """
    config = transformers.LxmertConfig(
        hidden_size=16, num_attention_heads=2, intermediate_size=32, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    stack = randomised(torch.nn.ModuleList(LxmertXLayer(config) for _ in range(3)))
    with torch.no_grad():  # so that the lowest layer's gradients are not too small to compare
        for name, parameter in stack.named_parameters():
            parameter += float(name.endswith("LayerNorm.weight"))
    fields = {
        "order": "lxmert", "tied": "cross", "projections": False, "type_embeddings": False,
        "pooler": False, "fusion_layers": 3,
    }  # fmt: skip
    design = make(NAME, fields, image_width=16, dtype=torch.float32)
    loaded = design.load_state_dict(lxmert_tensors(stack.state_dict()), strict=False)
    assert not loaded.unexpected_keys
    assert not [key for key in loaded.missing_keys if "text_fusion" in key]
    images, ids, real = batch
    with torch.no_grad():
        image = design.encode_image(images.float())
        text = design.encode_text(ids, real, packed=packed)
    words_BLD, looks_BPD = text.tokens_BLD, image.tokens_BPD
    padding = torch.where(real, 0.0, torch.finfo(torch.float32).min)[:, None, None]
    for layer in stack:
        words_BLD, looks_BPD = layer(words_BLD, padding, looks_BPD, None)
    fused = design.fuse(image, text)
    torch.testing.assert_close(fused.text_BRD[real], words_BLD[real], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fused.image_BPD, looks_BPD, rtol=1e-5, atol=1e-5)
    for states in ((fused.text_BRD[real], fused.image_BPD), (words_BLD[real], looks_BPD)):
        sum(x.pow(3).mean(0).sum() for x in states).backward()
    grads = lxmert_tensors({name: p.grad for name, p in stack.named_parameters()})
    ours = {role: p.grad for role, p in design.named_parameters() if "fusion" in role}
    assert ours.keys() == grads.keys()
    torch.testing.assert_close(ours, grads, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("tied", "shared"), [("no", 0), ("cross", 10), ("all", 26)])
def test_tied_weights_are_one(make, tied, shared):
    """Once among the parameters, twice in the state; together in a copy, saved and loaded."""
    design, other = (make(NAME, {"tied": tied}, seed=seed) for seed in (0, 1))
    state = design.state_dict()
    own = {name for name, _ in design.named_parameters()}
    twice = [name for name in state if name not in own and "fusion" in name]
    assert len(twice) == 6 * shared
    other.load_state_dict(state)
    for one in (design, other, copy.deepcopy(design)):
        both = dict(one.named_parameters(remove_duplicate=False))
        for name in twice:
            assert both[name] is both[name.replace("image_fusion", "text_fusion")]
            assert torch.equal(both[name], state[name])


def test_slots_of_ctrl_vilbert(make):
    """BERT 0..3 are the text layers, 4..7 self-attention and last MLP of the text stream."""
    fields = {"order": "vilbert", "text_layers": 4, "fusion_layers": 4, "fusion_from": "last"}
    design = make(NAME, {**fields, "new_part_rate": 5})
    slots = design.slots(design.config, design.backbone)
    assert [slots[f"layers.{i}"] for i in range(4)] == [f"layers.{i}" for i in range(4)]
    assert [slots[f"text_fusion.{i}"] for i in range(4)] == [f"layers.{i}" for i in range(4, 8)]
    assert [slots[f"image_fusion.{i}"] for i in range(4)] == ["fresh"] * 4
    new = {n for n, _ in design.named_parameters() if n.startswith(tuple(design.new_parts()))}
    begun = {n for n, _ in design.text_fusion.named_parameters() if f"text_fusion.{n}" not in new}
    assert {n.split(".")[1] for n in begun} == {"self_attention", "self_norm", "mlp", "mlp_norm"}
    towers = ("image.", "embeddings.", "layers.", "heads.")
    assert new >= {n for n in design.state_dict() if not n.startswith(("text_fusion.", *towers))}
    assert not [n for n in new if n.startswith(towers)]
    assert set(design.rates().values()) == {5}
    tied = make(NAME, {"tied": "all", "fusion_layers": 2, "fusion_from": (1, None)})
    slots = tied.slots(tied.config, tied.backbone)
    assert [slots[f"{side}_fusion.{i}"] for side in ("text", "image") for i in (0, 1)] == [
        "layers.1", "fresh", "layers.1", "fresh",
    ]  # fmt: skip
    pairs = zip(tied.text_fusion[0].mlp.parameters(), tied.layers[1].mlp.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"projections": False}, "image_width 24 and text_width 16 differ"),
        ({"tied": "all", "image_fusion_from": "last"}, "leave image_fusion_from out"),
        ({"text_layers": 9}, "take 0 to 8"),
        ({"image_layers": 3}, "take 1 to 2"),
        ({"itc_layer": 8}, "take 0 to 7"),
        ({"fusion_from": (0, 1)}, "fusion_from .* must name 6 layers"),
        ({"fusion_from": "every_other"}, "fusion_from 'every_other' gives at most 4"),
    ],
)
def test_what_cannot_be_built_says_what_to_do(make, fields, said):
    with pytest.raises(SettingError, match=said):
        make(NAME, fields)


def test_every_jth_layer_crosses(make, batch):
    design = make(NAME, {"fusion_layers": 4, "cross_every": 2})
    assert design.crossings() == ("text_fusion.1", "text_fusion.3")
    for stream in (design.text_fusion, design.image_fusion):
        assert [layer.crosses for layer in stream] == [False, True, False, True]
    states = design.encode_image(batch[0]), design.encode_text(*batch[1:])
    kept = design.fuse(*states, keep_attention=[f"text_fusion.{i}" for i in range(4)])
    assert tuple(kept.attention) == design.crossings()


def test_cost_at_the_papers_sizes():
    """references.md 0: parameters of six pairs, transforms and poolers; 16.70 GMAC on 25 words and
    257 image tokens, which is what six layers of two streams cost.
    """
    base = scale("base")
    with torch.device("meta"):
        design = build.construct(NAME, {}, base, 30522)
    size = {n: sum(p.numel() for p in m.parameters()) for n, m in design.named_children()}
    assert size["text_fusion"] + size["image_fusion"] == 6 * 18_903_552 == 113_421_312
    assert size["text_projection"] + size["image_projection"] == 1_181_184
    assert size["pooler"] + size["image_pooler"] == 1_181_184
    assert size["types"] == 2 * 768
    d, text, image = 768, 25, 257
    layers = 6 * (pair(text, image, d) + pair(image, text, d))
    assert round(layers / 1e9, 2) == 16.70
    once = (text + image) * d * d + 2 * d * d
    counted = measure(design, text_tokens=25)
    assert counted.fuse.flops == 2 * (layers + once)


def pair(n: int, k: int, d: int) -> int:
    """Multiply-accumulates of a layer on n tokens that reads k others; references.md 0."""
    return 12 * n * d * d + 2 * n * n * d + 2 * n * d * d + 2 * k * d * d + 2 * n * k * d


def read_pair(r: int, n: int, k: int, d: int) -> int:
    """The same where r of the n tokens are read: keys and values of all of them remain."""
    return 2 * n * d * d + 2 * r * n * d + 10 * r * d * d + 2 * (r + k) * d * d + 2 * r * k * d


@pytest.mark.parametrize(
    ("fields", "last_image", "poolers"),
    [({}, True, 2), ({"pooled": "product"}, True, 2), ({"pooled": "text"}, False, 1)],
)
def test_the_last_layer_makes_only_what_is_read(small, fields, last_image, poolers):
    """The words read and the class token; without an image pooler, no image layer."""
    d, n, p = 16, 10, 5
    wide = small.with_field("text_mlp", 4 * d)
    counted = cost(NAME, {"fusion_layers": 2, **fields}, wide, 50, text_tokens=n)
    once = n * d * d + p * 24 * d + poolers * d * d
    first = pair(n, p, d) + pair(p, n, d)
    whole = pair(n, p, d) + last_image * pair(p, n, d)
    assert counted.fuse.flops == 2 * (once + first + whole)
    for made, r in ((counted.fuse_pooled, 1), (counted.fuse_masked, 3)):
        last = read_pair(r, n, p, d) + last_image * read_pair(1, p, n, d)
        assert made.flops == 2 * (once + first + last)


@pytest.mark.parametrize("order", ["meter", "lxmert"])
def test_what_is_made_of_the_image_alone_is_made_once(small, order):
    """Three rows of one image: projection, what words read of it and, where it comes first, the
    first self-attention.
    """
    d, n, p = 16, 7, 5
    wide = small.with_field("text_mlp", 4 * d)
    with torch.device("meta"):
        design = build.construct(NAME, {"fusion_layers": 2, "order": order}, wide, 50, ())
        image = design.encode_image(torch.zeros(1, 3, 16, 16))
        ids = torch.ones(3, n, dtype=torch.int64)
        text = design.encode_text(ids, ids > 0)
        with FlopCounterMode(display=False) as counter:
            design.fuse(image.take(torch.zeros(3, dtype=torch.int64)), text)
    rows = 2 * (pair(n, p, d) + pair(p, n, d)) + n * d * d + p * 24 * d + 2 * d * d
    spared = p * 24 * d + 2 * p * d * d
    spared += (4 * p * d * d + 2 * p * p * d) if order == "meter" else 0
    assert counter.get_total_flops() == 2 * (3 * rows - 2 * spared)
