"""A file of pixels gives a published model, through its own processor, what it gives ours."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from timm.data.loader import adapt_to_chs
from torchvision.transforms import v2

from architectures import build
from architectures.build import backbone_from
from architectures.frozen import SettingError
from architectures.weights.checkpoints import read
from harness.training.data.decoding import Square, decode
from harness.training.data.transforms import normalised
from tests.architectures.conftest import SMALL, VOCABULARY
from tests.architectures.published_models import CLIP_MEAN, CLIP_STD, saved
from tests.architectures.reference import randomised
from tests.architectures.weights.test_checkpoints import published

PROCESSORS = {
    "CLIPModel": transformers.CLIPImageProcessor(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    ),
    "BridgeTowerModel": transformers.BridgeTowerImageProcessor(
        size={"shortest_edge": 16}, size_divisor=8, do_center_crop=False
    ),
    "ViltModel": transformers.ViltImageProcessor(size={"shortest_edge": 16}, size_divisor=8),
    "Blip2ForConditionalGeneration": transformers.BlipImageProcessor(
        size={"height": 16, "width": 16}
    ),
}
OTHER = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}


@pytest.fixture
def picture(tmp_path) -> Path:
    """A PNG of 16 x 16 random pixels, far from grey on average."""
    bytes_HWC = np.random.default_rng(3).integers(0, 256, (16, 16, 3)) * [1.0, 0.7, 0.4]
    Image.fromarray(bytes_HWC.astype(np.uint8)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def ours(picture: Path) -> torch.Tensor:
    """What a design is fed of a file, through the product's own reading of it."""
    square = Square(side=16, channels=3, fit="squash")
    image_SSC = decode(picture.name, picture.parent, square).image_SSC
    return normalised(torch.from_numpy(image_SSC.copy()).permute(2, 0, 1)[None])


