"""Joint stacks against what they are named after: ViLT, VisualBERT, METER's merged variant.

ViLT and VisualBERT are transformers' models, whose weights come in by the published names. METER's
merged variant is written with loops, from references.md.
"""

import pytest
import timm
import torch
import transformers
from torch import Tensor

from architectures import build
from architectures.backbone import Backbone, scale
from architectures.frozen import SettingError
from architectures.layers.sequence import Joint
from architectures.layout import Layout
from architectures.views.cost import cost
from architectures.weights.checkpoints import load_whole
from architectures.weights.published.vilt import vilt_tensors
from architectures.weights.published.visual_bert import visual_bert_tensors
from architectures.weights.slots import role_digests
from tests.architectures.reference import layer, linear, part, randomised

WORDS, L, P = 50, 7, 5
EVEN = Backbone(
    vision="vit_tiny_patch16_224", image_size=16, patch_size=8, image_width=24, image_layers=3,
    image_heads=2, image_norm_eps=1e-12, text_width=24, text_layers=3, text_heads=2, text_mlp=40,
    max_positions=12, dropout=0.0, init_std=0.2, itc_width=8,
)  # fmt: skip


@pytest.fixture
def batch(batch):
    """The shared batch in float32: pictures, ids with padding, and which are real."""
    images, ids, real = batch
    return images.float(), ids, real


def close(ours, wanted, tolerance=1e-5):
    torch.testing.assert_close(ours, wanted, rtol=tolerance, atol=tolerance)


def built(name, fields, backbone, weights, objectives=()):
    design = build.construct(name, fields, backbone, WORDS, objectives=objectives).eval()
    load_whole(design, weights)
    return design


# ---- ViLT ---------------------------------------------------------------------------------------


@pytest.fixture
def vilt():
    config = transformers.ViltConfig(
        vocab_size=WORDS, hidden_size=24, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=96, image_size=16, patch_size=8, max_position_embeddings=12,
        hidden_dropout_prob=0.0,
    )  # fmt: skip
    config._attn_implementation = "eager"
    return randomised(transformers.ViltForMaskedLM(config))


def as_a_set(image_BPD: Tensor) -> Tensor:
    """Image tokens in the order of their first value: transformers shuffles patches."""
    order_BP = image_BPD[..., 0].argsort(dim=1)
    return image_BPD.gather(1, order_BP[..., None].expand_as(image_BPD))


def vilt_outputs(vilt, batch):
    images, ids, real = batch
    found = vilt.vilt(
        input_ids=ids, attention_mask=real.long(), pixel_values=images,
        pixel_mask=torch.ones(len(images), 16, 16, dtype=torch.int64),
    )  # fmt: skip
    text, image = found.last_hidden_state.tensor_split([L], dim=1)
    return text, image, found.pooler_output


@pytest.mark.parametrize("packed", [False, True])
def test_single_stream_equals_vilt(vilt, batch, packed):
    images, ids, real = batch
    design = built("single_stream", {}, EVEN, vilt_tensors(vilt.state_dict()), ("mlm",))
    text, image, pooled = vilt_outputs(vilt, batch)
    states = design.encode_image(images), design.encode_text(ids, real, packed=packed)
    fused = design.fuse(*states)
    close(fused.text_BRD[real], text[real])
    close(fused.pooled_BD, pooled)
    close(fused.image_BPD[:, 0], image[:, 0])
    close(as_a_set(fused.image_BPD), as_a_set(image))
    close(design.heads["mlm"](fused.text_BRD[real]), vilt.mlm_score(text[real]))


def test_gradients_equal_vilts(vilt, batch):
    images, ids, real = batch
    design = built("single_stream", {}, EVEN, vilt_tensors(vilt.vilt.state_dict()))
    text, image, pooled = vilt_outputs(vilt, batch)
    (text[real].pow(3).sum() + image.pow(3).sum() + pooled.sum()).backward()
    fused = design.fuse(design.encode_image(images), design.encode_text(ids, real))
    ours = fused.text_BRD[real].pow(3).sum() + fused.image_BPD.pow(3).sum()
    (ours + fused.pooled_BD.sum()).backward()
    wanted = vilt_tensors({name: p.grad for name, p in vilt.vilt.named_parameters()})
    compare_gradients(design, wanted)


def compare_gradients(design, wanted):
    found = {role: p.grad for role, p in design.named_parameters()}
    assert found.keys() == wanted.keys()
    for role, grad in found.items():
        close(grad, wanted[role], 1e-4)


# ---- VisualBERT ---------------------------------------------------------------------------------

