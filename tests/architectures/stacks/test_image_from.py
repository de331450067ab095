"""What fusion reads of the image tower: blocks by number, one for each layer, several at once."""

import dataclasses

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, VipLlavaConfig
from transformers.models.vipllava.modeling_vipllava import VipLlavaMultiModalProjector

from architectures import registry
from architectures.downstream.gradcam import maps
from architectures.frozen import SettingError
from architectures.layers.blocks import Attention
from architectures.layers.read import Read
from architectures.stacks.image_from import SideBySide
from tests.architectures.reference import embed, layer, part, randomised

SIZES = {"image_layers": 4, "text_layers": 6}


def raw_blocks(design, images):
    """The tokens after every block, one block after another."""
    x, outputs = design.image.embed(images), []
    for block in design.image.vit.blocks:
        x = block(x)
        outputs.append(x)
    return outputs


def concatenated(design, images, blocks):
    weights, outputs = design.image_blocks, raw_blocks(design, images)
    if design.name == "query_bottleneck":
        outputs = [design.image.vit.norm(x) for x in outputs]
    x = weights.norm(torch.cat([outputs[j] for j in blocks], dim=-1))
    return weights.outer(torch.nn.functional.gelu(weights.inner(x)))


READS = [
    ({"image_from": "each"}, (2, 3)),
    ({"image_from": "each", "text_layers": 0}, (0, 0, 1, 2, 2, 3)),
    ({"image_from": [3, 0]}, (3, 0)),
    ({"image_from": [1]}, (1, 1)),
    ({"image_from": [2, 0, 3], "image_concat": True}, None),
    ({"image_from": "each", "cross_every": 2, "text_layers": 2}, (2, 3)),
]


VARIANTS = {
    "split_bert": [{"text_layers": 3}],
    "co_attention": [{}, {"pooled": "text"}],
    "query_bottleneck": [{}, {"queries_read_text": False}],
}
WITH_BLOCKS = [
    (name, fields)
    for name in registry.names()
    if "image_from" in registry.find(name).Config.model_fields
    for fields in VARIANTS.get(name, [{}])
]
ONCE = ("co_attention", "merged_attention", "token_insertion")
"""Designs whose image tokens enter their layers once."""


def both_fused(design, image, text):
    fused = design.fuse(image, text)
    return fused.text_BRD, fused.pooled_BD


@torch.no_grad()
@pytest.mark.parametrize(("name", "fields"), WITH_BLOCKS)
def test_a_block_is_the_last_one_of_a_shorter_tower(make, batch, name, fields):
    if name == "query_bottleneck":  # whose tower nothing else reads
        with pytest.raises(SettingError, match="set image_layers to 2"):
            make(name, {**fields, "image_from": [1]}, **SIZES)
        return
    design = randomised(make(name, {**fields, "image_from": [1]}, **SIZES))
    shorter = make(name, {**fields, "image_layers": 2}, **SIZES)
    weights = design.state_dict()
    shorter.load_state_dict({role: weights[role] for role in shorter.state_dict()})
    text = design.encode_text(*batch[1:])
    image = design.encode_image(batch[0])
    wanted = both_fused(shorter, shorter.encode_image(batch[0]), text)
    torch.testing.assert_close(both_fused(design, image, text), wanted)


@torch.no_grad()
@pytest.mark.parametrize(("name", "fields"), WITH_BLOCKS)
def test_blocks_side_by_side_stand_in_place_of_the_last_one(make, batch, name, fields):
    chosen = {"image_from": [3, 0], "image_concat": True}
    design = randomised(make(name, {**fields, **chosen}, **SIZES))
    plain = make(name, fields, **SIZES)
    weights = design.state_dict()
    plain.load_state_dict({role: weights[role] for role in plain.state_dict()})
    text, images = design.encode_text(*batch[1:]), batch[0]
    read = concatenated(design, images, chosen["image_from"])
    plain_image = plain.image(images)
    fused = both_fused(design, design.encode_image(images), text)
    assert not torch.equal(fused[1], both_fused(plain, plain.encode_image(images), text)[1])
    plain.image.forward = lambda *_, **__: dataclasses.replace(plain_image, distinct_UPD=read)
    torch.testing.assert_close(fused, both_fused(plain, plain.encode_image(images), text))
    assert any(role.startswith("image_blocks.") for role in weights)
    assert "image_blocks." in design.new_parts()


@torch.no_grad()
@pytest.mark.parametrize(("name", "fields"), WITH_BLOCKS)
def test_each_layer_reads_its_own_block(make, batch, name, fields):
    if name in ONCE:
        for chosen in ("each", [0, 1]):
            with pytest.raises(SettingError, match="enter its fusion layers once"):
                make(name, {**fields, "image_from": chosen}, **SIZES)
        return
    design = randomised(make(name, {**fields, "image_from": "each"}, **SIZES))
    outputs = [design.image.vit.norm(x) for x in raw_blocks(design, batch[0])]
    image = design.encode_image(batch[0])
    seen = []

    def note(_, inputs, __):
        for value in inputs:
            if isinstance(value, Read) and value.states.shape == outputs[0].shape:
                seen.append(value.states)

    for module in design.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(note)
    if fields.get("queries_read_text", True):
        design.fuse(image, design.encode_text(*batch[1:]))
    else:
        design.encode_image(batch[0])
    wanted = [outputs[block] for block in design.blocks]
    assert len(seen) > 1
    torch.testing.assert_close(seen, wanted)


