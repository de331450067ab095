"""The shared stack against BLIP's whole model: both readings of one stack, [ENC], its files."""

import copy

import pytest
import torch

from architectures import build
from architectures.frozen import SettingError
from architectures.layers.similarity import cosines
from architectures.weights.checkpoints import load_whole, read
from architectures.weights.published.blip import blip_tensors
from tests.architectures.conftest import VOCABULARY
from tests.architectures.published_models import for_clip, model

NAME, LAYERS, ENC = "shared_stack", 4, 51


@pytest.fixture(scope="module")
def blip():
    """BLIP's retrieval model, every weight drawn at random."""
    whole = model("BlipForImageTextRetrieval")
    with torch.no_grad():  # so that the lowest layers' gradients are not too small to compare
        for name, parameter in whole.named_parameters():
            parameter += float("norm" in name.lower() and name.endswith("weight"))
    return whole


def pairs(design, blip, batch, *, packed, fed=torch.Tensor.float):
    """ITC and ITM scores and states of words, ours and theirs; `fed`: our pixels -> its own."""
    images, ids, real = batch
    fed_ids = ids.clone()
    fed_ids[:, 0] = ENC  # salesforce/BLIP, models/blip_itm.py
    pixels = dict(pixel_values=fed(images.float()), attention_mask=real.long())
    itc = blip(input_ids=ids, **pixels, use_itm_head=False)
    itm = blip(input_ids=fed_ids, **pixels, use_itm_head=True)
    image = design.encode_image(images.float())
    text = design.encode_text(ids, real, packed=packed)
    fused = design.fuse(image, text)
    similarity = cosines(*design.heads["itc"](image.pooled_BD, text.pooled_BD))
    return (
        (similarity, itc.itm_score),
        (design.heads["itm"](fused.pooled_BD), itm.itm_score),
        (text.pooled_BD, itc.question_embeds[:, 0]),
        (fused.text_BRD[real], itm.question_embeds[real]),
    )


@pytest.mark.parametrize("packed", [False, True])
def test_blip_from_pixels_and_ids(blip, small, batch, packed):
    """Outputs, and the gradient of every weight."""
    blip.zero_grad()
    backbone = small.with_fields({"text_layers": LAYERS, "image_norm_eps": 1e-5})
    design = build.construct(NAME, {}, backbone, VOCABULARY, ("itc", "itm")).eval()
    load_whole(design, blip_tensors(copy.deepcopy(blip.state_dict())))
    both = pairs(design, blip, batch, packed=packed)
    for ours, theirs in both:
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for which in (0, 1):
        sum(pair[which].pow(2).mean() for pair in both).backward()
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in blip.named_parameters()
    }
    wanted = blip_tensors(gradients)
    wanted.pop("embeddings.token_type.weight")
    ours = {role: p.grad for role, p in design.named_parameters()}
    assert ours.keys() - wanted.keys() == {"embeddings.token_type.weight"}
    torch.testing.assert_close({role: ours[role] for role in wanted}, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_folder_of_blip(blip, make, batch, tmp_path):
    """As the design that it is; another design is refused with what does not fit."""
    blip.save_pretrained(tmp_path / "folder")
    loaded = build.load(str(tmp_path / "folder"))
    assert loaded.name == NAME and list(loaded.heads) == ["itc", "itm"]
    for ours, theirs in pairs(loaded, blip, batch, packed=False, fed=for_clip):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    with pytest.raises(SettingError, match=r"as a whole shared_stack.*unexpected: encode"):
        whole = {"whole_weights": str(tmp_path / "folder")}
        sizes = {"text_layers": LAYERS, "image_norm_eps": 1e-5, "dtype": torch.float32}
        make("split_bert", {**whole, "text_layers": 0}, **sizes)


def of_salesforce(state):
    """The state dict as salesforce/BLIP names it: timm's ViT, and a teacher beside."""
    names = {
        "vision_model.embeddings.class_embedding": "visual_encoder.cls_token",
        "vision_model.embeddings.position_embedding": "visual_encoder.pos_embed",
        "vision_model.embeddings.patch_embedding.": "visual_encoder.patch_embed.proj.",
        "vision_model.encoder.layers.": "visual_encoder.blocks.",
        "vision_model.post_layernorm.": "visual_encoder.norm.",
        ".layer_norm": ".norm",
        ".self_attn.projection.": ".attn.proj.",
        ".self_attn.": ".attn.",
    }
    renamed = {}
    for name, value in state.items():
        for old, new in names.items():
            name = name.replace(old, new)
        renamed[name] = value
    twins = {f"text_encoder_m.{n.removeprefix('text_encoder.')}": x
             for n, x in renamed.items() if n.startswith("text_encoder.")}  # fmt: skip
    return {**renamed, **twins, "temp": torch.tensor(0.07)}


def test_a_file_of_blips_own_repository(blip, tmp_path):
    """The same weights by role as the folder gives."""
    blip.save_pretrained(tmp_path / "folder")
    torch.save({"model": of_salesforce(blip.state_dict())}, tmp_path / "retrieval.pth")
    folder, file = read(tmp_path / "folder"), read(tmp_path / "retrieval.pth")
    assert file.whole == folder.whole == (NAME, {})
    torch.testing.assert_close(dict(file.tensors), dict(folder.tensors), rtol=0, atol=0)


def test_text_by_itself_reads_no_picture_and_costs_nothing_where_it_is_not_read(make, batch):
    design = make(NAME, {})
    images, ids, real = batch
    text = design.encode_text(ids, real)
    calls = []
    for layer in design.layers:
        layer.cross_attention.register_forward_hook(lambda *_: calls.append("cross"))
        layer.self_attention.register_forward_hook(lambda *_: calls.append("self"))
    text.pooled_BD.sum()
    assert calls == ["self"] * len(design.layers)
    calls.clear()
    design.fuse(design.encode_image(images), design.encode_text(ids, real))
    assert calls == ["self", "cross"] * len(design.layers)


def test_enc_stands_in_place_of_cls_where_text_is_fused(make, batch):
    """Changing [ENC]'s row changes the fused states and not what ITC reads; of [CLS]'s row
    (id 2 or whatever stands first) the other way round."""
    design = make(NAME, {})
    images, ids, real = batch

    def both():
        text = design.encode_text(ids, real)
        fused = design.fuse(design.encode_image(images), text)
        return text.pooled_BD, fused.pooled_BD

    pooled, fused = both()
    with torch.no_grad():
        design.encode.weight += 1
    again, other = both()
    torch.testing.assert_close(again, pooled, rtol=0, atol=0)
    assert not torch.equal(other, fused)
