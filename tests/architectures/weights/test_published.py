"""Published models come in by role: towers for every design, whole models as the design they are.

The models are made here, by the same classes, names and shapes, every weight random.
"""

import pytest
import torch
from safetensors.torch import load_file

from architectures import build, registry
from architectures.backbone import Backbone
from architectures.build import backbone_from
from architectures.frozen import SettingError
from architectures.weights.checkpoints import load_whole, read
from architectures.weights.remarks import remarks
from architectures.weights.slots import source_role, starts
from tests.architectures.conftest import SMALL, VOCABULARY
from tests.architectures.published_models import albef_training, change, for_clip, model, saved
from tests.architectures.reference import randomised
from tests.architectures.weights.test_checkpoints import published

HEADS = {"image_heads": 2, "text_heads": 2}
"""What an ALBEF file does not tell."""


@pytest.fixture(scope="module")
def albef(tmp_path_factory):
    """An ALBEF file of pre-training, and the design whose weights it holds."""
    design = randomised(build.construct("split_bert", {"text_layers": 3}, SMALL, VOCABULARY))
    file = tmp_path_factory.mktemp("albef") / "albef.pth"
    torch.save({"model": albef_training(published(design))}, file)
    return design, str(file)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def same(design, tensors):
    """Every weight of a design is that of the role, but for the folded patch embedding."""
    wrong = [r for r, p in design.named_parameters() if not torch.equal(p, tensors[r])]
    assert set(wrong) <= {"image.vit.patch_embed.proj.weight", "image.vit.patch_embed.proj.bias"}


def test_an_albef_file_is_read_by_role(albef):
    design, file = albef
    found = read(file)
    same(design, found.tensors)
    assert (found.kind, found.whole) == ("albef", ("split_bert", {"text_layers": 3}))
    assert found.sizes == {
        "image_size": 16, "image_channels": 3, "patch_size": 8, "image_width": 24,
        "image_layers": 2, "image_mlp": 96, "image_norm_eps": 1e-6, "text": "bert",
        "text_width": 16, "text_layers": 8, "text_mlp": 32, "max_positions": 12, "vocabulary": 50,
        "itc_width": 8,
    }  # fmt: skip
    why = found.left_out
    assert {"queue.image", "queue.text", "queue.place", "temperature"} < why.keys()
    assert "momentum twin" in why["momentum.layers.0.mlp.inner.weight"]
    twins = {role.removeprefix("momentum.") for role in why if role.startswith("momentum.")}
    assert twins == {role for role in found.tensors if not role.startswith("heads.itm.")}
    assert len(why) == len(twins) + 5  # and position_ids


@pytest.mark.parametrize("name", registry.names())
def test_every_design_starts_from_the_same_towers(make, albef, name):
    """Bit for bit those of one ALBEF file, whatever the design makes of them."""
    _, file = albef
    tensors = read(file).tensors
    design = make(name, {}, text_weights=file, vision_weights=file, dtype=torch.float32)
    table, taken = design.slots(design.config, design.backbone), set()
    others = tuple(design.other_weights())
    for role, parameter in design.named_parameters():
        source = source_role(role, design, table) or role
        fresh = role.startswith(tuple(design.new_parts())) or (others and source.startswith(others))
        tower = source.startswith(("image.vit.", "embeddings.", "layers."))
        if tower and source in tensors and not fresh:
            assert torch.equal(parameter, tensors[source]), role
            taken.add(source.partition(".")[0])
    assert {"image", "embeddings"} <= taken


