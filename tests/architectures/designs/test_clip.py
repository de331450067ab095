"""CLIP from pixels and ids against transformers' CLIPModel, weights through the published names."""

import json

import pytest
import torch
import transformers

from architectures import build
from architectures.backbone import Backbone
from architectures.build import backbone_from
from architectures.frozen import SettingError
from architectures.weights.checkpoints import load_whole
from architectures.weights.published.clip import clip_tensors
from tests.architectures.published_models import for_clip

END = 49
TOWERS = Backbone(
    vision="vit_base_patch16_clip_quickgelu_224", image_size=24, patch_size=8, image_width=24,
    image_layers=3, image_heads=2, image_mlp=40, text="clip", text_width=16, text_layers=4,
    text_heads=4, text_mlp=40, max_positions=12, dropout=0.0, itc_width=8,
)  # fmt: skip
TEXT = dict(
    hidden_size=16, num_hidden_layers=4, num_attention_heads=4, intermediate_size=40, vocab_size=50,
    max_position_embeddings=12, bos_token_id=48, eos_token_id=END, pad_token_id=0,
)  # fmt: skip
VISION = dict(
    hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=40, image_size=24,
    patch_size=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def clip():
    """A CLIP all of whose weights are random, biases, norms and temperature too."""
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8)
    config._attn_implementation = "eager"
    model = transformers.CLIPModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture
def design(clip):
    made = build.construct("dual_encoder", {}, TOWERS, 50, objectives=("itc",)).eval()
    load_whole(made, clip_tensors(clip.state_dict()))
    return made


@pytest.fixture(scope="module")
def batch():
    """Pictures (6, 3, 24, 24), texts of 3 to 9 tokens that end with [EOS], and which are real."""
    torch.manual_seed(1)
    lengths = torch.tensor([9, 3, 5, 4, 6, 9])
    place = torch.arange(9)
    ids = torch.randint(1, 48, (6, 9)).where(place < lengths[:, None], 0)
    ids[torch.arange(6), lengths - 1] = END
    return torch.randn(6, 3, 24, 24), ids, place < lengths[:, None]


def close(ours, wanted, tolerance=1e-5):
    torch.testing.assert_close(ours, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("packed", [False, True])
def test_states_and_features_equal_clips(clip, design, batch, packed):
    images, ids, real = batch
    wanted = clip(pixel_values=images, input_ids=ids, attention_mask=real.long())
    text = design.encode_text(ids, real, packed=packed)
    image = design.encode_image(images)
    close(text.tokens_BLD[real], wanted.text_model_output.last_hidden_state[real])
    # CLIP norms its class token alone; timm norms every token: the norm's input is what compares.
    last = design.image(images, every_layer=True).layers[-1]
    close(last, wanted.vision_model_output.last_hidden_state)
    head = design.heads["itc"]
    close(head.image(image.pooled_BD), wanted.vision_model_output.pooler_output)
    close(head.text(text.pooled_BD), wanted.text_model_output.pooler_output)
    image_BE, text_BE = head(image.pooled_BD, text.pooled_BD)
    close(image_BE, wanted.image_embeds)
    close(text_BE, wanted.text_embeds)
    close(image_BE @ text_BE.T * clip.logit_scale.exp(), wanted.logits_per_image)


def test_gradients_of_every_parameter_equal_clips(clip, design, batch):
    images, ids, real = batch
    clip.zero_grad()
    wanted = clip(pixel_values=images, input_ids=ids, attention_mask=real.long())
    (wanted.image_embeds @ wanted.text_embeds.T).mul(5).exp().sum().backward()
    image, text = design.encode_image(images), design.encode_text(ids, real)
    image_BE, text_BE = design.heads["itc"](image.pooled_BD, text.pooled_BD)
    (image_BE @ text_BE.T).mul(5).exp().sum().backward()
    theirs = clip_tensors({n: p.grad for n, p in clip.named_parameters() if p.grad is not None})
    ours = {role: p.grad for role, p in design.named_parameters()}
    assert ours.keys() == theirs.keys()
    for role, gradient in ours.items():
        if role not in ("heads.itc.image.bias", "heads.itc.text.bias"):  # CLIP has none
            assert gradient.any(), role
            close(gradient, theirs[role], 1e-4)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "towers"])
def test_folders_give_both_towers(clip, batch, make, tmp_path, whole):
    images, ids, real = batch
    for part in ("vision_model", "text_model"):
        model = clip if whole else getattr(clip, part)
        model.save_pretrained(tmp_path / part)
    weights = {
        "vision_weights": str(tmp_path / "vision_model"),
        "text_weights": str(tmp_path / "text_model"),
    }
    assert backbone_from(TOWERS, weights["text_weights"]).text == "clip"
    made = make("dual_encoder", {}, dtype=torch.float32, **{**dict(TOWERS), **weights})
    wanted = clip(pixel_values=for_clip(images), input_ids=ids, attention_mask=real.long())
    text = made.encode_text(ids, real).tokens_BLD[real]
    close(text, wanted.text_model_output.last_hidden_state[real])
    last = made.image(images, every_layer=True).layers[-1]
    close(last, wanted.vision_model_output.last_hidden_state)
    close(made.encode_image(images).pooled_BD, clip.vision_model(for_clip(images)).pooler_output)


def test_a_text_encoder_of_another_activation(clip, make, tmp_path):
    clip.text_model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}))
    with pytest.raises(SettingError, match="hidden_act is 'gelu'"):
        make("dual_encoder", {}, **{**dict(TOWERS), "text_weights": str(tmp_path)})


def test_what_no_shape_tells_is_checked(clip, make, tmp_path):
    clip.save_pretrained(tmp_path / "clip")
    sizes = {**dict(TOWERS), "vision_weights": str(tmp_path / "clip")}
    with pytest.raises(SettingError, match="image_heads is 4, there 2"):
        make("dual_encoder", {}, **{**sizes, "image_heads": 4})
    with pytest.raises(SettingError, match=r"Set backbone\.vision to 'vit.*clip_quickgelu_224'"):
        make("dual_encoder", {}, **{**sizes, "vision": "vit_base_patch16_clip_224"})
    with pytest.raises(SettingError, match="image_layers is 4, there 3"):
        make("dual_encoder", {}, **{**sizes, "image_layers": 4})
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingError, match="no configuration found"):
        make("dual_encoder", {}, **{**sizes, "vision_weights": str(tmp_path / "empty")})
    config = transformers.BertConfig(vocab_size=50, hidden_size=12, num_hidden_layers=1)
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(SettingError, match="is a bert without an image tower"):
        make("dual_encoder", {}, **{**sizes, "vision_weights": str(tmp_path / "bert")})
