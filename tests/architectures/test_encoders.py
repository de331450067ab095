"""Weights come in whole or not at all: BERT folders, ViT checkpoints, position tables."""

import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file

from architectures import encoders
from architectures.encoders import ImageTower, backbone_from, resize_positions
from architectures.frozen import SettingError
from architectures.published.bert import RULES
from architectures.published.names import renamed

BERT = transformers.BertConfig(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=8,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=12,
    initializer_range=0.2,
    attn_implementation="eager",
)


@pytest.fixture
def bert(tmp_path):
    """Saves a random BERT of a class to a folder and gives both, biases and norms random too."""

    def save(cls, **changes):
        torch.manual_seed(0)
        model = cls(transformers.BertConfig(**{**BERT.to_dict(), **changes})).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(tmp_path / cls.__name__)
        return model, str(tmp_path / cls.__name__)

    return save


@pytest.mark.parametrize("name", ["BertModel", "BertForMaskedLM", "BertForPreTraining"])
def test_the_text_encoder_equals_bert(make, batch, bert, name):
    model, folder = bert(getattr(transformers, name))
    design = make("split_bert", {"text_layers": 8}, text_weights=folder, dtype=torch.float32)
    _, ids, real = batch
    wanted = getattr(model, "bert", model)(ids, attention_mask=real.long()).last_hidden_state
    text = design.encode_text(ids, real)
    torch.testing.assert_close(text.tokens_BLD[real], wanted[real], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(text.pooled_BD, wanted[:, 0], rtol=1e-5, atol=1e-5)


def test_gradients_equal_berts(make, batch, bert):
    model, folder = bert(transformers.BertModel)
    design = make("dual_encoder", {}, text_weights=folder, dtype=torch.float32)
    _, ids, real = batch
    model(ids, attention_mask=real.long()).last_hidden_state[real].pow(3).sum().backward()
    design.encode_text(ids, real).tokens_BLD[real].pow(3).sum().backward()
    ours = {role: p.grad for role, p in design.named_parameters()}
    for name, parameter in model.named_parameters():
        if not name.startswith("pooler"):
            grad = ours[renamed(f"bert.{name}", RULES)]
            torch.testing.assert_close(grad, parameter.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertForPreTraining"])
def test_the_mlm_head_equals_berts(make, bert, name):
    model, folder = bert(getattr(transformers, name))
    design = make("split_bert", {"text_layers": 6}, text_weights=folder, dtype=torch.float32)
    states = torch.randn(5, 16)
    wanted = model.cls.predictions(states)
    torch.testing.assert_close(design.heads["mlm"](states), wanted, rtol=1e-5, atol=1e-5)
    assert design.heads["mlm"].decoder.weight is design.word_embedding().weight


def test_a_folder_without_head_leaves_it_fresh(make, bert):
    _, folder = bert(transformers.BertModel)
    loaded, random = make("split_bert", {}, text_weights=folder), make("split_bert", {})
    assert torch.equal(loaded.heads["mlm"].dense.weight, random.heads["mlm"].dense.weight)
    assert not torch.equal(loaded.layers[7].mlp.inner.weight, random.layers[7].mlp.inner.weight)
    crossing = (d.layers[7].cross_attention.key.weight for d in (loaded, random))
    assert torch.equal(*crossing)


def test_sizes_that_disagree_name_both(make, bert, small):
    _, folder = bert(transformers.BertModel, intermediate_size=24, vocab_size=60)
    with pytest.raises(SettingError, match=r"text_mlp is 32, intermediate_size there is 24.*60"):
        make("split_bert", {}, text_weights=folder)
    fitting = backbone_from(small, folder)
    assert (fitting.text_mlp, fitting.text_weights) == (24, folder)


def test_what_is_no_bert_of_ours(make, bert, tmp_path):
    with pytest.raises(SettingError, match="no configuration found"):
        make("split_bert", {}, text_weights=str(tmp_path))
    _, folder = bert(transformers.BertModel, hidden_act="relu")
    with pytest.raises(SettingError, match="hidden_act is 'relu'"):
        make("split_bert", {}, text_weights=folder)
    transformers.DistilBertConfig().save_pretrained(tmp_path / "other")
    with pytest.raises(SettingError, match="is a distilbert, not a bert"):
        make("split_bert", {}, text_weights=str(tmp_path / "other"))


def vit(**changes):
    torch.manual_seed(0)
    sizes = dict(img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=10)
    return timm.create_model("vit_tiny_patch16_224", **{**sizes, **changes}).eval()


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "wrapped.pth"])
def test_a_vit_checkpoint_comes_back(make, batch, tmp_path, suffix):
    model, file = vit(), tmp_path / f"vit.{suffix}"
    if suffix == "safetensors":
        save_file(model.state_dict(), file)
    else:
        state = model.state_dict()
        torch.save({"model": state} if suffix.startswith("wrapped") else state, file)
    design = make("dual_encoder", {}, vision_weights=str(file), dtype=torch.float32)
    images = batch[0].float()
    image = design.encode_image(images)
    assert torch.equal(image.tokens_BPD, model.forward_features(images))
    assert torch.equal(image.pooled_BD, image.tokens_BPD[:, 0])
    every = design.image(images, every_layer=True)
    assert torch.equal(every.tokens_BPD, image.tokens_BPD)
    assert torch.equal(design.image.vit.norm(every.layers[-1]), image.tokens_BPD)
    assert len(every.layers) == 2