@pytest.mark.parametrize(
    ("cls", "part"),
    [
        ("CLIPModel", "vision"),
        slow("CLIPVisionModelWithProjection", "vision"),
        ("BridgeTowerModel", "vision"),
        ("ViltForMaskedLM", "vision"),
        slow("Blip2ForConditionalGeneration", "vision"),
        ("CLIPTextModelWithProjection", "text"),
        slow("BridgeTowerForMaskedLM", "text"),
        ("GitForCausalLM", "vision"),
        ("VisualBertForPreTraining", "text"),
        ("LxmertForPreTraining", "text"),
        slow("Blip2ForImageTextRetrieval", "text"),
        ("BertForSequenceClassification", "text"),
        slow("BertForPreTraining", "text"),
        slow("RobertaForQuestionAnswering", "text"),
        slow("DistilBertForSequenceClassification", "text"),
    ],
)
def test_a_tower_of_a_folder(make, small, tmp_path, cls, part):
    """The backbone takes sizes and kind from it, the design its weights."""
    saved(cls, tmp_path)
    backbone = backbone_from(small, **{part: str(tmp_path)})
    design = make("dual_encoder", {}, **dict(backbone), dtype=torch.float32)
    tensors = read(tmp_path).tensors
    prefix = ("image.",) if part == "vision" else ("embeddings.", "layers.", "text_norm.")
    own = {r: p for r, p in design.named_parameters() if r.startswith(prefix)}
    assert own and all(torch.equal(p, tensors[r]) for r, p in own.items())
    others = ("cross_", "for_queries")
    names = {r for r in tensors if r.startswith(prefix) and not any(o in r for o in others)}
    assert names == own.keys()


@torch.no_grad()
def test_lxmerts_language_layers_read_text_as_it_does(make, small, batch, tmp_path):
    lxmert = saved("LxmertModel", tmp_path)
    _, ids, real = batch
    padding = torch.where(real, 0.0, torch.finfo(torch.float32).min)[:, None, None]
    wanted = lxmert.embeddings(ids, torch.zeros_like(ids))
    for layer in lxmert.encoder.layer:
        wanted = layer(wanted, padding)[0]
    backbone = backbone_from(small, str(tmp_path))
    assert any("never trains the first row" in note for note in remarks(backbone, {}))
    design = make("dual_encoder", {}, **dict(backbone)).float()
    found = design.encode_text(ids, real).tokens_BLD[real]
    torch.testing.assert_close(found, wanted[real], rtol=1e-5, atol=1e-5)


# ---- whole models --------------------------------------------------------------------------------


def test_albef_as_a_whole(albef, batch):
    source, file = albef
    design = build.load(file, **HEADS)
    images, ids, real = batch[0].float(), *batch[1:]
    assert list(design.heads) == ["itc", "itm", "mlm"]
    outputs = []
    for one, pixels in ((source, for_clip(images)), (design, images)):
        fused = one.fuse(one.encode_image(pixels), one.encode_text(ids, real))
        outputs.append((one.heads["itm"](fused.pooled_BD), one.heads["mlm"](fused.text_BRD[real])))
    for pair in zip(*outputs, strict=True):
        torch.testing.assert_close(*pair, rtol=1e-5, atol=1e-5)
    assert build.load(file, **HEADS, image_size=32).image.vit.pos_embed.shape[1] == 17


def test_fine_tuned_albef(albef, tmp_path):
    """Retrieval has no MLM head and no `bert.`; VQA an answer decoder; NLVR2 reads two images."""
    _, file = albef
    state = torch.load(file)["model"]
    bare = {
        name.replace("text_encoder.bert.", "text_encoder."): x
        for name, x in state.items()
        if not name.startswith(("text_encoder.cls.", "text_encoder_m."))
    }
    torch.save({"model": {**bare, "idx_queue": torch.zeros(1, 8)}}, tmp_path / "retrieval.pth")
    found = read(tmp_path / "retrieval.pth")
    assert found.whole == ("split_bert", {"text_layers": 3}) and "queue.groups" in found.left_out
    assert list(build.load(found.source, **HEADS).heads) == ["itc", "itm"]
    heads = ("vision_proj", "text_proj", "itm_head")
    vqa = {name: x for name, x in bare.items() if not name.startswith(heads)}
    decoder = {
        name.replace("text_encoder.", "text_decoder."): x
        for name, x in state.items()
        if name.startswith("text_encoder.")
    }
    torch.save({**vqa, **decoder, "cls_head.0.weight": torch.ones(3, 3)}, tmp_path / "vqa.pth")
    found = read(tmp_path / "vqa.pth")
    assert "decoder" in found.left_out["decoder.layers.0.mlp.inner.weight"]
    assert "heads.task.0.weight" in found.left_out
    assert not build.load(found.source, **HEADS).heads
    for part in ("self.key.weight", "self.key.bias"):
        place = "text_encoder.encoder.layer.{}.crossattention." + part
        vqa[place.format(4)] = vqa[place.format(3)]
    torch.save(vqa, tmp_path / "nlvr.pth")
    with pytest.raises(SettingError, match="fine-tuned for NLVR2"):
        build.load(str(tmp_path / "nlvr.pth"), **HEADS)
    assert read(tmp_path / "nlvr.pth").has_text


