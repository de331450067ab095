"""Captions to token ids: a WordPiece trained on the training captions, or a Hugging Face one.

Letters: B texts, L tokens, V vocabulary.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
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
from harness.training.data.cache import DataError
from harness.training.settings.data import Text

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
        ids_BL = torch.from_numpy(self.padded(_encoded(self.backend, texts)).astype(np.int64))
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


def tokenized(
    text: Text, captions: Mapping[str, Sequence[str]]
) -> tuple[Tokenizer, dict[str, np.ndarray], dict[str, float]]:
    """Makes the tokenizer of a corpus, the ids (K, L) of each split's captions, and facts.

    Words and length come from the training captions only, so that no other split reaches training.
    The length is that of the longest, so that padding, and with it time and bits, does not depend
    on which rows meet. Facts: captions, mean tokens, captions cut of each split, captions written
    differently than another one with the same tokens, share of unknown words. Raises `SettingError`
    for a tokenizer that cannot serve and `DataError` for a caption without a token.
    """
    if text.tokenizer == "wordpiece":
        tokenizer = train_wordpiece(captions["train"], text.vocabulary, text.normaliser)
    else:
        tokenizer = _pretrained(text.tokenizer)
    rows = {name: _encoded(tokenizer.backend, texts) for name, texts in captions.items()}
    _check_tokens(tokenizer, rows, captions)
    tokens_K = np.array([len(ids) for split in rows.values() for ids in split])
    unknown_id = tokenizer.unknown_id
    unknown = sum(ids.count(unknown_id) for split in rows.values() for ids in split)
    facts = {
        "captions": len(tokens_K),
        "tokens_mean": float(tokens_K.mean()),
        "captions_alike": _alike(rows, captions),
        "unknown_share": unknown / int(tokens_K.sum()),
    }
    length = min(max(map(len, rows["train"])), text.max_tokens)
    for name, split in rows.items():
        facts[f"{name}_cut"] = sum(len(ids) > length for ids in split)
    tokenizer = tokenizer.with_length(length)
    return tokenizer, {name: tokenizer.padded(split) for name, split in rows.items()}, facts


def _check_tokens(
    tokenizer: Tokenizer,
    rows: Mapping[str, Sequence[Sequence[int]]],
    captions: Mapping[str, Sequence[str]],
) -> None:
    """Raises DataError for a caption of which the tokenizer leaves nothing but [CLS] and [SEP]."""
    nothing = len(_encoded(tokenizer.backend, [""])[0])
    for name, split in rows.items():
        for caption, ids in zip(captions[name], split, strict=True):
            if len(ids) <= nothing:
                raise DataError(
                    f"{name}: of the caption {caption[:80]!a} the tokenizer leaves nothing; take "
                    "it out, or choose another tokenizer or data.text.normaliser"
                )


def _alike(
    rows: Mapping[str, Sequence[Sequence[int]]], captions: Mapping[str, Sequence[str]]
) -> int:
    """Counts different captions that have the same tokens as another one; case, spacing and how
    Unicode composes letters make no difference.
    """
    written: dict[tuple[int, ...], set[str]] = {}
    for name, split in rows.items():
        for caption, ids in zip(captions[name], split, strict=True):
            composed = unicodedata.normalize("NFC", caption.casefold())
            written.setdefault(tuple(ids), set()).add("".join(composed.split()))
    return sum(len(texts) for texts in written.values() if len(texts) > 1)


def _encoded(backend: tokenizers.Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    different = list(dict.fromkeys(texts))  # captions repeat
    encodings = backend.encode_batch_fast(different)
    ids = {text: encoding.ids for text, encoding in zip(different, encodings, strict=True)}
    return [ids[text] for text in texts]


def train_wordpiece(
    captions: Sequence[str], vocabulary: int, normaliser: str = "bert"
) -> Tokenizer:
    """Trains a WordPiece with BERT's rules; the same captions give the same vocabulary.

    `normaliser`: see `settings.Text`. Raises `SettingError` where letters alone are more than
    `vocabulary`.

    The library numbers letters inside words (`##a`) in the order of a hash table, which also breaks
    ties between merges, so two trainings differ. Naming them first, as if special, fixes
    both; the tokenizer is then built anew from the vocabulary, where they are not special.
    """
    blank = _wordpiece(dict(zip(SPECIAL, range(len(SPECIAL)), strict=True)), normaliser)
    words = _words(blank, list(dict.fromkeys(captions)))
    letters = sorted({letter for word in words for letter in word})
    inside = sorted({letter for word in words for letter in word[1:]})
    first = [*SPECIAL, *letters, *(f"##{letter}" for letter in inside)]
    if len(first) > vocabulary:
        raise SettingError(
            f"text.vocabulary={vocabulary} is less than the letters of the captions need: "
            f"{len(first)}"
        )
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=first,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    blank.train_from_iterator(captions, trainer)
    ids = range(len(SPECIAL))
    special = dict(zip(("pad_id", "unknown_id", "cls_id", "sep_id", "mask_id"), ids, strict=True))
    backend = _wordpiece(blank.get_vocab(with_added_tokens=True), normaliser)
    return Tokenizer(backend=backend, length=0, special_ids=tuple(ids), **special)


def _wordpiece(vocabulary: dict[str, int], normaliser: str) -> tokenizers.Tokenizer:
    wordpiece = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    wordpiece.add_special_tokens(list(SPECIAL))
    wordpiece.normalizer = _normalizer(normaliser)
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wordpiece.decoder = decoders.WordPiece()
    wordpiece.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return wordpiece


def _normalizer(name: str) -> normalizers.Normalizer:
    if name == "bert":
        return normalizers.BertNormalizer(lowercase=True)
    keeps_marks = normalizers.BertNormalizer(lowercase=name == "lower", strip_accents=False)
    return normalizers.Sequence([normalizers.NFC(), keeps_marks])


def _words(backend: tokenizers.Tokenizer, captions: Sequence[str]) -> set[str]:
    """Lists the different words of the captions, as the model will see them."""
    words = set()
    for start in range(0, len(captions), 4096):
        text = backend.normalizer.normalize_str(" ".join(captions[start : start + 4096]))
        words |= {word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)}
    return words


def _special_of_clip(theirs: Any, backend: tokenizers.Tokenizer) -> dict[str, int | None] | None:
    """Special ids of a tokenizer like CLIP's: texts stand between its first and last token, bytes
    spell all words, nothing masks, and padding is the last token again, which would hide the text's
    own. The byte 0xFF, which is in no text, pads instead; None: there is no such byte.
    """
    byte = backend.token_to_id("\u00ff")
    if byte is None:
        return None
    ends = {"cls": theirs.bos_token_id, "sep": theirs.eos_token_id}
    return {"pad": byte, "unk": None, **ends, "mask": byte}


def _pretrained(name: str) -> Tokenizer:
    from architectures.weights.from_transformers import load_tokenizer  # loads transformers

    theirs: Any = load_tokenizer(name)
    if not getattr(theirs, "is_fast", False):
        raise SettingError(
            f"tokenizer {name!r} ({type(theirs).__name__}) has no fast form, a tokenizer.json; "
            "convert it with transformers, or take another"
        )
    roles = ("pad", "unk", "cls", "sep", "mask")
    special = {role: getattr(theirs, f"{role}_token_id") for role in roles}
    backend = tokenizers.Tokenizer.from_str(theirs.backend_tokenizer.to_str())
    backend.no_padding()
    backend.no_truncation()
    if special["mask"] is None and special["pad"] == theirs.eos_token_id:
        special = _special_of_clip(theirs, backend) or special
    for word, value in special.items():
        if value is None and word != "unk":
            raise SettingError(f"tokenizer {name!r} has no {word} token; BERT-like ones have it")
    if backend.encode("a").ids[-1] != special["sep"] or special["pad"] == special["sep"]:
        raise SettingError(
            f"tokenizer {name!r} must end texts with its sep token, and not pad by it"
        )
    return Tokenizer(
        backend=backend,
        length=0,
        pad_id=special["pad"],
        unknown_id=-1 if special["unk"] is None else special["unk"],
        cls_id=special["cls"],
        sep_id=special["sep"],
        mask_id=special["mask"],
        special_ids=tuple(sorted(theirs.all_special_ids)),
    )
