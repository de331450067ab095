"""Weights come in whole or not at all: text encoders, ViT checkpoints, position tables."""

import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file

from architectures import registry
from architectures.build import backbone_from
from architectures.frozen import SettingError
from architectures.stacks.image_tower import ImageTower
from architectures.weights import from_transformers
from architectures.weights.positions import resize_positions
from architectures.weights.published import bert, distilbert, roberta
from architectures.weights.published.names import renamed
from tests.architectures.reference import saved

BERT = dict(
    vocab_size=50, hidden_size=16, num_hidden_layers=8, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=12,
)  # fmt: skip
CONFIGS = {
    "Bert": transformers.BertConfig(**BERT),
    "Roberta": transformers.RobertaConfig(
        **{**BERT, "max_position_embeddings": 14}, type_vocab_size=1, layer_norm_eps=1e-5
    ),
    "DistilBert": transformers.DistilBertConfig(
        vocab_size=50, dim=16, n_layers=8, n_heads=2, hidden_dim=32, max_position_embeddings=12
    ),
}
HEADS = {
    "Bert": lambda model: model.cls.predictions,
    "Roberta": lambda model: model.lm_head,
    "DistilBert": lambda model: torch.nn.Sequential(
        model.vocab_transform, torch.nn.GELU(), model.vocab_layer_norm, model.vocab_projector
    ),
}
RULES = {"Bert": bert.RULES, "Roberta": roberta.RULES, "DistilBert": distilbert.RULES}


@pytest.fixture
def folder(tmp_path):
    """Saves a random model of a class of transformers and gives both."""

    def save(name, **changes):
        family = name.partition("Model")[0].partition("For")[0]
        config = type(CONFIGS[family])(**{**CONFIGS[family].to_dict(), **changes})
        config._attn_implementation = "eager"
        model = getattr(transformers, name)(config)
        return model, saved(model, tmp_path / name)

    return save


def theirs(family, model, ids, real):
    """Last hidden states; RoBERTa counts positions by ids that are not its padding, 1."""
    ids = ids.where(real, 1) if family == "Roberta" else ids
    encoder = getattr(model, model.base_model_prefix, model)
    return encoder(ids, attention_mask=real.long()).last_hidden_state


def sizes(family, source):
    """What a backbone must say to fit a folder."""
    rows = 14 if family == "Roberta" else 12
    return {"text": family.lower(), "max_positions": rows, "text_weights": source}


