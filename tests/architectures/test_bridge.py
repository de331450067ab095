"""BridgeTower from pixels and ids against transformers' BridgeTowerModel; what bridges read."""

import pytest
import torch
import transformers
from transformers.models.bridgetower import modeling_bridgetower

from architectures import registry
from architectures.backbone import Backbone
from architectures.checkpoints import load_whole
from architectures.published.bridgetower import bridgetower_tensors

# Two heads, for BridgeTower's image tower has one for each 64 columns.
TOWERS = Backbone(
    vision="vit_base_patch16_clip_quickgelu_224", image_size=16, patch_size=8, image_width=128,
    image_layers=5, image_heads=2, text="roberta", text_width=32, text_layers=4, text_heads=4,
    text_mlp=48, max_positions=12, dropout=0.0,
)  # fmt: skip
TEXT = dict(
    hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48, vocab_size=50,
    max_position_embeddings=12, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
VISION = dict(hidden_size=128, num_hidden_layers=5, image_size=16, patch_size=8)
FUSION = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4)


def bridgetower(**options):
    """A BridgeTower all of whose weights are random; of five image blocks it keeps four."""
    torch.manual_seed(0)
    config = transformers.BridgeTowerConfig(
        **FUSION, **options, text_config=TEXT, vision_config={**VISION, "remove_last_layer": True}
    )
    # Eager: with sdpa the image stream, whose attention is called causal, would be so.
    config._attn_implementation = config.text_config._attn_implementation = "eager"
    model = transformers.BridgeTowerModel(config).eval()
    for name, parameter in model.named_parameters():
        is_norm = parameter.ndim == 1 and name.endswith("weight")
        torch.nn.init.normal_(parameter, mean=float(is_norm), std=0.2)
    return model


@pytest.fixture(scope="module")
def batch():
    """Pictures (5, 3, 16, 16), ids (5, 8) padded with RoBERTa's 1, and which are real."""
    torch.manual_seed(1)
    real = torch.arange(8) < torch.tensor([8, 3, 5, 4, 8])[:, None]
    return torch.randn(5, 3, 16, 16), torch.randint(4, 50, (5, 8)).where(real, 1), real


OPTIONS = [
    ({}, {}),
    ({"link_tower_type": "scaled_add"}, {"kind": "scaled_add"}),
    ({"link_tower_type": "interpolate"}, {"kind": "interpolate"}),
    ({"share_link_tower_layers": True}, {"share_norms": True}),
    ({"share_cross_modal_transformer_layers": False}, {"share_projections": False}),
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("theirs", "ours"), OPTIONS)
def test_the_whole_model_equals_bridgetower(monkeypatch, batch, theirs, ours, packed):
    """Every output, and the gradient of every weight."""
    # Its class takes a shared bridge out of a list that is none.
    link = modeling_bridgetower.BridgeTowerLinkTower
    monkeypatch.setattr(link, "__getitem__", lambda self, _: self, raising=False)
    images, ids, real = batch
    model = bridgetower(**theirs)
    wanted = model(input_ids=ids, attention_mask=real.long(), pixel_values=images)
    fields = {"fusion_layers": 3, "image_layers": 4, **ours}
    design = registry.construct("bridge", fields, TOWERS, 50, objectives=()).eval()
    load_whole(design, bridgetower_tensors(model.state_dict()))
    fused = design.fuse(design.encode_image(images), design.encode_text(ids, real, packed=packed))
    pairs = [
        (fused.text_BRD[real], wanted.text_features[real]),
        (fused.image_BPD, wanted.image_features),
        (fused.pooled_BD, wanted.pooler_output),
    ]
    for mine, his in pairs:
        torch.testing.assert_close(mine, his, rtol=1e-5, atol=1e-5)
    for side in (0, 1):
        sum(pair[side].pow(3).mean(0).sum() for pair in pairs).backward()
    used = {n: p.grad for n, p in model.named_parameters() if not n.startswith("text_model.pooler")}
    grads = bridgetower_tensors(used)
    for role, parameter in design.named_parameters():
        torch.testing.assert_close(parameter.grad, grads[role], rtol=1e-4, atol=1e-4)
