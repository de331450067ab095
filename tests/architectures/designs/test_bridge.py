"""BridgeTower from pixels and ids against transformers' BridgeTowerModel; what bridges read."""

import pytest
import torch
import transformers
from transformers.models.bridgetower import modeling_bridgetower

from architectures import build, registry
from architectures.backbone import Backbone
from architectures.frozen import SettingError
from architectures.views.cost import cost
from architectures.weights.checkpoints import load_whole
from architectures.weights.published.bridgetower import bridgetower_tensors
from harness.training.loop import optimizer
from harness.training.settings.loop import Optimizer
from tests.architectures.reference import embed, layer, linear, norm, part, randomised

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
    design = build.construct("bridge", fields, TOWERS, 50, objectives=()).eval()
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


ODD = {
    "kind": "gated", "fusion_layers": 3, "bridges": (2,), "text_reads": (0, 6),
    "image_reads": (1, 0), "image_inputs": "raw", "share_projections": False,
}  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("changed", [{}, {"share_norms": True}, {"image_inputs": "normed"}])
def test_chosen_bridges_equal_loops(make, batch, changed):
    """Layers of the towers out of order; a bridge, gated, at the last of three layers only."""
    design = randomised(make("bridge", {**ODD, **changed}))
    weights, vit = dict(design.named_parameters()), design.image.vit
    images, ids, real = (x[:2] for x in batch)  # 8 and 3 words of 8
    fused = design.fuse(design.encode_image(images.double()), design.encode_text(ids, real))
    own = {2: "shared" if "share_norms" in changed else "2"}

    def given(side, place, said, below):
        x = linear(weights, f"{side}_projection.{place}", said) + weights[f"types.{side}.weight"]
        if below is None:
            return norm(weights, f"{side}_bridges.0.norm", x)
        bridge = part(weights, f"{side}_bridges.{own[place]}")
        share = linear(bridge, "gate", torch.cat([x, below], dim=-1)).sigmoid()
        return norm(bridge, "norm", share * x + (1 - share) * below)

    for row in range(2):
        words = int(real[row].sum())
        x = embed(part(weights, "embeddings"), ids[row, :words].tolist())
        text = [x := layer(part(weights, f"layers.{j}"), x, real[row], None, 2) for j in range(8)]
        z = design.image.embed(images[row : row + 1].double())
        blocks = [(z := block(z))[0] for block in vit.blocks]
        blocks = [vit.norm(z) for z in blocks] if "image_inputs" in changed else blocks
        x, y = None, None
        for i in range(3):
            if i in (0, 2):
                x = given("text", i, text[{0: 0, 2: 6}[i]], x)
                y = given("image", i, blocks[{0: 1, 2: 0}[i]], y)
            own_text, own_image = (
                part(weights, f"{side}_fusion.{i}") for side in ("text", "image")
            )
            x, y = layer(own_text, x, real[row], y, 2), layer(own_image, y, [True] * 5, x, 2)
        torch.testing.assert_close(fused.text_BRD[row, :words], x)
        torch.testing.assert_close(fused.image_BPD[row], y)


def test_without_bridges_it_is_meter(make, batch):
    """Same roles, same seed, so the same weights and bit for bit the same result."""
    images, *text = batch
    bridge, meter = make("bridge", {"kind": "none"}), make("co_attention", {})
    assert bridge.state_dict().keys() == meter.state_dict().keys()
    results = [
        design.fuse(design.encode_image(images.double()), design.encode_text(*text))
        for design in (bridge, meter)
    ]
    assert torch.equal(results[0].pooled_BD, results[1].pooled_BD)
    assert torch.equal(results[0].text_BRD, results[1].text_BRD)


@pytest.mark.parametrize(
    ("fields", "text_layers", "blocks", "said"),
    [
        ({}, 12, 12, "0, 1, 2, 3, 4, 5: text layers 6, 7, 8, 9, 10, 11, image blocks 6, 7, 8, 9"),
        ({"image_layers": 11}, 12, 12, "image blocks 5, 6, 7, 8, 9, 10"),
        ({"fusion_layers": 3}, 12, 24, "0, 1, 2: text layers 9, 10, 11, image blocks 19, 21, 23"),
        ({}, 12, 4, "image blocks 1, 2, 2, 2, 3, 3"),
        ({"text_layers": 2}, 12, 2, "text layers 0, 0, 0, 0, 1, 1, image blocks 0, 0, 0, 0, 1, 1"),
        ({"bridges": (1, 5)}, 12, 6, "layers 0, 1, 5: text layers 6, 7, 11, image blocks 3, 3, 5"),
        ({"text_reads": (11,) * 6}, 12, 6, "image blocks 5, 5, 5, 5, 5, 5"),
        ({"kind": "none"}, 12, 6, "fusion layers 0: text layers 11, image blocks 5"),
        ({"fusion_layers": 0}, 12, 6, ""),
    ],
)
def test_what_the_fusion_layers_read(small, fields, text_layers, blocks, said):
    towers = small.with_field("text_layers", text_layers).with_field("image_layers", blocks)
    facts = registry.find("bridge").facts(registry.config("bridge", fields), towers)
    assert said in facts.fusion_reads and bool(said) == facts.can_fuse


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text_layers": 0}, "take 1 or more, or kind 'none'"),
        ({"bridges": (0, 1)}, r"\[0, 1\] must be fusion layers from 1 to 5"),
        ({"bridges": (3, 2)}, r"\[3, 2\] must .* ascending"),
        ({"kind": "none", "bridges": (1,)}, "leave the field bridges out"),
        ({"text_reads": (1, 2)}, r"text_reads \[1, 2\] must name 6 layers from 0 to 7"),
        ({"image_reads": (1,) * 5 + (2,)}, "image_reads .* from 0 to 1"),
    ],
)
def test_bridges_that_cannot_be_say_what_to_do(small, fields, said):
    with pytest.raises(SettingError, match=f"^bridge: .*{said}"):
        build.construct("bridge", fields, small, 50)


def test_rates_and_decay_of_new_norms(make):
    """BridgeTower's five-fold rate for what is new; the norms of bridges may have their own."""
    fields = {"kind": "interpolate", "fusion_layers": 3, "new_part_rate": 5}
    for own, rate in ((None, 5.0), (2, 2.0)):
        design = make("bridge", {**fields, "norm_rate": own}, dtype=torch.float32)
        made = optimizer.build(Optimizer(), design, torch.nn.Module(), fused=False)
        groups = {id(p): group for group in made.param_groups for p in group["params"]}
        found = {role: groups[id(p)] for role, p in design.named_parameters()}
        norms = [role for role in found if "bridges" in role and ".norm." in role]
        assert len(norms) == 2 * 3 * 2
        assert all((found[n]["rate"], found[n]["weight_decay"]) == (rate, 0.0) for n in norms)
        for role in ("text_bridges.1.beta", "image_fusion.2.mlp.inner.weight", "types.text.weight"):
            assert found[role]["rate"] == 5
        assert found["text_bridges.1.beta"]["weight_decay"] == 0
        assert found["layers.0.mlp.inner.weight"]["rate"] == 1
        assert design.text_bridges["1"].beta == 0.5


def test_what_bridges_cost(small):
    """references.md 0: over METER, twelve norms of parameters, and five projections a side."""
    meter, bridge = (
        cost("bridge", fields, small, 50, text_tokens=10) for fields in ({"kind": "none"}, {})
    )
    assert bridge.parameters - meter.parameters == 12 * 2 * 16
    assert bridge.fuse.flops - meter.fuse.flops == 2 * 5 * (10 * 16 + 5 * 24) * 16