def test_missing_and_unexpected_keys_are_listed(make, tmp_path):
    state = vit().state_dict()
    state["extra"] = state.pop("norm.bias")
    torch.save(state, tmp_path / "vit.pth")
    with pytest.raises(SettingError, match=r"missing: norm\.bias; unexpected: extra"):
        make("split_bert", {}, vision_weights=str(tmp_path / "vit.pth"))
    torch.save(vit(embed_dim=12).state_dict(), tmp_path / "vit.pth")
    with pytest.raises(SettingError, match=r"of another size: blocks.*\(12,\), here \(24,\)"):
        make("split_bert", {}, vision_weights=str(tmp_path / "vit.pth"))
    with pytest.raises(SettingError, match="is not a file"):
        make("split_bert", {}, vision_weights="nowhere.pth")


def test_a_checkpoint_of_another_grid_and_of_colour(make, tmp_path):
    model = vit(img_size=32)
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    weights = str(tmp_path / "vit.pth")
    design = make("split_bert", {}, vision_weights=weights, image_channels=1, dtype=torch.float32)
    table = design.image.vit.pos_embed
    assert torch.equal(table[:, 0], model.pos_embed[:, 0]) and table.shape == (1, 5, 24)
    grey = torch.randn(2, 1, 16, 16)
    ours = design.image.vit.patch_embed.proj(grey)
    wanted = model.patch_embed.proj(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(ours, wanted)  # a grey picture gives what it gave in colour


def test_resized_positions_follow_the_grid():
    """A ramp of 4 x 4 on 8 x 8: the cubic kernel (a = -0.75), by hand; the class row is kept."""
    down, right = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    grid = torch.stack([down, right], -1).view(1, 16, 2)
    table = torch.cat([torch.full((1, 1, 2), 99.0), grid], 1)
    larger = resize_positions(table, 64, prefix=1)
    assert torch.equal(larger[:, 0], table[:, 0])
    middle = larger[:, 1:].view(8, 8, 2)[3:5, 3:5]
    ramp = torch.tensor([1.296875, 1.703125])
    torch.testing.assert_close(middle[..., 0], ramp[:, None].expand(2, 2))
    torch.testing.assert_close(middle[..., 1], ramp.expand(2, 2))
    assert resize_positions(table, 16, prefix=1) is table


def test_what_is_no_vit(small):
    with pytest.raises(SettingError, match="did you mean 'vit_tiny_patch16_224'"):
        ImageTower(small.with_field("vision", "vit_tiny_patch16_223"))
    with pytest.raises(SettingError, match="'resnet18' is no ViT with a class token"):
        ImageTower(small.with_field("vision", "resnet18"))


def test_a_tokenizer_that_is_not_there(tmp_path):
    with pytest.raises(SettingError, match="cannot be loaded"):
        encoders.load_tokenizer(str(tmp_path))
