"""One-way fusion against loops, from ids to pooled output; depths, costs, DistilBERT's weights."""

import pytest
import torch
import transformers

from architectures import build
from architectures.backbone import scale
from architectures.frozen import SettingError
from architectures.views.cost import cost
from architectures.weights.published.distilbert import RULES
from architectures.weights.published.names import renamed
from tests.architectures.reference import embed, layer, linear, part, randomised, saved

SPLIT, FULL, DISTIL = "split_bert", "full_text_deep_fusion", "distilbert_fusion"
BELOW = {"image_layers": 1, "itc_layer": 1}
CASES = {  # fields; embeddings, text layers and fusion layers by role; which of them read the image
    "split": (
        SPLIT,
        {"text_layers": 3, "cross_every": 2, "type_embeddings": True, "pooler": True, **BELOW},
        ("embeddings", ["layers.0", "layers.1", "layers.2"], [f"layers.{j}" for j in range(3, 8)]),
        ["layers.3", "layers.5", "layers.7"],
    ),
    "0+n": (
        SPLIT,
        {"text_layers": 0},
        ("embeddings", [], [f"layers.{j}" for j in range(8)]),
        [f"layers.{j}" for j in range(8)],
    ),
    "full text": (
        FULL,
        {"text_layers": 2, "fusion_layers": 3, "cross_every": 3, "type_embeddings": True},
        ("embeddings", ["layers.0", "layers.1"], ["fusion.0", "fusion.1", "fusion.2"]),
        ["fusion.2"],
    ),
    "DistilBERT fuses": (
        DISTIL,
        {"text_layers": 2, "distil_layers": 3, "pooler": True},
        ("embeddings", ["layers.0", "layers.1"], ["distil.0", "distil.1", "distil.2"]),
        ["distil.0", "distil.1", "distil.2"],
    ),
    "BERT fuses": (
        DISTIL,
        {"text_encoder": "distilbert", "distil_layers": 2, "fusion_layers": 3, "cross_every": 2},
        ("distil_embeddings", ["distil.0", "distil.1"], ["layers.0", "layers.1", "layers.2"]),
        ["layers.0", "layers.2"],
    ),
}


def by_loops(design, places, crossing, ids, real, image):
    """Text states, what ITC reads, fused states and pooled output of one row; references.md 1.1."""
    weights = dict(design.named_parameters())
    embeddings, text_layers, fusion_layers = places
    x = embed(part(weights, embeddings), ids.tolist())
    outputs = []
    for name in text_layers:
        outputs.append(x := layer(part(weights, name), x, real, None, heads=2))
    text, itc_layer = x, design.config.itc_layer
    if not outputs:
        aligned = x[: int(real.sum())].mean(0)
    else:
        aligned = outputs[-1 if itc_layer is None else itc_layer][0]
    if design.config.type_embeddings:
        x = x + weights["types.text.weight"][0]
        image = image + weights["types.image.weight"][0]
    for name in fusion_layers:
        x = layer(part(weights, name), x, real, image if name in crossing else None, heads=2)
    pooled = linear(weights, "pooler", x[0]).tanh() if design.config.pooler else x[0]
    return text, aligned, x, pooled


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES)
def test_from_ids_to_pooled_output_as_loops_say(make, batch, case, dtype):
    name, fields, places, crossing = CASES[case]
    design = randomised(make(name, fields, dtype=dtype))
    limit = 1e-5 if dtype is torch.float32 else 1e-9
    images, ids, real = (x[1:3] for x in batch)  # 3 and 5 words of 7
    image = design.encode_image(images.to(dtype))
    assert design.crossings() == tuple(crossing)
    wanted = [
        by_loops(design, places, crossing, ids[row], real[row], image.tokens_BPD[row])
        for row in range(2)
    ]
    for packed in (False, True):
        text = design.encode_text(ids, real, packed=packed)
        fused = design.fuse(image, text)
        for row, theirs in enumerate(wanted):
            words = real[row]
            ours = (
                text.tokens_BLD[row][words],
                text.pooled_BD[row],
                fused.text_BRD[row][words],
                fused.pooled_BD[row],
            )
            theirs = tuple(x[words] if x.ndim > 1 else x for x in theirs)
            torch.testing.assert_close(ours, theirs, rtol=limit, atol=limit)