@torch.no_grad()
@pytest.mark.parametrize(("fields", "blocks"), READS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_layers_read_the_blocks_that_are_named(make, batch, fields, blocks, dtype):
    fields = {"text_layers": 4, **fields}
    design = randomised(make("split_bert", fields, dtype=dtype, **SIZES))
    images, ids, real = (batch[0][:3].to(dtype), *(x[:3] for x in batch[1:]))
    image = design.encode_image(images)
    fused = design.fuse(image, design.encode_text(ids, real, packed=True))
    outputs = [design.image.vit.norm(x) for x in raw_blocks(design, images)]
    torch.testing.assert_close(image.pooled_BD, outputs[-1][:, 0])  # ITC's
    weights, heads = dict(design.named_parameters()), design.backbone.text_heads
    tolerance = 1e-10 if dtype is torch.float64 else 1e-5
    for row, length in enumerate(real.sum(1).tolist()):
        x = embed(part(weights, "embeddings"), ids[row, :length].tolist())
        turns = iter(blocks or ())
        for j, module in enumerate(design.layers):
            read = None
            if module.crosses and blocks:
                read = outputs[next(turns)][row]
            elif module.crosses:
                read = concatenated(design, images, fields["image_from"])[row]
            x = layer(part(weights, f"layers.{j}"), x, [True] * length, read, heads)
        near = {"rtol": tolerance, "atol": tolerance}
        torch.testing.assert_close(fused.text_BRD[row, :length], x, **near)


def test_naming_the_last_block_changes_nothing(make, batch):
    """But for how the tower keeps its layers."""
    fused = []
    for fields in ({}, {"image_from": [3]}):
        design = make("full_text_deep_fusion", {"fusion_layers": 2, **fields}, **SIZES)
        fused.append(design.fuse(design.encode_image(batch[0]), design.encode_text(*batch[1:])))
    torch.testing.assert_close(fused[0].pooled_BD, fused[1].pooled_BD)


@pytest.mark.parametrize(("width", "blocks"), [(24, 3), (16, 5)])
def test_side_by_side_equals_vip_llavas_projector(width, blocks):
    config = VipLlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=width, num_attention_heads=2),
        text_config=LlamaConfig(hidden_size=width, num_attention_heads=2),
        vision_feature_layers=list(range(blocks)),
    )  # fmt: skip
    theirs = randomised(VipLlavaMultiModalProjector(config))
    ours = SideBySide(blocks, width)
    names = {"projector_layernorm": "norm", "linear_1": "inner", "linear_2": "outer"}

    def own(tensors):
        return {
            name.replace(before, after): x
            for name, x in tensors.items()
            for before, after in names.items()
            if name.startswith(before)
        }

    ours.load_state_dict(own(theirs.state_dict()))
    x = torch.randn(2, 5, blocks * width)
    results = [module(x) for module in (theirs, ours)]
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)
    for result in results:
        result.pow(3).mean().backward()
    wanted = own({name: p.grad for name, p in theirs.named_parameters()})
    grads = {name: p.grad for name, p in ours.named_parameters()}
    torch.testing.assert_close(grads, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("by", ["itm", "itc"])
def test_maps_are_made_of_the_block_that_is_read(make, batch, by):
    fields = {"image_from": "each", "text_layers": 4}
    design = make("split_bert", fields, **SIZES)
    shown = maps(design, *(x[:2] for x in batch), by=by)
    assert shown.map_Bhw.shape == (2, 2, 2) and shown.gradient.any()


@torch.no_grad()
def test_two_pictures_are_read_at_the_same_blocks(make, batch):
    design = make("split_bert", {"image_from": [0, 3], "text_layers": 4}, **SIZES).for_images(2)
    images, ids, real = batch
    text = design.encode_text(ids[:4], real[:4])
    fused = design.fuse(design.encode_image(images), text)
    one = design.fuse(design.encode_image(images[2:4]), text.take(torch.tensor([1])))
    torch.testing.assert_close(one.pooled_BD, fused.pooled_BD[1:2])


def test_facts_say_what_is_read(small):
    cls = registry.find("split_bert")
    config = registry.config("split_bert", {"text_layers": 6, "image_from": [0, 1]})
    reads = cls.facts(config, small).fusion_reads
    assert reads == "image blocks 0, 1, one for each fusion layer"
    assert cls.facts(registry.config("split_bert", {}), small).fusion_reads == ""


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        (
            {"image_from": [2]},
            r"image_from \[2\] must name 1 or 2 of the blocks 0 to 1",
        ),
        ({"image_from": [0, 1, 0]}, "must name 1 or 2 of"),
        ({"image_from": []}, "must name 1 or 2 of"),
        ({"image_from": [], "image_concat": True}, "must name at least 1 of"),
        ({"image_from": "each", "image_concat": True}, "leave image_concat out"),
    ],
)
def test_blocks_that_are_not_there_are_refused(small, fields, error):
    config = registry.config("split_bert", {"text_layers": 6, **fields})
    with pytest.raises(SettingError, match=error):
        registry.find("split_bert").facts(config, small)


def test_over_patches_there_is_no_block_to_read(small):
    for fields in ({"image_from": [0]}, {"image_concat": True}):
        config = registry.config("merged_attention", {"over": "patches", **fields})
        with pytest.raises(SettingError, match="over patches no layer is of one modality alone"):
            registry.find("merged_attention").facts(config, small)