OVER_PATCHES = {"over": "patches"}


@pytest.fixture
def visual_bert():
    config = transformers.VisualBertConfig(
        vocab_size=WORDS, hidden_size=16, visual_embedding_dim=24, num_hidden_layers=4,
        num_attention_heads=2, intermediate_size=32, max_position_embeddings=12,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    config._attn_implementation = "eager"
    return randomised(transformers.VisualBertForPreTraining(config))


@pytest.fixture
def over_patches(visual_bert, small):
    """The design with VisualBERT's weights, and with random ones for its patch embedding."""
    backbone = small.with_field("text_layers", 4)
    design = build.construct("merged_attention", OVER_PATCHES, backbone, WORDS, ("mlm",)).eval()
    embedding = {
        role: p for role, p in randomised(design.image).state_dict(prefix="image.").items()
    }
    load_whole(design, {**visual_bert_tensors(visual_bert.state_dict()), **embedding})
    return design


def visual_bert_outputs(visual_bert, design, batch):
    """Patches embedded by hand: a product for every patch, then class token and positions."""
    images, ids, real = batch
    vit = design.image.vit
    kernel_DK = vit.patch_embed.proj.weight.flatten(1)
    patches = [images[:, :, y : y + 8, x : x + 8].flatten(1) for y in (0, 8) for x in (0, 8)]
    embedded = [patch @ kernel_DK.T + vit.patch_embed.proj.bias for patch in patches]
    first = vit.cls_token[0].expand(len(images), -1)
    visual = torch.stack([first, *embedded], dim=1) + vit.pos_embed
    found = visual_bert.visual_bert(
        input_ids=ids, attention_mask=real.long(), visual_embeds=visual,
        visual_attention_mask=torch.ones(visual.shape[:2]), output_attentions=True,
    )  # fmt: skip
    return *found.last_hidden_state.tensor_split([L], dim=1), found.pooler_output, found.attentions


@pytest.mark.parametrize("packed", [False, True])
def test_merged_over_patches_equals_visual_bert(visual_bert, over_patches, batch, packed):
    images, ids, real = batch
    text, image, pooled, attention = visual_bert_outputs(visual_bert, over_patches, batch)
    states = over_patches.encode_image(images), over_patches.encode_text(ids, real, packed=packed)
    fused = over_patches.fuse(*states, keep_attention=["layers.2"])
    close(fused.text_BRD[real], text[real])
    close(fused.image_BPD, image)
    close(fused.pooled_BD, pooled)
    predictions = visual_bert.cls.predictions(text[real])
    close(over_patches.heads["mlm"](fused.text_BRD[real]), predictions)
    kept, wanted = fused.attention["layers.2"], attention[2][:, :, :L, L:]
    assert kept.shape == (8, 2, L, P)
    close(kept.transpose(1, 2)[real], wanted.transpose(1, 2)[real])


def test_gradients_equal_visual_berts(visual_bert, small, batch):
    images, ids, real = batch
    backbone = small.with_field("text_layers", 4)
    ours = build.construct("merged_attention", OVER_PATCHES, backbone, WORDS, ()).eval()
    theirs = build.construct("merged_attention", OVER_PATCHES, backbone, WORDS, ()).eval()
    embedding = randomised(ours.image).state_dict(prefix="image.")
    whole = {**visual_bert_tensors(visual_bert.visual_bert.state_dict()), **embedding}
    load_whole(ours, whole)
    load_whole(theirs, whole)
    text, image, pooled, _ = visual_bert_outputs(visual_bert, theirs, batch)
    (text[real].pow(3).sum() + image.pow(3).sum() + pooled.sum()).backward()
    fused = ours.fuse(ours.encode_image(images), ours.encode_text(ids, real))
    loss = fused.text_BRD[real].pow(3).sum() + fused.image_BPD.pow(3).sum()
    (loss + fused.pooled_BD.sum()).backward()
    grads = {name: p.grad for name, p in visual_bert.visual_bert.named_parameters()}
    place = grads["embeddings.visual_position_embeddings.weight"][:1].clone()
    wanted = visual_bert_tensors(grads)
    torch.testing.assert_close(wanted["types.image.weight"], 2 * place)  # of either row of the sum
    wanted["types.image.weight"] = place
    wanted |= {f"image.{name}": p.grad for name, p in theirs.image.named_parameters()}
    compare_gradients(ours, wanted)


# ---- METER's merged variant ---------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("packed", [False, True])
def test_merged_over_towers_equals_loops(make, batch, packed):
    """A linear map and a type row each, no norm before the stack, post-norm layers over the words
    that are real and all image tokens, two poolers.
    """
    design = randomised(make("merged_attention", {"text_layers": 1, "fusion_layers": 2}))
    images, ids, real = (x[:3] for x in batch)
    image = design.encode_image(images.double())
    text = design.encode_text(ids, real, packed=packed)
    fused = design.fuse(image, text)
    weights = dict(design.named_parameters())
    for row in range(3):
        words = linear(weights, "text_projection", text.tokens_BLD[row][real[row]])
        patches = linear(weights, "image_projection", image.tokens_BPD[row])
        x = torch.cat(
            [words + weights["types.text.weight"], patches + weights["types.image.weight"]]
        )
        for j in (0, 1):
            x = layer(part(weights, f"fusion.{j}"), x, [True] * len(x), None, heads=2)
        length = int(real[row].sum())
        torch.testing.assert_close(fused.text_BRD[row][real[row]], x[:length])
        torch.testing.assert_close(fused.image_BPD[row], x[length:])
        poolers = (("pooler", x[0]), ("image_pooler", x[length]))
        pooled = [linear(weights, name, first).tanh() for name, first in poolers]
        torch.testing.assert_close(fused.pooled_BD[row], torch.cat(pooled))


# ---- all ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_joined_comes_apart_again(packed):
    real = torch.tensor([[True, True, False], [True, True, True]])
    joint = Joint(Layout.of(real, packed=packed), 2)
    words, patches = torch.arange(6.0).view(2, 3, 1), torch.arange(10.0, 14).view(2, 2, 1)
    flat = joint.join(joint.text.pack(words), patches)
    order = [0, 1, 10, 11, 3, 4, 5, 12, 13] if packed else [0, 1, 2, 10, 11, 3, 4, 5, 12, 13]
    assert flat.flatten().tolist() == order
    text, image = joint.split(flat)
    assert torch.equal(joint.text.unpack(text)[real], words[real]) and torch.equal(image, patches)


def test_a_joint_stack_shares_the_image_tower_and_the_words_with_other_designs(make):
    other = role_digests(make("dual_encoder", {}, dtype=torch.float32))
    for name, fields in (("single_stream", {}), ("merged_attention", {})):
        own = role_digests(make(name, fields, dtype=torch.float32))
        shared = {role for role in other if role.startswith(("image.", "embeddings."))}
        assert {role: own[role] for role in shared} == {role: other[role] for role in shared}


def test_joint_layers_start_from_the_layers_that_the_rule_names(make):
    over_towers = make("merged_attention", {"fusion_layers": 2, "fusion_from": "last"})
    weight = over_towers.fusion[0].mlp.inner.weight
    assert torch.equal(weight, over_towers.layers[6].mlp.inner.weight)
    assert "fusion.0." not in over_towers.new_parts()
    fresh = make("merged_attention", {"fusion_layers": 2})
    assert not torch.equal(fresh.fusion[0].mlp.inner.weight, weight)
    assert "fusion.0." in fresh.new_parts()
    over_patches = make("merged_attention", {"over": "patches", "fusion_layers": 2})
    first = over_patches.layers[1].mlp.inner.weight
    assert torch.equal(first, over_towers.layers[1].mlp.inner.weight)


def test_pretrained_image_weights_fill_what_a_stack_has(make, tmp_path):
    """The lowest blocks of a deeper stack; the patch embedding alone where no block is used."""
    sizes = dict(img_size=16, patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=0)
    model = randomised(timm.create_model("vit_tiny_patch16_224", **sizes))
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    named = {"vision_weights": str(tmp_path / "vit.pth"), "dtype": torch.float32}
    deep = make("single_stream", {"layers": 3}, **named)
    assert torch.equal(deep.image.vit.blocks[1].mlp.fc2.weight, model.blocks[1].mlp.fc2.weight)
    fresh = make("single_stream", {"layers": 3}, dtype=torch.float32).image.vit.blocks[2]
    assert torch.equal(deep.image.vit.blocks[2].mlp.fc2.weight, fresh.mlp.fc2.weight)
    assert (
        "image.vit.blocks.2." in deep.new_parts() and "image.vit.blocks.1." not in deep.new_parts()
    )
    over_patches = make("merged_attention", {"over": "patches"}, **named)
    assert torch.equal(over_patches.image.vit.pos_embed, model.pos_embed)
    assert not hasattr(over_patches.image.vit.norm, "weight")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"separate_passes": True}, "separate_passes is for over = 'patches'"),
        ({"over": "patches", "text_layers": 2}, "text_layers is 2, but over patches no layer"),
        ({"over": "patches", "image_layers": 1}, "image_layers is 1, but over patches"),
        ({"over": "patches", "itc_layer": 0}, "itc_layer is 0, but over patches"),
        ({"over": "patches", "fusion_layers": 0}, "fusion_layers must be at least 1"),
        ({"over": "patches", "fusion_layers": 9}, "fusion_from 'first' gives at most 8"),
        ({"projections": False}, "differ; make them equal, or turn projections on"),
    ],
)
def test_what_a_merged_stack_cannot_be_is_said(make, fields, said):
    with pytest.raises(SettingError, match=said):
        make("merged_attention", fields)


