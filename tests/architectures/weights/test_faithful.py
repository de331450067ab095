"""A published model read here computes what its own code does, at every depth and image size, or is
refused with the name of what it is.
"""

import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file

from architectures import build
from architectures.build import backbone_from
from architectures.frozen import SettingError
from architectures.weights.checkpoints import read
from architectures.weights.remarks import pixels_read, remarks
from tests.architectures.conftest import SMALL, VOCABULARY
from tests.architectures.published_models import CONFIGS, TEXT, for_clip, saved
from tests.architectures.reference import randomised
from tests.architectures.weights.test_checkpoints import published
from tests.architectures.weights.test_encoders import vit


def bridgetower(folder, text: int, blocks: int, layers: int):
    """A BridgeTower of so many text layers, image blocks and fusion layers, saved."""
    plain = CONFIGS["BridgeTower"]().to_dict()
    plain |= {"num_hidden_layers": layers}
    plain["text_config"] |= {"num_hidden_layers": text}
    plain["vision_config"] |= {"num_hidden_layers": blocks, "remove_last_layer": False}
    config = transformers.BridgeTowerConfig(**plain)
    config._attn_implementation = config.text_config._attn_implementation = "eager"
    config.vision_config._attn_implementation = "eager"
    model = randomised(transformers.BridgeTowerForImageAndTextRetrieval(config))
    model.save_pretrained(folder)
    return model


@torch.no_grad()
@pytest.mark.parametrize(
    ("text", "blocks", "layers"),
    [(4, 4, 2), (4, 4, 4), (3, 5, 2), (2, 6, 2), (4, 5, 4), (3, 5, 1), (4, 2, 1)],
)
def test_bridgetower_of_every_depth(batch, tmp_path, text, blocks, layers):
    model = bridgetower(tmp_path, text, blocks, layers)
    images, ids, real = batch[0].float(), *batch[1:]
    ids = ids.where(real, 1)
    fed = {"input_ids": ids, "attention_mask": real.long(), "pixel_values": for_clip(images)}
    design = build.load(str(tmp_path))
    fused = design.fuse(design.encode_image(images), design.encode_text(ids, real))
    pooled = model.bridgetower(**fed).pooler_output
    torch.testing.assert_close(fused.pooled_BD, pooled, rtol=1e-4, atol=1e-5)
    logits = design.heads["itm"](fused.pooled_BD)
    torch.testing.assert_close(logits, model(**fed).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("text", "blocks", "layers"), [(4, 3, 2), (2, 4, 3)])
def test_bridgetower_that_its_own_code_cannot_run(tmp_path, text, blocks, layers):
    bridgetower(tmp_path, text, blocks, layers)
    with pytest.raises(SettingError, match="fusion layers"):
        build.load(str(tmp_path))


# ---- other grids ---------------------------------------------------------------------------------


def larger(make, small, folder) -> torch.Tensor:
    """Our tower's tokens of a picture of twice the side."""
    backbone = backbone_from(small, vision=str(folder)).with_field("image_size", 32)
    design = make("dual_encoder", {}, **dict(backbone)).float()
    return design.encode_image(picture()).tokens_BPD