NAMES = ["BertModel", "BertForPreTraining", "RobertaModel", "RobertaForMaskedLM", "DistilBertModel"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_text_encoder_equals_the_published_one(make, batch, folder, name, packed):
    model, source = folder(name)
    family = name.partition("Model")[0].partition("For")[0]
    design = make("dual_encoder", {}, **sizes(family, source), dtype=torch.float32)
    _, ids, real = batch
    wanted = theirs(family, model, ids, real)
    text = design.encode_text(ids, real, packed=packed)
    torch.testing.assert_close(text.tokens_BLD[real], wanted[real], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(text.pooled_BD, wanted[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", RULES)
def test_gradients_equal_the_published_ones(make, batch, folder, family):
    model, source = folder(f"{family}Model")
    fields = {"fusion_layers": 1}
    design = make("full_text_deep_fusion", fields, **sizes(family, source), dtype=torch.float32)
    _, ids, real = batch
    theirs(family, model, ids, real)[real].pow(3).sum().backward()
    design.encode_text(ids, real).tokens_BLD[real].pow(3).sum().backward()
    ours = {role: p.grad for role, p in design.named_parameters()}
    compared = set()
    for name, parameter in model.named_parameters():
        if not name.startswith("pooler"):
            role = renamed(f"{family.lower()}.{name}", RULES[family])
            torch.testing.assert_close(ours[role], parameter.grad, rtol=1e-4, atol=1e-4)
            compared.add(role)
    assert compared == {role for role in ours if role.startswith(("embeddings.", "layers."))}


@pytest.mark.parametrize(
    "name", ["BertForMaskedLM", "BertForPreTraining", "RobertaForMaskedLM", "DistilBertForMaskedLM"]
)
def test_the_mlm_head_equals_the_published_one(make, folder, name):
    model, source = folder(name)
    family = name.partition("For")[0]
    design = make("split_bert", {}, **sizes(family, source), dtype=torch.float32)
    states = torch.randn(5, 16)
    wanted = HEADS[family](model)(states)
    torch.testing.assert_close(design.heads["mlm"](states), wanted, rtol=1e-5, atol=1e-5)
    assert design.heads["mlm"].decoder.weight is design.word_embedding().weight


@pytest.mark.parametrize("family", RULES)
def test_a_folder_without_head_leaves_it_fresh(make, folder, family):
    _, source = folder(f"{family}Model")
    loaded = make("split_bert", {}, **sizes(family, source))
    random = make("split_bert", {}, **{**sizes(family, source), "text_weights": "random"})
    assert torch.equal(loaded.heads["mlm"].dense.weight, random.heads["mlm"].dense.weight)
    assert not torch.equal(loaded.layers[7].mlp.inner.weight, random.layers[7].mlp.inner.weight)
    crossing = (d.layers[7].cross_attention.key.weight for d in (loaded, random))
    assert torch.equal(*crossing)


def test_sizes_that_disagree_name_both(make, folder, small):
    _, source = folder("BertModel", intermediate_size=24, vocab_size=60)
    with pytest.raises(
        SettingError,
        match=r"text_mlp is 32, there 24; .*60\. Set backbone\.text_mlp to 24, and the data's",
    ):
        make("split_bert", {}, text_weights=source)
    fitting = backbone_from(small, source)
    assert (fitting.text, fitting.text_mlp, fitting.text_weights) == ("bert", 24, source)


@pytest.mark.parametrize("family", RULES)
def test_the_backbone_names_the_kind_of_its_folder(make, folder, small, family):
    _, source = folder(f"{family}Model")
    kind, other = family.lower(), "roberta" if family == "Bert" else "bert"
    with pytest.raises(SettingError, match=f"is a {kind}, not a {other}; set.*text to '{kind}'"):
        make("split_bert", {}, text=other, text_weights=source)
    smaller = small.with_field("text_layers", 2).with_field("max_positions", 40)
    fitting = backbone_from(smaller, source)
    assert fitting == small.model_copy(update=sizes(family, source))
    make("split_bert", {}, **dict(fitting))


def test_weights_that_are_not_whole(make, folder, tmp_path):
    model, source = folder("RobertaModel")
    state = {k: v for k, v in model.state_dict().items() if "layer.3.output.dense" not in k}
    save_file(state, tmp_path / "RobertaModel" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SettingError, match=r"missing: layers\.3\.mlp\.outer\.bias, layers"):
        make("split_bert", {}, **sizes("Roberta", source))


def test_what_is_no_text_encoder_of_ours(make, folder, tmp_path):
    with pytest.raises(SettingError, match="no configuration found"):
        make("split_bert", {}, text_weights=str(tmp_path))
    _, source = folder("BertModel", hidden_act="relu")
    with pytest.raises(SettingError, match="hidden_act is 'relu'"):
        make("split_bert", {}, text_weights=source)
    _, source = folder("RobertaModel", layer_norm_eps=1e-12)
    with pytest.raises(SettingError, match=r"layer_norm_eps is 1e-12, but .* with 1e-05"):
        make("split_bert", {}, **sizes("Roberta", source))
    transformers.GPT2Config().save_pretrained(tmp_path / "other")
    with pytest.raises(SettingError, match="is a gpt2; known: bert, roberta, distilbert"):
        make("split_bert", {}, text_weights=str(tmp_path / "other"))


def test_robertas_texts_are_two_shorter_than_its_table(make):
    design = make("dual_encoder", {}, text="roberta", max_positions=14)
    ids = torch.ones(1, 13, dtype=torch.int64)
    design.encode_text(ids[:, :12], ids[:, :12] > 0)
    with pytest.raises(ValueError, match="13 tokens is longer than max_positions = 14 - 2"):
        design.encode_text(ids, ids > 0)


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
    with pytest.raises(
        SettingError, match=r"missing: image\.vit\.norm\.bias; unexpected: image.*extra"
    ):
        make("split_bert", {}, vision_weights=str(tmp_path / "vit.pth"))
    torch.save(vit(embed_dim=12).state_dict(), tmp_path / "vit.pth")
    with pytest.raises(
        SettingError, match=r"image_width is 24, there 12\. Set backbone\.image_width"
    ):
        make("split_bert", {}, vision_weights=str(tmp_path / "vit.pth"))
    with pytest.raises(SettingError, match="there is no such file or folder"):
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


@pytest.mark.parametrize("name", registry.names())
def test_every_design_takes_grey_pictures_and_a_colour_checkpoint(make, batch, tmp_path, name):
    """A grey picture gives what it gave in colour, channel by channel the same."""
    torch.save(vit().state_dict(), tmp_path / "vit.pth")
    weights = {"vision_weights": str(tmp_path / "vit.pth"), "dtype": torch.float32}
    colour, grey = make(name, {}, **weights), make(name, {}, image_channels=1, **weights)
    images = batch[0][:, :1].float()
    found = grey.encode_image(images).pooled_BD
    wanted = colour.encode_image(images.expand(-1, 3, -1, -1)).pooled_BD
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert grey.image.vit.patch_embed.proj.weight.shape[1] == 1


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
        from_transformers.load_tokenizer(str(tmp_path))


def test_a_vit_in_bfloat16_on_a_cpu_attends_by_products(make, batch):
    """And leaves the tower as it was; what it says is the same but for rounding."""
    design, pixels = make("split_bert", {}, dtype=torch.float32), batch[0].float()
    exact = design.encode_image(pixels).tokens_BPD
    attention = design.image.vit.blocks[0].attn
    used, products = [], type(attention).forward

    def noted(self, *args, **more):
        used.append(self.fused_attn)
        return products(self, *args, **more)

    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
        patch.setattr(type(attention), "forward", noted)
        rounded = design.encode_image(pixels).tokens_BPD
    assert used == [False] * len(design.image.vit.blocks) and attention.fused_attn
    torch.testing.assert_close(rounded.float(), exact, rtol=0.1, atol=0.1)
