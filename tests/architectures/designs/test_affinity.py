"""One score matrix read both ways, against Grounding DINO's bi-attention of transformers.

Its class stands in a layer of ours: post-norm where Grounding DINO is pre-norm with a layer scale,
and BERT's layer after it. It shifts scores by the largest of the batch and clamps them at 50,000 in
size, which changes nothing at ordinary scores.
"""

import pytest
import torch
import transformers
from torch import nn
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoBiMultiHeadAttention,
)

from architectures import registry
from architectures.frozen import SettingError
from architectures.weights.published.bert import bert_tensors
from tests.architectures.reference import randomised

NAME = "co_attention"
SHARED = {"order": "lxmert", "affinity": "shared"}
BARE = {"projections": False, "type_embeddings": False, "pooler": False}
SIDES = {"text": "image", "image": "text"}


class Reference(nn.Module):
    """A layer of transformers' classes: bi-attention, then BERT's layer on either side."""

    def __init__(self, width, heads, inner):
        super().__init__()
        config = transformers.GroundingDinoConfig(
            d_model=width, encoder_ffn_dim=2 * width, encoder_attention_heads=2 * heads,
            fusion_dropout=0.0,
        )  # fmt: skip
        bert = transformers.BertConfig(
            hidden_size=width, num_attention_heads=heads, intermediate_size=inner,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        bert._attn_implementation = "eager"
        self.attention = GroundingDinoBiMultiHeadAttention(config)
        self.norms = nn.ModuleDict({side: nn.LayerNorm(width, eps=1e-12) for side in SIDES})
        self.layers = nn.ModuleDict({side: BertLayer(bert) for side in SIDES})

    def forward(self, text_BLD, image_BPD, real):
        (image, _), (text, _) = self.attention(image_BPD, text_BLD, None, ~real)
        text = self.norms["text"](text_BLD + text)
        image = self.norms["image"](image_BPD + image)
        padding = torch.where(real, 0.0, torch.finfo(torch.float32).min)[:, None, None]
        return self.layers["text"](text, padding), self.layers["image"](image)

    def tensors(self, place, value):
        """Its weights, or gradients, by the roles of a layer of the design."""
        roles = {}
        for side, other in SIDES.items():
            theirs, others = (("vision" if s == "image" else s) for s in (side, other))
            crossing = {
                f"{theirs}_proj": "query",
                f"{others}_proj": "key",
                f"values_{others}_proj": "value",
                f"out_{theirs}_proj": "output",
            }
            own = {f"attention.{a}.": f"cross_attention.{b}." for a, b in crossing.items()}
            own[f"norms.{side}."] = "cross_norm."
            layer = {}
            for name, parameter in self.named_parameters():
                for before, after in own.items():
                    if name.startswith(before):
                        roles[f"{side}_fusion.{place}.{after}{name[len(before) :]}"] = value(
                            parameter
                        )
                if name.startswith(f"layers.{side}."):
                    rest = name.removeprefix(f"layers.{side}.")
                    layer[f"bert.encoder.layer.{place}.{rest}"] = value(parameter)
            roles |= {
                f"{side}_fusion.{k.removeprefix('layers.')}": x
                for k, x in bert_tensors(layer).items()
            }
        return roles


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("width", "heads", "depth"), [(16, 2, 3), (24, 3, 1)])
def test_values_and_gradients_equal_grounding_dinos(make, batch, packed, width, heads, depth):
    stack = randomised(nn.ModuleList(Reference(width, heads, 40) for _ in range(depth)))
    with torch.no_grad():  # so that the lowest layer's gradients are not too small to compare
        for name, parameter in stack.named_parameters():
            parameter += float("norm" in name.lower() and name.endswith("weight"))
    sizes = {
        "image_width": width,
        "image_heads": 2,
        "text_width": width,
        "text_heads": heads,
        "text_mlp": 40,
    }
    fields = {**SHARED, **BARE, "fusion_layers": depth}
    design = make(NAME, fields, dtype=torch.float32, **sizes)
    tensors = {}
    for place, layer in enumerate(stack):
        tensors |= layer.tensors(place, lambda p: p.detach())
    loaded = design.load_state_dict(tensors, strict=False)
    assert not loaded.unexpected_keys
    assert not [key for key in loaded.missing_keys if "_fusion." in key]
    images, ids, real = batch
    with torch.no_grad():
        image = design.encode_image(images.float())
        text = design.encode_text(ids, real, packed=packed)
    words, looks = text.tokens_BLD, image.tokens_BPD
    for layer in stack:
        words, looks = layer(words, looks, real)
    fused = design.fuse(image, text)
    torch.testing.assert_close(fused.text_BRD[real], words[real], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fused.image_BPD, looks, rtol=1e-5, atol=1e-5)
    for states in ((fused.text_BRD[real], fused.image_BPD), (words[real], looks)):
        sum(x.pow(3).mean(0).sum() for x in states).backward()
    wanted = {}
    for place, layer in enumerate(stack):
        wanted |= layer.tensors(place, lambda p: p.grad)
    ours = {role: p.grad for role, p in design.named_parameters() if "_fusion." in role}
    assert len(wanted) - len(ours) == 4 * depth  # a key is the other stream's query
    torch.testing.assert_close(ours, {role: wanted[role] for role in ours}, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_one_matrix_of_scores_is_read_both_ways(make, batch):
    """The logarithm of either softmax differs by a number a row: of a query, of a key."""
    design = make(NAME, {**SHARED, "fusion_layers": 1, **BARE}, image_width=16)
    image, text = design.encode_image(batch[0]), design.encode_text(*batch[1:])
    (layer,) = design.text_fusion
    (other,) = design.image_fusion
    assert layer.cross_attention.key is other.cross_attention.query
    assert other.cross_attention.key is layer.cross_attention.query
    fused = design.fuse(image, text, keep_attention=["text_fusion.0"])
    scores = [
        side.cross_attention.query(x) @ side.cross_attention.key(y).mT
        for side, x, y in (
            (layer, text.tokens_BLD, image.tokens_BPD), (other, image.tokens_BPD, text.tokens_BLD)
        )
    ]  # fmt: skip
    torch.testing.assert_close(scores[0], scores[1].mT)
    assert fused.attention["text_fusion.0"].shape == (8, 2, 7, 5)


def test_the_top_layer_that_only_words_have_reads_by_keys_of_its_own(make):
    fields = {**SHARED, "fusion_layers": 2, "pooled": "text"}
    shared, own = make(NAME, fields), make(NAME, {**fields, "affinity": "own"})
    count = [sum(p.numel() for p in design.parameters()) for design in (shared, own)]
    assert count[1] - count[0] == 2 * 16 * 17
    names = dict(shared.named_parameters())
    assert "text_fusion.1.cross_attention.key.weight" in names


@pytest.mark.parametrize("fields", [{"order": "meter"}, {"update": "sequential"}])
def test_streams_that_are_compared_at_two_moments_are_refused(small, fields):
    config = registry.config(NAME, {**SHARED, **fields})
    with pytest.raises(SettingError, match="order to 'lxmert' or 'vilbert'"):
        registry.find(NAME).facts(config, small)