def test_an_image_tower_of_fewer_blocks_is_the_lower_part_of_the_whole(make, batch):
    whole, lower = make(SPLIT, {}), make(SPLIT, {"image_layers": 1})
    vit = whole.image.vit
    wanted = vit.norm(vit.blocks[0](whole.image.embed(batch[0])))
    torch.testing.assert_close(lower.encode_image(batch[0]).tokens_BPD, wanted)
    facts = [d.facts(d.config, d.backbone).image_layers for d in (whole, lower)]
    assert facts == [2, 1]


@pytest.mark.parametrize(
    ("name", "fields", "text", "why"),
    [
        (SPLIT, {"text_layers": 8}, 8, "text_layers = 8 leaves no fusion layer"),
        (FULL, {"fusion_layers": 0}, 8, "fusion_layers = 0 leaves no fusion layer"),
        (DISTIL, {"fusion_layers": 0, "text_layers": 5}, 5, "fusion_layers = 0"),
        (DISTIL, {"fusion_layers": 0, "text_encoder": "distilbert"}, 6, "fusion_layers = 0"),
    ],
)
def test_without_a_fusion_layer_text_is_the_whole_tower(make, batch, name, fields, text, why):
    design = make(name, {**fields, "pooler": True, "type_embeddings": True})
    facts = design.facts(design.config, design.backbone)
    assert (facts.text_layers, facts.fusion_layers) == (text, 0)
    assert facts.can_align and why in facts.no_fuse
    assert design.heads.keys() == {"itc"} and design.crossings() == ()
    assert not any(role.startswith(("types", "pooler")) for role, _ in design.named_parameters())
    states = design.encode_image(batch[0]), design.encode_text(*batch[1:])
    with pytest.raises(TypeError, match=f"{name} cannot fuse: {why}"):
        design.fuse(*states)


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        (SPLIT, {"text_layers": 9}, "split_bert: text_layers is 9.* take 0 to 8"),
        (SPLIT, {"text_layers": 2, "itc_layer": 2}, "itc_layer is 2, but text has 2.* 0 to 1"),
        (SPLIT, {"text_layers": 0, "itc_layer": 0}, "itc_layer is 0.*leave it out"),
        (SPLIT, {"image_layers": 3}, "image_layers is 3.* take 1 to 2"),
        (SPLIT, {"cross_every": 0}, "split_bert: cross_every: .*greater than or equal to 1"),
        (FULL, {"text_layers": 9}, "full_text_deep_fusion: text_layers is 9.* take 0 to 8"),
        (FULL, {"fusion_layers": 9}, "full_text_deep_fusion: fusion_from 'last' gives at most 8"),
        (DISTIL, {"text_layers": 9}, "text_layers is 9, but bert has 8: take 0 to 8"),
        (DISTIL, {"fusion_layers": 7}, "distilbert_fusion: fusion_from 'last' gives at most 6"),
        (
            DISTIL,
            {"text_encoder": "distilbert", "text_layers": 4, "distil_layers": 3},
            "text_layers is 4, but distilbert has 3: take 0 to 3",
        ),
    ],
)
def test_what_cannot_be_built_names_the_field(make, name, fields, said):
    with pytest.raises(SettingError, match=said):
        make(name, fields)


def test_layers_that_cannot_fuse(make):
    for name in (SPLIT, FULL):
        with pytest.raises(SettingError, match="the layers of text 'clip' see earlier words only"):
            make(name, {}, text="clip")
    with pytest.raises(SettingError, match=r"text is\s'roberta'; set it to 'bert'"):
        make(DISTIL, {}, text="roberta")


# ---- what it costs -------------------------------------------------------------------------------

BLOCK, CROSS, D, L, P = 7_087_872, 2_363_904, 768, 25, 257


def macs(tokens: int) -> int:
    """Multiply-accumulates of a block; references.md section 0."""
    return 12 * tokens * D * D + 2 * tokens * tokens * D


BASE = scale("base").with_field("image_layers", 1)