@torch.no_grad()
def test_bridgetower_as_a_whole_with_its_matching_head(batch, tmp_path):
    theirs = saved("BridgeTowerForImageAndTextRetrieval", tmp_path)
    images, ids, real = batch[0].float(), *batch[1:]
    ids = ids.where(real, 1)
    given = {"input_ids": ids, "attention_mask": real.long(), "pixel_values": for_clip(images)}
    wanted = theirs(**given).logits
    design = build.load(str(tmp_path))
    assert (design.name, list(design.heads)) == ("bridge", ["itm"])
    fused = design.fuse(design.encode_image(images), design.encode_text(ids, real))
    found = design.heads["itm"](fused.pooled_BD)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_vilt_and_clip_as_a_whole(batch, tmp_path):
    images, ids, real = batch[0].float(), *batch[1:]
    vilt = saved("ViltForMaskedLM", tmp_path / "vilt")
    everything = torch.ones(8, 16, 16, dtype=torch.int64)
    given = {"input_ids": ids, "attention_mask": real.long(), "pixel_values": images}
    wanted = vilt(**given, pixel_mask=everything).logits
    design = build.load(str(tmp_path / "vilt"))
    fused = design.fuse(design.encode_image(images), design.encode_text(ids, real))
    found = design.heads["mlm"](fused.text_BRD[real])
    torch.testing.assert_close(found, wanted[real], rtol=1e-4, atol=1e-4)
    clip = saved("CLIPModel", tmp_path / "clip")
    ids = ids.clamp(max=47)
    ids[torch.arange(8), real.sum(1) - 1] = 49
    wanted = clip(**{**given, "input_ids": ids, "pixel_values": for_clip(images)})
    design = build.load(str(tmp_path / "clip"))
    pooled = design.encode_image(images).pooled_BD, design.encode_text(ids, real).pooled_BD
    for ours, his in zip(
        design.heads["itc"](*pooled), (wanted.image_embeds, wanted.text_embeds), strict=True
    ):
        torch.testing.assert_close(ours, his, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("cls", "name", "heads"),
    [
        ("VisualBertForPreTraining", "merged_attention", ["mlm"]),
        ("LxmertForPreTraining", "co_attention", ["itm", "mlm"]),
    ],
)
def test_models_of_regions_lack_an_image_tower(tmp_path, cls, name, heads):
    """What reads regions takes patches here, whose embedding is drawn where that is allowed."""
    saved(cls, tmp_path)
    with pytest.raises(SettingError, match=r"missing: image\.vit\..* allowed by name"):
        build.load(str(tmp_path))
    changed = {"image_width": 16, "image_heads": 2, "image_layers": 2, "image_size": 16}
    changed |= {"image_width": 24} if name == "merged_attention" else {}
    design = build.load(str(tmp_path), allow=["image.*"], **changed, patch_size=8)
    assert (design.name, list(design.heads)) == (name, heads)
    own = {r: p for r, p in design.named_parameters() if not r.startswith("image.")}
    tensors = read(tmp_path).tensors
    assert own.keys() | {"heads.mlm.decoder.weight"} >= tensors.keys()
    assert all(torch.equal(p, tensors[r]) for r, p in own.items())


def test_a_tower_is_no_whole(tmp_path):
    saved("Blip2ForConditionalGeneration", tmp_path / "blip2")
    with pytest.raises(SettingError, match=r"not the whole of BLIP-2's first stage .*vision_weigh"):
        build.load(str(tmp_path / "blip2"))
    saved("BertModel", tmp_path)
    with pytest.raises(SettingError, match="a bert is a tower alone; take it as vision_weights or"):
        build.load(str(tmp_path))


