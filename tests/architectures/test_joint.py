"""Joint stacks against what they are named after: ViLT, VisualBERT, METER's merged variant, VLMo.

ViLT and VisualBERT are transformers' models, whose weights come in by the published names. METER's
merged variant and VLMo are written here from references.md with loops over rows, heads and tokens.
"""

import math

import pytest
import torch
import transformers
from torch import Tensor

from architectures import registry
from architectures.backbone import Backbone
from architectures.checkpoints import load_whole
from architectures.cost import cost
from architectures.frozen import SettingError
from architectures.joint import Joint
from architectures.layout import Layout
from architectures.published.vilt import vilt_tensors
from architectures.published.visual_bert import visual_bert_tensors

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


def randomised(model):
    """Every weight of a reference drawn anew, norms and biases too, so that none can be swapped."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def built(name, fields, backbone, weights, objectives=()):
    design = registry.construct(name, fields, backbone, WORDS, objectives=objectives).eval()
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
    design = registry.construct("merged_attention", OVER_PATCHES, backbone, WORDS, ("mlm",)).eval()
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
        visual_attention_mask=torch.ones(visual.shape[:2]),
    )  # fmt: skip
    return *found.last_hidden_state.tensor_split([L], dim=1), found.pooler_output


@pytest.mark.parametrize("packed", [False, True])
def test_merged_over_patches_equals_visual_bert(visual_bert, over_patches, batch, packed):
    images, ids, real = batch
    text, image, pooled = visual_bert_outputs(visual_bert, over_patches, batch)
    states = over_patches.encode_image(images), over_patches.encode_text(ids, real, packed=packed)
    fused = over_patches.fuse(*states)
    close(fused.text_BRD[real], text[real])
    close(fused.image_BPD, image)
    close(fused.pooled_BD, pooled)
    predictions = visual_bert.cls.predictions(text[real])
    close(over_patches.heads["mlm"](fused.text_BRD[real]), predictions)


def test_gradients_equal_visual_berts(visual_bert, small, batch):
    images, ids, real = batch
    backbone = small.with_field("text_layers", 4)
    ours = registry.construct("merged_attention", OVER_PATCHES, backbone, WORDS, ()).eval()
    theirs = registry.construct("merged_attention", OVER_PATCHES, backbone, WORDS, ()).eval()
    embedding = randomised(ours.image).state_dict(prefix="image.")
    whole = {**visual_bert_tensors(visual_bert.visual_bert.state_dict()), **embedding}
    load_whole(ours, whole)
    load_whole(theirs, whole)
    text, image, pooled = visual_bert_outputs(visual_bert, theirs, batch)
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
