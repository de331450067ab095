"""Captions to token ids: a WordPiece trained on the training captions, or a Hugging Face one.

Letters: B texts, L tokens, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from architectures.frozen import SettingError
from harness.settings import Text

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """Words to ids and back; every text comes out `length` tokens long."""

    backend: tokenizers.Tokenizer
    """Truncates to `length`; its own padding is off."""
    length: int
    """Tokens of every encoded text: the longest caption of the corpus, or the setting's limit."""
    pad_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    special_ids: tuple[int, ...]
    """Ids that stand for no word, the unknown word among them."""

    @cached_property
    def vocabulary(self) -> int:
        """Rows a word embedding needs."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def word_ids(self) -> np.ndarray:
        """int64; every id that is a word or a piece of one."""
        known = self.backend.get_vocab(with_added_tokens=True).values()
        return np.array(sorted(set(known) - set(self.special_ids)), dtype=np.int64)

    @cached_property
    def is_word_V(self) -> np.ndarray:
        """bool; whether an id may be masked and predicted."""
        return np.isin(np.arange(self.vocabulary), self.word_ids)

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids, int64 [B, L], and which of them are real, bool [B, L] (the rest is padding)."""
        ids_BL = torch.from_numpy(self.array(texts).astype(np.int64))
        return ids_BL, ids_BL != self.pad_id

    def array(self, texts: Iterable[str]) -> np.ndarray:
        """int32 [B, L]: the same ids for storing."""
        spoken = [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts))]
        ids_BL = np.full((len(spoken), self.length), self.pad_id, dtype=np.int32)
        for row, ids in zip(ids_BL, spoken, strict=True):
            row[: len(ids)] = ids
        return ids_BL

    def decode(self, ids: Sequence[int] | Tensor | np.ndarray) -> str:
        """The words of one row of ids, special tokens left out."""
        kept = [int(i) for i in ids if int(i) not in (self.pad_id, self.cls_id, self.sep_id)]
        return self.backend.decode(kept, skip_special_tokens=False)

    def with_length(self, length: int) -> Tokenizer:
        """The same words at another length, for texts that are not captions."""
        backend = tokenizers.Tokenizer.from_str(self.backend.to_str())
        backend.enable_truncation(max_length=length)
        return replace(self, backend=backend, length=length)

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json` and `special.json`."""
        special = {n: getattr(self, n) for n in ("length", *_SPECIAL_FIELDS)}
        (folder / "tokenizer.json").write_text(self.backend.to_str())
        (folder / "special.json").write_text(json.dumps(special))

    @staticmethod
    def load(folder: Path) -> Tokenizer:
        """What `save` wrote."""
        special = json.loads((folder / "special.json").read_text())
        backend = tokenizers.Tokenizer.from_str((folder / "tokenizer.json").read_text())
        return Tokenizer(
            backend=backend, **special | {"special_ids": tuple(special["special_ids"])}
        )


_SPECIAL_FIELDS = ("pad_id", "cls_id", "sep_id", "mask_id", "special_ids")


def make_tokenizer(
    text: Text, training: Sequence[str], others: Sequence[str]
) -> tuple[Tokenizer, dict[str, float]]:
    """The tokenizer of a corpus, and what it did to the captions.

    Words come from the training captions only; the length is that of the longest caption of all
    splits, so that padding, and with it time and bits, does not depend on which rows meet.
    Facts: captions, mean tokens, captions cut to `max_tokens`, share of unknown words.
    """
    if text.tokenizer == "wordpiece":
        tokenizer = _special(train_wordpiece(training, text.vocabulary))
    else:
        tokenizer = _pretrained(text.tokenizer)
    tokenizer.backend.no_padding()
    tokenizer.backend.no_truncation()
    spoken = [e.ids for e in tokenizer.backend.encode_batch_fast([*training, *others])]
    tokens_K = np.array([len(ids) for ids in spoken])
    unknown_id = tokenizer.backend.token_to_id(
        getattr(tokenizer.backend.model, "unk_token", "") or ""
    )
    unknown = sum(ids.count(unknown_id) for ids in spoken) if unknown_id is not None else 0
    facts = {
        "captions": len(spoken),
        "tokens_mean": float(tokens_K.mean()),
        "captions_cut": int((tokens_K > text.max_tokens).sum()),
        "unknown_share": unknown / int(tokens_K.sum()),
    }
    return tokenizer.with_length(int(min(tokens_K.max(), text.max_tokens))), facts


def train_wordpiece(captions: Iterable[str], vocabulary: int) -> tokenizers.Tokenizer:
    """A lower-case WordPiece with BERT's rules; the same captions give the same vocabulary."""
    wordpiece = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    wordpiece.normalizer = normalizers.BertNormalizer(lowercase=True)
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wordpiece.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False
    )
    wordpiece.train_from_iterator(captions, trainer)
    wordpiece.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return wordpiece


def _special(backend: tokenizers.Tokenizer) -> Tokenizer:
    return Tokenizer(
        backend=backend,
        length=0,
        pad_id=0,
        cls_id=2,
        sep_id=3,
        mask_id=4,
        special_ids=(0, 1, 2, 3, 4),
    )


def _pretrained(name: str) -> Tokenizer:
    from architectures.encoders import load_tokenizer  # loads transformers

    theirs: Any = load_tokenizer(name)
    needed = {
        "pad_id": theirs.pad_token_id,
        "cls_id": theirs.cls_token_id,
        "sep_id": theirs.sep_token_id,
        "mask_id": theirs.mask_token_id,
    }
    for field, value in needed.items():
        if value is None:
            raise SettingError(
                f"tokenizer {name!r} has no {field.removesuffix('_id')} token; BERT-like ones do"
            )
    if needed["pad_id"] == needed["sep_id"]:
        raise SettingError(f"tokenizer {name!r} pads with its end token; padding must be its own")
    backend = tokenizers.Tokenizer.from_str(theirs.backend_tokenizer.to_str())
    return Tokenizer(
        backend=backend, length=0, special_ids=tuple(sorted(theirs.all_special_ids)), **needed
    )
