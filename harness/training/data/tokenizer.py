"""Captions to token ids: a WordPiece trained on the training captions, or a Hugging Face one.

Letters: B texts, L tokens, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from torch import Tensor

from architectures.frozen import SettingError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """Turns captions into ids and back; every text comes out `length` tokens long."""

    backend: tokenizers.Tokenizer
    """Neither pads nor truncates; both are done here."""
    length: int
    """Tokens of every encoded text: the longest training caption, or the setting's limit."""
    pad_id: int
    unknown_id: int
    """-1 where every text can be spelled."""
    cls_id: int
    sep_id: int
    mask_id: int
    """The padding's where there is none."""
    special_ids: tuple[int, ...]
    """Ids that stand for no word, the unknown word among them."""

    @cached_property
    def vocabulary(self) -> int:
        """Rows a word embedding needs."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def word_ids(self) -> np.ndarray:
        """int64; every id that is a word or a piece of one."""
        ids = self.backend.get_vocab(with_added_tokens=True).values()
        return np.array(sorted(set(ids) - set(self.special_ids)), dtype=np.int64)

    @cached_property
    def is_word_V(self) -> np.ndarray:
        """bool; whether an id may be masked and predicted."""
        return np.isin(np.arange(self.vocabulary), self.word_ids)

    @cached_property
    def begins_word_V(self) -> np.ndarray:
        """bool; False at ids that go on with a word: `##ing` of WordPiece, or what lacks the mark
        of a space (`Ġ` of byte-level BPE, `▁` of SentencePiece). Special ids begin something.

        Raises `SettingError` where the vocabulary does not say where words begin.
        """
        number_of = self.backend.get_vocab(with_added_tokens=True)
        inside = getattr(self.backend.model, "continuing_subword_prefix", None)
        marks = [mark for mark in "Ġ▁" if any(token.startswith(mark) for token in number_of)]
        if not inside and not marks:
            raise SettingError(
                "objectives.mlm.whole_words: the tokens of this tokenizer do not say where words "
                "begin; take a WordPiece, or turn whole_words off"
            )
        begins_V = np.ones(self.vocabulary, dtype=bool)
        for token, number in number_of.items():
            goes_on = token.startswith(inside) if inside else not token.startswith(marks[0])
            begins_V[number] = number in self.special_ids or not goes_on
        return begins_V

    @property
    def masks(self) -> bool:
        """Whether there is a token to mask words with, which MLM needs."""
        return self.mask_id != self.pad_id

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encodes texts: ids, int64 (B, L), and which of them are no padding, bool (B, L)."""
        ids_BL = torch.from_numpy(self.padded(encoded(self.backend, texts)).astype(np.int64))
        return ids_BL, ids_BL != self.pad_id

    def padded(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Fills rows of ids up, or cuts them before their last token, [SEP]: int32 (B, L)."""
        ids_BL = np.full((len(rows), self.length), self.pad_id, dtype=np.int32)
        for row, ids in zip(ids_BL, rows, strict=True):
            row[: len(ids)] = ids if len(ids) <= len(row) else [*ids[: len(row) - 1], ids[-1]]
        return ids_BL

    def decode(self, ids: Sequence[int] | Tensor | np.ndarray) -> str:
        """Spells one row of ids, special tokens left out."""
        kept = [int(i) for i in ids if int(i) not in (self.pad_id, self.cls_id, self.sep_id)]
        return self.backend.decode(kept, skip_special_tokens=False)

    def with_length(self, length: int) -> Tokenizer:
        """Gives the same tokenizer at another length, for texts that are not captions."""
        return replace(self, length=length)

    def for_transformers(self) -> Any:
        """Gives the same tokenizer as one of transformers, which cuts at the same length."""
        from architectures.weights.from_transformers import tokenizer  # loads transformers

        ids = {"pad": self.pad_id, "unk": self.unknown_id, "cls": self.cls_id, "sep": self.sep_id,
               "mask": self.mask_id}  # fmt: skip
        if not self.masks:
            ids = {"pad": self.sep_id, "cls": self.cls_id, "sep": self.sep_id}
            ids |= {"bos": self.cls_id, "eos": self.sep_id}
        named = {word: self.backend.id_to_token(i) for word, i in ids.items() if i >= 0}
        special = {word: token for word, token in named.items() if token}
        return tokenizer(self.backend, special, self.length)

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json` and `special.json`."""
        special = {n: getattr(self, n) for n in ("length", *_SPECIAL_FIELDS)}
        (folder / "tokenizer.json").write_text(self.backend.to_str(), "utf-8")
        (folder / "special.json").write_text(json.dumps(special))

    @staticmethod
    def load(folder: Path) -> Tokenizer:
        """Reads what `save` wrote."""
        special = json.loads((folder / "special.json").read_text())
        backend = tokenizers.Tokenizer.from_str((folder / "tokenizer.json").read_text("utf-8"))
        return Tokenizer(
            backend=backend, **special | {"special_ids": tuple(special["special_ids"])}
        )


_SPECIAL_FIELDS = ("pad_id", "unknown_id", "cls_id", "sep_id", "mask_id", "special_ids")


def encoded(backend: tokenizers.Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    different = list(dict.fromkeys(texts))  # captions repeat
    encodings = backend.encode_batch_fast(different)
    ids = {text: encoding.ids for text, encoding in zip(different, encodings, strict=True)}
    return [ids[text] for text in texts]


def words_of(backend: tokenizers.Tokenizer, captions: Sequence[str]) -> set[str]:
    """Lists the different words of the captions, as the model will see them."""
    words = set()
    for start in range(0, len(captions), 4096):
        text = backend.normalizer.normalize_str(" ".join(captions[start : start + 4096]))
        words |= {word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)}
    return words