def tower(cls: str, model, pixels: torch.Tensor) -> torch.Tensor:
    """The image tower's tokens, by the model's own code."""
    if cls == "ViltModel":
        mask = torch.ones(1, 16, 16, dtype=torch.int64)
        embedded = model.embeddings.visual_embed(pixels, mask, max_image_length=-1)
        tokens, (places, _) = embedded[0], embedded[2]
        for layer in model.encoder.layer:
            tokens = layer(tokens)
            tokens = tokens[0] if isinstance(tokens, tuple) else tokens
        order = (places[0] * torch.tensor([2, 1])).sum(-1).argsort()  # it shuffles patches
        return model.layernorm(torch.cat([tokens[:, :1], tokens[:, 1:][:, order]], 1))
    if cls == "BridgeTowerModel":
        visual = model.vision_model.visual
        tokens = visual.forward_pre(pixels)
        for block in visual.transformer.resblocks:
            tokens = block(tokens)
        return visual.forward_post(tokens)
    states = model.vision_model(pixels)
    if cls == "CLIPModel":
        return model.vision_model.post_layernorm(states.last_hidden_state)
    return states.last_hidden_state


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """To 1e-5 of the largest value."""
    scale = float(wanted.abs().max())
    torch.testing.assert_close(found / scale, wanted / scale, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("stated", ["nowhere", "preprocessor", "others", "processor"])
@pytest.mark.parametrize("cls", PROCESSORS)
def test_a_picture_gives_a_folders_tower_what_it_gave_it(make, small, picture, cls, stated):
    """By constants of the processor's file, or those that the kind was published with."""
    folder = picture.parent / "model"
    model, processor = saved(cls, folder), PROCESSORS[cls]
    changes = OTHER if stated in ("others", "processor") else {}
    processor = type(processor)(**{**processor.to_dict(), **changes})
    if stated in ("preprocessor", "others"):
        processor.save_pretrained(folder)
    if stated == "processor":  # as newer versions keep it
        text = json.dumps({"image_processor": json.loads(processor.to_json_string())})
        (folder / "processor_config.json").write_text(text)
    pixels = processor(Image.open(picture), return_tensors="pt").pixel_values
    wanted = tower(cls, model, pixels)
    design = make("dual_encoder", {}, **dict(backbone_from(small, vision=str(folder)))).float()
    close(design.encode_image(ours(picture)).tokens_BPD, wanted)


def deit(**changes):
    """DeiT of timm, small and random, with what timm says of its pixels."""
    sizes = dict(img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0)
    return randomised(timm.create_model("deit_tiny_patch16_224", **{**sizes, **changes})), sizes


@torch.no_grad()
@pytest.mark.parametrize("kept", ["file", "folder", "file of a folder"])
def test_a_picture_gives_deit_what_it_gave_it(make, picture, kept):
    model, sizes = deit()
    folder = picture.parent / "deit"
    folder.mkdir()
    source, vision = folder, "vit_tiny_patch16_224"
    if kept == "file":  # which says nothing: the backbone's name for the tower does
        source, vision = folder / "deit.pth", "deit_tiny_patch16_224"
        torch.save({"model": model.state_dict()}, source)
    else:
        timm.models.save_for_hf(model, folder, model_args=sizes, safe_serialization=True)
        source = folder / "model.safetensors" if kept == "file of a folder" else folder
    config = timm.data.resolve_data_config(model=model)
    assert config["mean"] == (0.485, 0.456, 0.406)
    steps = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    own = v2.Compose([*steps, v2.Normalize(config["mean"], config["std"])])
    wanted = model.forward_features(own(Image.open(picture))[None])
    design = make("dual_encoder", {}, vision=vision, vision_weights=str(source)).float()
    close(design.encode_image(ours(picture)).tokens_BPD, wanted)


@torch.no_grad()
def test_a_grey_picture_gives_a_grey_tower_what_timm_gives_it(make, picture):
    """One channel, mean and deviation of three: timm takes their means."""
    model, _ = deit(in_chans=1)
    source = picture.parent / "grey.pth"
    torch.save({"model": model.state_dict()}, source)
    config = timm.data.resolve_data_config(model=model)
    mean, std = (adapt_to_chs(config[name], 1) for name in ("mean", "std"))
    grey = Image.open(picture).convert("L")
    steps = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    wanted = model.forward_features(v2.Compose(steps)(grey)[None])
    sizes = dict(vision="deit_tiny_patch16_224", image_channels=1)
    design = make("dual_encoder", {}, **sizes, vision_weights=str(source)).float()
    fed = normalised(v2.PILToTensor()(grey)[None])
    close(design.encode_image(fed).tokens_BPD, wanted)


@torch.no_grad()
def test_a_picture_gives_albef_what_it_gave_it(picture):
    """As a whole and as a tower; its dataset code norms by CLIP's mean and deviation."""
    source = randomised(build.construct("split_bert", {"text_layers": 3}, SMALL, VOCABULARY))
    file = picture.parent / "albef.pth"
    torch.save({"model": published(source)}, file)
    steps = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    own = v2.Compose([*steps, v2.Normalize(CLIP_MEAN, CLIP_STD)])
    wanted = source.encode_image(own(Image.open(picture))[None]).tokens_BPD
    whole = build.load(str(file), image_heads=2, text_heads=2)
    close(whole.encode_image(ours(picture)).tokens_BPD, wanted)


def test_what_is_no_mean_or_deviation_is_refused(tmp_path):
    saved("CLIPVisionModelWithProjection", tmp_path)
    for config, message in (
        ({"image_mean": [0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}, "no usable mean"),
        ({"image_mean": [0.5] * 3, "image_std": [0.5, 0.0, 0.5]}, "no usable mean"),
        ({"image_mean": "half", "image_std": [0.5] * 3}, "no numbers as mean"),
        ({"image_mean": [0.1, 0.2], "image_std": [0.5, 0.6]}, r"of 2 channels, but .* reads 3"),
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
        with pytest.raises(SettingError, match=message):
            read(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("[")
    with pytest.raises(SettingError, match=r"preprocessor_config\.json is no JSON"):
        read(tmp_path)


def test_pixels_that_are_not_scaled_or_normed(tmp_path):
    """A byte x becomes x * scale, from which mean and deviation may be left out."""
    saved("CLIPVisionModelWithProjection", tmp_path)
    plain = read(tmp_path).tensors["image.vit.patch_embed.proj.weight"]
    weight = plain * torch.tensor(CLIP_STD)[:, None, None] / 0.5
    for config, factor in (
        ({"do_normalize": False, "image_mean": [9.0] * 3, "image_std": [9.0] * 3}, 0.5),
        ({"do_rescale": False, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}, 127.5),
        ({"rescale_factor": 2 / 255, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}, 1.0),
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
        found = read(tmp_path).tensors["image.vit.patch_embed.proj.weight"]
        torch.testing.assert_close(found, weight * factor)