# ---- cost ---------------------------------------------------------------------------------------


def block(n: int, d: int) -> int:
    """Multiply-accumulates of a block on n tokens; references.md section 0."""
    return 12 * n * d * d + 2 * n * n * d


def block_read(r: int, n: int, d: int) -> int:
    """The same where r of the n tokens are read: keys and values of all of them remain."""
    return 2 * n * d * d + 10 * r * d * d + 2 * r * n * d


def test_merged_parameters_and_flops_are_those_of_the_literature():
    base, text, image, d = scale("base"), 25, 257, 768
    with torch.device("meta"):
        design = build.construct("merged_attention", {}, base, 30522, ())
    size = {n: sum(p.numel() for p in m.parameters()) for n, m in design.named_children()}
    assert size["fusion"] == 12 * (12 * d * d + 13 * d) == 12 * 7_087_872
    assert size["text_projection"] + size["image_projection"] == 1_181_184
    assert size["pooler"] + size["image_pooler"] == 1_181_184
    assert round(12 * block(text + image, d) / 1e9, 2) == 25.42


FIELDS_AND_READ = [  # tokens of the image that are read besides words, and poolers
    ("merged_attention", {"fusion_layers": 2}, 1, 2),
    ("merged_attention", {"fusion_layers": 2, "over": "patches"}, 0, 1),
    ("single_stream", {"layers": 2}, 0, 1),
]