@pytest.mark.parametrize(
    ("name", "fields", "text", "fusion", "crossing"),
    [
        (FULL, {}, 12, 6, 6),
        (FULL, {"fusion_layers": 12, "fusion_from": "first", "cross_every": 3}, 12, 12, 4),
        (DISTIL, {"text_encoder": "distilbert"}, 6, 12, 12),
    ],
)
def test_parameters_and_flops_equal_the_formulae(name, fields, text, fusion, crossing):
    counted = cost(name, fields, BASE, 30522, text_tokens=L)
    types = 2 * D if name == DISTIL else 0
    assert counted.by_part["text"] == 23_837_184 - types + text * BLOCK
    assert counted.by_part["fusion"] == fusion * BLOCK + crossing * CROSS
    assert counted.text.flops == 2 * text * macs(L)
    cross = 2 * L * D * D + 2 * P * D * D + 2 * L * P * D
    assert counted.fuse.flops == 2 * (fusion * macs(L) + crossing * cross)


# ---- DistilBERT ----------------------------------------------------------------------------------

SIZES = dict(
    vocab_size=50, dim=16, n_layers=3, n_heads=2, hidden_dim=32, max_position_embeddings=12
)
ATTENTION = {"q_lin": "query", "k_lin": "key", "v_lin": "value", "out_lin": "output"}
THEIRS = {  # DistilBERT's names of a layer, written out the other way round than the product's
    "sa_layer_norm": "self_norm",
    "ffn.lin1": "mlp.inner",
    "ffn.lin2": "mlp.outer",
    "output_layer_norm": "mlp_norm",
    **{f"attention.{theirs}": f"self_attention.{ours}" for theirs, ours in ATTENTION.items()},
}


@pytest.fixture(scope="module")
def distilbert(tmp_path_factory):
    """A random DistilBERT with its MLM head, and its folder."""
    config = transformers.DistilBertConfig(**SIZES, attn_implementation="eager")
    model = transformers.DistilBertForMaskedLM(config)
    return model, saved(model, tmp_path_factory.mktemp("distilbert"))


def same_layer(ours, theirs) -> bool:
    """Whether every weight of one of DistilBERT's layers is in one of ours."""
    return all(
        torch.equal(
            ours.get_submodule(mine).get_parameter(kind),
            theirs.get_submodule(his).get_parameter(kind),
        )
        for his, mine in THEIRS.items()
        for kind in ("weight", "bias")
    )


@pytest.mark.parametrize(
    ("rule", "sources"),
    [("last", [0, 1, 2]), ("copies", [1, 1, 2, 2]), ((2, 0), [2, 0])],
)
def test_fusion_slots_hold_distilberts_layers(make, distilbert, rule, sources):
    model, folder = distilbert
    fields = {"distil_layers": 3, "fusion_layers": len(sources), "fusion_from": rule}
    design = make(DISTIL, {**fields, "distil_weights": folder}, dtype=torch.float32)
    layers = model.distilbert.transformer.layer
    for slot, source in zip(design.distil, sources, strict=True):
        assert [same_layer(slot, layer) for layer in layers] == [j == source for j in range(3)]
    random = make(DISTIL, fields, dtype=torch.float32)
    for ours, drawn in ((design.layers, random.layers), (design.embeddings, random.embeddings)):
        for mine, his in zip(ours.parameters(), drawn.parameters(), strict=True):
            assert torch.equal(mine, his)  # BERT's own part is not DistilBERT's
    assert torch.equal(design.heads["mlm"].dense.weight, random.heads["mlm"].dense.weight)
    assert torch.equal(
        design.distil[1].cross_attention.key.weight, random.distil[1].cross_attention.key.weight
    )


REVERSE = {"text_encoder": "distilbert", "distil_layers": 3}