def test_a_variant_starts_from_a_whole(make, albef, batch):
    """Over the towers that the backbone names; what the checkpoint lacks stays as they are."""
    source, file = albef
    fields = {"text_layers": 3, "whole_weights": file}
    same(make("split_bert", fields, dtype=torch.float32), dict(source.named_parameters()))
    with pytest.raises(SettingError, match=r"missing: pooler.bias, pooler.weight; what may differ"):
        make("split_bert", {**fields, "pooler": True})
    with pytest.raises(SettingError, match=r"as a whole split_bert text_layers=3.*unexpected: l"):
        make("split_bert", {**fields, "text_layers": 4})
    with pytest.raises(SettingError, match=r"text_mlp is 16, there 32. Set backbone.text_mlp"):
        make("split_bert", fields, text_mlp=16)
    one = make("split_bert", {**fields, "pooler": True, "whole_allow": ["pooler.*"]})
    compared = starts(one)
    assert compared["layers.5.cross_norm.bias"] == "whole:layers.5.cross_norm.bias"
    assert compared["heads.itm.weight"] == "whole:heads.itm.weight"
    assert compared["layers.5.self_norm.bias"] == "layers.5.self_norm.bias"
    assert compared["image.vit.norm.bias"] == "image.vit.norm.bias"
    drawn = make("split_bert", {"text_layers": 3, "pooler": True})
    assert torch.equal(one.pooler.weight, drawn.pooler.weight)
    assert torch.equal(one.layers[5].cross_norm.bias.float(), source.layers[5].cross_norm.bias)


# ---- nothing is dropped silently -----------------------------------------------------------------


def test_what_is_too_much_or_missing_is_refused_unless_allowed(make, small, tmp_path):
    saved("BertForMaskedLM", tmp_path)

    def edit(state):
        state["bert.encoder.layer.0.extra"] = torch.ones(2)
        del state["bert.encoder.layer.1.output.dense.bias"]

    change(tmp_path, edit)
    given = dict(backbone_from(small, str(tmp_path)))
    with pytest.raises(
        SettingError,
        match=r"missing: layers\.1\.mlp\.outer\.bias; unexpected: layers\.0\.extra; .*allowed by",
    ):
        make("split_bert", {"text_layers": 2}, **given)
    allowed = {"weights_allow": ("layers.1.mlp.outer.bias", "layers.*.extra")}
    design = make("split_bert", {"text_layers": 2}, **{**given, **allowed})
    assert not design.layers[1].mlp.outer.bias.any()
    assert design.layers[1].mlp.inner.bias.any()


def test_names_of_the_first_files_and_a_bin(make, small, tmp_path):
    """`gamma` and `beta`, and weights of `torch.save` beside the configuration."""
    bert = saved("BertModel", tmp_path)
    file = tmp_path / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    state = load_file(file)
    for new, was in old.items():
        state = {name.replace(new, was): x for name, x in state.items()}
    file.unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    design = make("dual_encoder", {}, **dict(backbone_from(small, str(tmp_path)))).float()
    assert torch.equal(design.embeddings.norm.weight, bert.embeddings.LayerNorm.weight)
    with pytest.raises(SettingError, match="alone tells no sizes; give its folder"):
        read(tmp_path / "pytorch_model.bin")


def test_a_head_of_its_own_words_is_left_out(tmp_path):
    """BridgeTower's MLM head may have a decoder of its own; a design's is the word embedding."""
    theirs = saved("BridgeTowerForMaskedLM", tmp_path)
    assert "not the word embedding" in read(tmp_path).left_out["heads.mlm.dense.weight"]
    words = theirs.bridgetower.text_model.embeddings.word_embeddings.weight
    theirs.mlm_score.decoder.weight.data.copy_(words)
    theirs.save_pretrained(tmp_path)
    design = build.load(str(tmp_path))
    assert torch.equal(design.heads["mlm"].norm.bias, theirs.mlm_score.transform.LayerNorm.bias)