def picture() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize("cls", ["CLIPModel", "Blip2ForConditionalGeneration", "BridgeTowerModel"])
def test_towers_of_transformers_at_another_image_size(make, small, tmp_path, cls):
    model, pixels = saved(cls, tmp_path), for_clip(picture())
    if cls == "BridgeTowerModel":
        visual = model.vision_model.visual
        tokens = visual.forward_pre(pixels, interpolate_pos_encoding=True)
        for block in visual.transformer.resblocks:
            tokens = block(tokens)
        wanted = visual.forward_post(tokens)
    else:
        wanted = model.vision_model(pixels, interpolate_pos_encoding=True).last_hidden_state
        wanted = model.vision_model.post_layernorm(wanted) if cls == "CLIPModel" else wanted
    torch.testing.assert_close(larger(make, small, tmp_path), wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_vilt_at_another_image_size(batch, tmp_path):
    """It resizes its table bilinear with aligned corners."""
    model = saved("ViltModel", tmp_path)
    ids, real = batch[1][:2], batch[2][:2]
    mask = torch.ones(2, 32, 32, dtype=torch.int64)
    fed = {"input_ids": ids, "attention_mask": real.long(), "pixel_values": picture()}
    wanted = model(**fed, pixel_mask=mask).pooler_output
    design = build.load(str(tmp_path), image_size=32)
    fused = design.fuse(design.encode_image(picture()), design.encode_text(ids, real))
    torch.testing.assert_close(fused.pooled_BD, wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_vit_of_timm_at_another_image_size(make, small, tmp_path):
    """timm resizes with antialiasing; its own loader says what is right."""
    torch.save(vit().state_dict(), tmp_path / "vit.pth")
    model = vit(img_size=32)
    fitted = timm.models.vision_transformer.checkpoint_filter_fn(vit().state_dict(), model)
    model.load_state_dict(fitted)
    wanted = model.forward_features(picture())
    sizes = {"vision_weights": str(tmp_path / "vit.pth"), "image_size": 32}
    design = make("dual_encoder", {}, **{**dict(small), **sizes}).float()
    found = design.encode_image(picture()).tokens_BPD
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_pictures_that_are_no_squares_are_refused(tmp_path):
    """2 x 8 patches are 16, and so are 4 x 4."""
    sizes = dict(img_size=(16, 64), patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0)
    model = timm.create_model("vit_tiny_patch16_224", **sizes)
    timm.models.save_for_hf(model, tmp_path, model_args=sizes, safe_serialization=True)
    for source in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(SettingError, match="pictures of 16 x 64 pixels; ours are squares"):
            read(source)
    state = {**vit().state_dict(), "patch_embed.proj.weight": torch.ones(24, 3, 8, 4)}
    torch.save(state, tmp_path / "vit.pth")
    with pytest.raises(SettingError, match="patches are 8 x 4 pixels; ours are squares"):
        read(tmp_path / "vit.pth")


# ---- what it is ----------------------------------------------------------------------------------


def test_a_captioner_of_blips_is_named(tmp_path):
    """It has ALBEF's names, a decoder and no text encoder (salesforce/BLIP, models/blip.py)."""
    state = {
        name.replace("text_encoder.", "text_decoder."): x
        for name, x in published(
            build.construct("split_bert", {"text_layers": 0}, SMALL, VOCABULARY)
        ).items()
        if name.startswith(("text_encoder.", "visual_encoder."))
    }
    torch.save({"model": state}, tmp_path / "caption.pth")
    with pytest.raises(SettingError, match="no text encoder that reads text alone"):
        read(tmp_path / "caption.pth")


STRANGERS = {
    "swin_tiny_patch4_window7_224": "stages|relative positions",
    "beit_base_patch16_224": "relative positions",
    "vit_small_patch16_18x2_224": "parallel blocks",
    "vit_base_patch16_siglip_224": "attention pool",
}


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_no_plain_vit_is_named(tmp_path, name):
    with torch.device("meta"):
        model = timm.create_model(name)
    state = {role: torch.zeros(x.shape[:1] or (1,)) for role, x in model.state_dict().items()}
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(SettingError, match=f"no plain ViT: it has .*({STRANGERS[name]})"):
        read(tmp_path / "model.pth")


def test_heads_that_a_file_does_not_tell(make, tmp_path):
    """Those of published models of its width, or by name; said for any other width."""
    torch.save(vit().state_dict(), tmp_path / "small.pth")
    torch.save(vit(embed_dim=192, num_heads=3).state_dict(), tmp_path / "tiny.pth")
    small, tiny = ({"vision_weights": str(tmp_path / f"{n}.pth")} for n in ("small", "tiny"))
    make("dual_encoder", {}, **tiny, image_width=192, image_heads=3)
    with pytest.raises(
        SettingError, match=r"published with 3, but backbone.image_heads is 4\. Set"
    ):
        make("dual_encoder", {}, **tiny, image_width=192, image_heads=4)
    make("dual_encoder", {}, **tiny, image_width=192, image_heads=4, weights_allow=("image_heads",))
    backbone = make("dual_encoder", {}, **small, image_heads=4).backbone
    assert backbone_from(SMALL, vision=small["vision_weights"]).image_heads == 1
    heads, pixels = remarks(backbone, {})
    assert "image_heads says 4, of 6 columns each" in heads and "small.pth" in heads
    assert "mean 0.5, 0.5, 0.5" in pixels and "what timm says of vit_tiny_patch16_224" in pixels
    assert "deviation 0.5" in pixels_read(backbone, {})["backbone.vision_weights"]
    torch.save(
        {k: v for k, v in vit(embed_dim=1280, depth=1, num_heads=16).state_dict().items()},
        tmp_path / "huge.pth",
    )
    assert backbone_from(SMALL, vision=str(tmp_path / "huge.pth")).image_heads == 16


def test_a_folder_tells_all(make, tmp_path):
    sizes = dict(img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=4, num_classes=0)
    model = timm.create_model("vit_tiny_patch16_224", **sizes)
    timm.models.save_for_hf(model, tmp_path, model_args=sizes, safe_serialization=True)
    file = {"vision_weights": str(tmp_path / "model.safetensors")}
    assert not remarks(make("dual_encoder", {}, **file, image_heads=4).backbone, {})
    with pytest.raises(SettingError, match="image_heads is 2, there 4"):
        make("dual_encoder", {}, **file)


# ---- more rows than words ------------------------------------------------------------------------


@torch.no_grad()
def test_a_word_table_with_rows_that_no_word_takes(make, batch, tmp_path):
    """As 30528 rows for BERT's 30522 words: the rows of words are taken, head and all."""
    config = transformers.BertConfig(**{**TEXT, "num_hidden_layers": 8, "vocab_size": 56})
    config._attn_implementation = "eager"
    bert = randomised(transformers.BertForMaskedLM(config))
    bert.save_pretrained(tmp_path)
    _, ids, real = batch
    design = make("split_bert", {"text_layers": 7}, text_weights=str(tmp_path)).float()
    assert design.word_embedding().weight.shape == (50, 16)
    wanted = bert.bert(ids, attention_mask=real.long(), output_hidden_states=True).hidden_states
    states = design.encode_text(ids, real).tokens_BLD
    torch.testing.assert_close(states[real], wanted[7][real], rtol=1e-4, atol=1e-4)
    found = design.heads["mlm"](states[real])
    torch.testing.assert_close(found, bert.cls(states)[real][:, :50], rtol=1e-4, atol=1e-4)
    for rows in (48, 51, 200):  # fewer, not rounded up, another tokenizer
        config.vocab_size = rows
        randomised(transformers.BertForMaskedLM(config)).save_pretrained(tmp_path)
        with pytest.raises(SettingError, match=rf"vocabulary is 50, there {rows}"):
            make("split_bert", {"text_layers": 7}, text_weights=str(tmp_path))


# ---- nothing damaged comes in --------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(make, tmp_path, value):
    model = vit()
    with torch.no_grad():
        model.blocks[1].mlp.fc1.weight[0, 0] = value
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(SettingError, match=r"NaN or infinite .*image\.vit\.blocks\.1\.mlp\.fc1\.w"):
        make("dual_encoder", {}, vision_weights=str(tmp_path / "vit.safetensors"))