def test_in_the_reverse_text_is_distilbert(make, batch, distilbert):
    model, folder = distilbert
    design = make(DISTIL, {**REVERSE, "distil_weights": folder}, dtype=torch.float32)
    _, ids, real = batch
    model.zero_grad()
    wanted = model.distilbert(ids, attention_mask=real.long()).last_hidden_state
    text = design.encode_text(ids, real)
    torch.testing.assert_close(text.tokens_BLD[real], wanted[real], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(text.pooled_BD, wanted[:, 0], rtol=1e-5, atol=1e-5)
    wanted[real].pow(3).sum().backward()
    text.tokens_BLD[real].pow(3).sum().backward()
    ours = {role: p.grad for role, p in design.named_parameters()}
    for name, parameter in model.distilbert.named_parameters():
        role = renamed(f"distilbert.{name}", RULES)
        role = role.replace("layers.", "distil.").replace("embeddings.", "distil_embeddings.")
        torch.testing.assert_close(ours[role], parameter.grad, rtol=1e-4, atol=1e-4)


def test_in_the_reverse_the_mlm_head_is_distilberts(make, distilbert):
    model, folder = distilbert
    design = make(DISTIL, {**REVERSE, "distil_weights": folder}, dtype=torch.float32)
    states = torch.randn(5, 16)
    hidden = torch.nn.functional.gelu(model.vocab_transform(states))
    wanted = model.vocab_projector(model.vocab_layer_norm(hidden))
    torch.testing.assert_close(design.heads["mlm"](states), wanted, rtol=1e-5, atol=1e-5)
    assert design.heads["mlm"].decoder.weight is design.distil_embeddings.word.weight
    assert not hasattr(design, "embeddings")


def test_both_models_from_folders(make, distilbert, tmp_path):
    """BERT's layers come from BERT, DistilBERT's from DistilBERT, in either direction."""
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=8, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=12,
    )  # fmt: skip
    bert = transformers.BertForMaskedLM(config)
    weights = {"text_weights": saved(bert, tmp_path)}
    model, folder = distilbert
    words = {"bert": bert.bert.embeddings, "distilbert": model.distilbert.embeddings}
    heads = {"bert": bert.cls.predictions.transform.dense, "distilbert": model.vocab_transform}
    for which, embeddings in words.items():
        fields = {"text_encoder": which, "distil_layers": 3, "distil_weights": folder}
        design = make(DISTIL, fields, dtype=torch.float32, **weights)
        assert torch.equal(design.word_embedding().weight, embeddings.word_embeddings.weight)
        assert torch.equal(design.heads["mlm"].dense.weight, heads[which].weight)
        for ours, his in zip(design.layers, bert.bert.encoder.layer, strict=True):
            assert torch.equal(ours.mlp.inner.weight, his.intermediate.dense.weight)
        assert all(map(same_layer, design.distil, model.distilbert.transformer.layer))


@pytest.mark.parametrize(
    ("sizes", "fields", "said"),
    [
        ({}, {}, "distil_layers is 6, there 3. Set distil_layers to 3"),
        (
            {"dim": 24},
            {"distil_layers": 3},
            "text_width is 16, there 24. Set backbone.text_width to 24",
        ),
        ({"n_heads": 4}, {"distil_layers": 3}, "text_heads is 2, there 4"),
        ({"hidden_dim": 24}, REVERSE, "text_mlp is 32, there 24"),
        ({"vocab_size": 60}, REVERSE, "vocabulary is 50, there 60"),
        ({"max_position_embeddings": 9}, REVERSE, "max_positions is 12, there 9"),
        ({"activation": "relu"}, REVERSE, "activation is 'relu'"),
    ],
)
def test_a_distilbert_that_does_not_fit_names_the_field(small, tmp_path, sizes, fields, said):
    config = transformers.DistilBertConfig(**{**SIZES, **sizes})
    transformers.DistilBertModel(config).save_pretrained(tmp_path)
    with pytest.raises(SettingError, match=f"distilbert_fusion: distil_weights .*{said}"):
        build.construct(DISTIL, {**fields, "distil_weights": str(tmp_path)}, small, 50)


def test_what_is_no_distilbert(small, tmp_path):
    config = transformers.BertConfig(vocab_size=50, hidden_size=12, num_hidden_layers=1)
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(SettingError, match=r"distil_weights .* is a bert, not a distilbert$"):
        build.construct(DISTIL, {"distil_weights": str(tmp_path)}, small, 50)
