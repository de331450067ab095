"""A checkpoint of the published layout fills every weight of the design, or says what is wrong."""

import pytest
import torch

from architectures.frozen import SettingError
from architectures.weights.checkpoints import load_whole
from architectures.weights.published.albef import albef_tensors
from architectures.weights.slots import role_digests

BERT, LAYER = "text_encoder.bert.embeddings.", "text_encoder.bert.encoder.layer."
PARTS = {  # our role -> ALBEF's name, written out the other way round than the product has it
    "image.vit": "visual_encoder",
    "heads.itc.image": "vision_proj",
    "heads.itc.text": "text_proj",
    "heads.itm": "itm_head",
    "heads.mlm.dense": "text_encoder.cls.predictions.transform.dense",
    "heads.mlm.norm": "text_encoder.cls.predictions.transform.LayerNorm",
    "heads.mlm.decoder": "text_encoder.cls.predictions.decoder",
    "embeddings.word": f"{BERT}word_embeddings",
    "embeddings.position": f"{BERT}position_embeddings",
    "embeddings.token_type": f"{BERT}token_type_embeddings",
    "embeddings.norm": f"{BERT}LayerNorm",
}
for j in range(8):
    ours, theirs = f"layers.{j}", f"{LAYER}{j}"
    for mine, his in (("self", "attention"), ("cross", "crossattention")):
        for part in ("query", "key", "value"):
            PARTS[f"{ours}.{mine}_attention.{part}"] = f"{theirs}.{his}.self.{part}"
        PARTS[f"{ours}.{mine}_attention.output"] = f"{theirs}.{his}.output.dense"
        PARTS[f"{ours}.{mine}_norm"] = f"{theirs}.{his}.output.LayerNorm"
    PARTS[f"{ours}.mlp.inner"] = f"{theirs}.intermediate.dense"
    PARTS[f"{ours}.mlp.outer"] = f"{theirs}.output.dense"
    PARTS[f"{ours}.mlp_norm"] = f"{theirs}.output.LayerNorm"


def published(design):
    """A design's weights in ALBEF's layout, with training state beside them."""
    state = {"temp": torch.tensor(0.07), "image_queue": torch.zeros(8, 4)}
    for role, value in design.state_dict().items():
        part = next(part for part in PARTS if role.startswith(f"{part}."))
        state[PARTS[part] + role[len(part) :]] = value.clone()
    state["text_encoder.cls.predictions.bias"] = design.heads["mlm"].decoder.bias.clone()
    return {**state, "text_encoder_m.bert.embeddings.LayerNorm.weight": torch.ones(16)}


def test_every_weight_comes_from_the_checkpoint(make):
    source, design = make("split_bert", {}, seed=5), make("split_bert", {}, seed=6)
    load_whole(design, albef_tensors(published(source)))
    assert role_digests(design) == role_digests(source)


def test_another_image_size_resizes_the_position_table(make):
    source, design = make("split_bert", {}, seed=5), make("split_bert", {}, image_size=32)
    load_whole(design, albef_tensors(published(source)))
    assert design.image.vit.pos_embed.shape == (1, 17, 24)


def test_what_does_not_fit_is_listed(make):
    state = published(make("split_bert", {}))
    state["text_encoder.extra"] = state.pop("itm_head.bias")
    with pytest.raises(SettingError, match=r"missing: heads\.itm\.bias; unexpected: extra"):
        load_whole(make("split_bert", {}), albef_tensors(state))
    with pytest.raises(SettingError, match=r"unexpected: .*layers\.4\.cross_attention\.key"):
        load_whole(make("split_bert", {"text_layers": 6}), albef_tensors(
            published(make("split_bert", {"text_layers": 4}))))  # fmt: skip