@pytest.mark.parametrize(("name", "fields", "more", "poolers"), FIELDS_AND_READ)
def test_flops_equal_the_formulae(name, fields, more, poolers):
    d, words = 24, 10
    both = words + P
    wide = EVEN.with_field("text_mlp", 4 * d)
    counted = cost(name, fields, wide, WORDS, text_tokens=words)
    once = poolers * d * d
    if name == "merged_attention":
        once += (P + (words if "over" not in fields else 0)) * d * d
    assert counted.fuse.flops == 2 * (once + 2 * block(both, d))
    for made, positions in ((counted.fuse_pooled, 1), (counted.fuse_masked, 3)):
        last = block_read(positions + more, both, d)
        assert made.flops == 2 * (once + block(both, d) + last)


@pytest.mark.parametrize(
    ("name", "fields"),
    [("single_stream", {}), ("merged_attention", {"over": "patches", "fusion_layers": 3})],
)
def test_only_itc_pays_for_a_pass_of_each_modality(name, fields):
    """And of its last layer for the first token alone."""
    d, words = 24, 10
    wide = EVEN.with_field("text_mlp", 4 * d)
    plain = cost(name, fields, wide, WORDS, text_tokens=words)
    counted = cost(name, {**fields, "separate_passes": True}, wide, WORDS, text_tokens=words)
    for part_ in ("image", "text", "fuse", "fuse_pooled", "fuse_masked"):
        assert getattr(counted, part_).flops == getattr(plain, part_).flops
    assert plain.image.flops == 2 * 4 * 3 * 8 * 8 * d and plain.text.flops == 0
    itc = 2 * d * 8 + (P * d * d if name == "merged_attention" else 0)
    for n in (words, P):
        itc += 2 * block(n, d) + block_read(1, n, d)
    assert counted.heads["itc"].flops == 2 * itc and "itc" not in plain.heads


@pytest.mark.parametrize(("name", "fields", "more", "poolers"), FIELDS_AND_READ[:2])
def test_an_image_is_projected_once_however_many_rows_show_it(name, fields, more, poolers):
    with torch.device("meta"):
        design = build.construct(name, fields, EVEN, WORDS, ())
        image = design.encode_image(torch.zeros(2, 3, 16, 16))
        ids = torch.ones(6, L, dtype=torch.int64)
        text = design.encode_text(ids, ids > 0)
        seen = []
        design.image_projection.register_forward_hook(
            lambda _, args, __: seen.append(args[0].shape)
        )
        design.fuse(image.take(torch.tensor([0, 1, 1, 0, 0, 1])), text)
    assert seen == [(2, P, 24)]