def test_two_names_of_one_weight_that_differ(make, tmp_path):
    state = published(make("split_bert", {"text_layers": 3}))
    state["text_encoder.cls.predictions.bias"] = torch.ones(50)
    torch.save(state, tmp_path / "albef.pth")
    with pytest.raises(SettingError, match=r"differs from another weight .*heads\.mlm\.decoder\.b"):
        read(tmp_path / "albef.pth")
    design = make("split_bert", {"text_layers": 3})
    tensors = dict(design.state_dict())
    tensors["heads.mlm.decoder.weight"] = torch.zeros(50, 16)
    with pytest.raises(SettingError, match="are one weight here, but differ there"):
        load_whole(design, tensors)


@pytest.mark.parametrize(
    ("cls", "change", "said"),
    [
        ("ViltModel", {"image_norm_eps": None}, r"there 1e-12. Set backbone.image_norm_eps to"),
        ("ViltModel", {"image_heads": 4}, r"image_heads is 4, there 2"),
        ("CLIPModel", {"image_layers": 3}, r"image_layers is 3, there 2"),
        ("BridgeTowerModel", {"patch_size": 4}, r"patch_size is 4, there 8"),
    ],
)
def test_an_image_tower_of_other_sizes_names_the_setting(make, small, tmp_path, cls, change, said):
    saved(cls, tmp_path)
    backbone = {**dict(backbone_from(small, vision=str(tmp_path))), **change}
    with pytest.raises(SettingError, match=said):
        make("dual_encoder", {}, **backbone)


def test_a_shorter_text_table_is_refused(make, small, tmp_path):
    saved("BertModel", tmp_path)
    backbone = {**dict(backbone_from(small, str(tmp_path))), "max_positions": 10}
    with pytest.raises(SettingError, match=r"max_positions is 10, there 12. Set backbone.max_posi"):
        make("dual_encoder", {}, **backbone)


@pytest.mark.parametrize(
    ("cls", "field", "said"),
    [
        ("ViltModel", "text_weights", "is a vilt without a text encoder"),
        ("LxmertModel", "vision_weights", "is a lxmert without an image tower"),
        ("CLIPVisionModel", "text_weights", "is a clip without a text encoder"),
        ("CLIPTextModel", "vision_weights", "is a clip without an image tower"),
    ],
)
def test_a_source_without_that_tower(make, tmp_path, cls, field, said):
    saved(cls, tmp_path)
    with pytest.raises(SettingError, match=said):
        make("dual_encoder", {}, **{field: str(tmp_path)})


def test_what_a_configuration_leaves_out_is_what_transformers_takes_for_granted():
    """Where ours reads a configuration with a default, a silent one means the same there."""
    clip = model("CLIPModel").config
    assert type(clip.vision_config)().num_attention_heads == 12
    for part in (type(clip.vision_config)(), type(clip.text_config)()):
        assert (part.hidden_act, part.layer_norm_eps) == ("quick_gelu", 1e-5)
    tower = type(model("BridgeTowerModel").config)()
    assert tower.link_tower_type == "add" and tower.share_cross_modal_transformer_layers
    assert not tower.share_link_tower_layers and tower.layer_norm_eps == 1e-5
    assert tower.text_config.layer_norm_eps == tower.vision_config.layer_norm_eps == 1e-5
    assert tower.text_config.type_vocab_size == 1
    assert tower.text_config.num_attention_heads == tower.num_attention_heads == 12
    for kind in ("BertModel", "VisualBertModel"):
        plain = type(model(kind).config)()
        assert (plain.hidden_act, plain.layer_norm_eps, plain.type_vocab_size) == ("gelu", 1e-12, 2)
    roberta = type(model("RobertaModel").config)()
    assert (roberta.layer_norm_eps, roberta.type_vocab_size, roberta.pad_token_id) == (1e-12, 2, 1)
    lxmert = type(model("LxmertModel").config)()
    assert (lxmert.num_attention_heads, lxmert.l_layers, lxmert.hidden_act) == (12, 9, "gelu")
    vilt = type(model("ViltModel").config)()
    assert (vilt.layer_norm_eps, vilt.hidden_act, vilt.qkv_bias) == (1e-12, "gelu", True)
    assert vilt.num_attention_heads == 12 and Backbone().text_heads == 12
