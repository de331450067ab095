"""CLIP's tokenizer, which pads by its last token and has none to mask with, serves ITC alone."""

from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import pre_tokenizers

from architectures import build
from architectures.frozen import SettingError
from harness.planning.plan import plan
from harness.planning.prepare import prepared
from harness.study import Cell, Study, Variant
from harness.training.data.tokenized import pretrained
from harness.training.data.tokenizer import Tokenizer
from tests.architectures.published_models import CLIP_VISION, TEXT
from tests.architectures.reference import randomised

TEXTS = ["a red \u00ff square", "re", "two blue circles"]


@pytest.fixture
def clip(tmp_path: Path) -> tuple[transformers.CLIPTokenizer, Path]:
    """A tokenizer of CLIP's class: bytes, bytes that end words, two merges, two special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters, *(f"{letter}</w>" for letter in letters), "re", "red</w>"]
    names += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = transformers.CLIPTokenizer(vocab=vocabulary, merges=[("r", "e"), ("re", "d</w>")])
    tokenizer.save_pretrained(tmp_path / "clip")
    return tokenizer, tmp_path / "clip"


def test_texts_are_clips_to_their_last_token(clip: tuple[transformers.CLIPTokenizer, Path]) -> None:
    theirs, folder = clip
    own = pretrained(str(folder)).with_length(24)
    wanted = theirs(TEXTS, padding="max_length", max_length=24, return_tensors="pt")
    for tokenizer in (own, _again(own, folder)):
        ids_BL, is_real_BL = tokenizer.encode(TEXTS)
        assert torch.equal(is_real_BL, wanted.attention_mask.bool())
        assert torch.equal(ids_BL[is_real_BL], wanted.input_ids[is_real_BL])
        assert tokenizer.vocabulary == len(theirs) and not tokenizer.masks


def _again(own: Tokenizer, folder: Path) -> Tokenizer:
    """The same, after it was written as an export writes it."""
    own.for_transformers().save_pretrained(folder / "again")
    return pretrained(str(folder / "again")).with_length(24)


@torch.no_grad()
def test_features_are_clips(clip: tuple[transformers.CLIPTokenizer, Path]) -> None:
    theirs, folder = clip
    sizes = {**TEXT, "vocab_size": len(theirs), "max_position_embeddings": 24}
    sizes |= {"bos_token_id": theirs.bos_token_id, "eos_token_id": theirs.eos_token_id}
    config = transformers.CLIPConfig(text_config=sizes, vision_config=CLIP_VISION, projection_dim=8)
    model = randomised(transformers.CLIPModel(config))
    model.save_pretrained(folder)
    given = theirs(TEXTS, padding=True, return_tensors="pt")
    wanted = model.text_model(**given).pooler_output
    own = pretrained(str(folder)).with_length(24)
    design = build.load(str(folder))
    found = design.encode_text(*own.encode(TEXTS)).pooled_BD
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_mlm_is_refused_and_itc_alone_is_not(
    tiny: Study, outputs: Path, clip: tuple[transformers.CLIPTokenizer, Path]
) -> None:
    cell = Cell(variant=Variant("dual_encoder", text_layers=1), label="x")
    study = tiny.model_copy(update={"cells": (cell,), "control": "x", "seeds": (0,)})
    study = study.with_field("data.text.tokenizer", str(clip[1]))
    for field, value in {"text": "clip", "max_positions": 64}.items():
        study = study.with_field(f"backbone.{field}", value)
    prepared(plan(study, outputs), outputs)
    other = Cell(variant=Variant("split_bert", text_layers=1), label="x")
    study = study.model_copy(update={"cells": (other,)}).with_field("backbone.text", "bert")
    with pytest.raises(SettingError, match="has no token to mask words with"):
        prepared(plan(study, outputs), outputs)
