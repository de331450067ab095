"""Texts of items become token ids. Letters: N texts, L tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.training.data.items.items import SECOND
from harness.training.data.sources.cells import shortened
from harness.training.data.tokenizer import Tokenizer, encoded


@dataclass(frozen=True, kw_only=True)
class TokenFacts:
    """What a tokenizer lost of some texts."""

    texts: int
    unknown: int
    """Texts with a word or sign that the tokenizer cannot spell, which stands as [UNK]."""
    example: str
    """One of those, a word where there is one; empty where there is none."""
    cut: int
    """Texts that are longer than the model's positions."""
    longest: int
    """Tokens of the longest text, before it is cut."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Says what a reader of the scores should know; nothing where nothing was lost."""
        unknown = (
            f"{self.unknown:,} of {self.texts:,} texts have a word or sign that the tokenizer "
            f"cannot spell ([UNK]), as {shortened(self.example)!r}"
        )
        if _is_latin(self.example):
            unknown += "; a WordPiece can with data.text.alphabet='latin'"
        cut = f"{self.cut:,} of {self.texts:,} texts are cut to the model's positions"
        counted = ((self.unknown, unknown), (self.cut, cut))
        return tuple(note for count, note in counted if count)


def tokens_of(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> np.ndarray:
    """Returns ids, int32 (N, L), padded to the longest text, or cut before [SEP] to `most` tokens.
    Two texts with `SECOND` between stand as [CLS] first [SEP] second [SEP].
    """
    rows = _rows(tokenizer, texts)
    length = min(max(map(len, rows), default=0), most)
    return tokenizer.with_length(length).padded(rows)


def token_facts(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> TokenFacts:
    """Counts what `tokens_of` loses of these texts."""
    rows = _rows(tokenizer, texts)
    unknown = [number for number, ids in enumerate(rows) if tokenizer.unknown_id in ids]
    return TokenFacts(
        texts=len(rows),
        unknown=len(unknown),
        example=_unknown_word(tokenizer, [texts[number] for number in unknown]),
        cut=sum(len(ids) > most for ids in rows),
        longest=max(map(len, rows), default=0),
    )


def _unknown_word(tokenizer: Tokenizer, texts: Sequence[str]) -> str:
    """Finds what a tokenizer cannot spell: a word of Latin letters where there is one."""
    words = [
        text[slice(*place)]
        for text, encoding in zip(texts, tokenizer.backend.encode_batch(list(texts)), strict=True)
        for number, place in zip(encoding.ids, encoding.offsets, strict=True)
        if number == tokenizer.unknown_id
    ]
    return next((word for word in words if _is_latin(word)), words[0] if words else "")


def _is_latin(word: str) -> bool:
    return word.isascii() and word.isalnum()


def _rows(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    parts = [text.split(SECOND, 1) for text in texts]
    flat = iter(encoded(tokenizer.backend, [part for of_text in parts for part in of_text]))
    rows = []
    for of_text in parts:
        ids = next(flat)
        for _ in of_text[1:]:
            ids = [*ids, *next(flat)[1:]]  # without its own [CLS]
        rows.append(ids)
    return rows
