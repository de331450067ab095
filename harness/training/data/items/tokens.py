"""Texts of items become token ids. Letters: N texts, L tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.training.data.items.items import SECOND
from harness.training.data.tokenizer import Tokenizer, encoded


@dataclass(frozen=True, kw_only=True)
class TokenFacts:
    """What a tokenizer lost of some texts."""

    texts: int
    unknown: int
    """Texts with a word that the tokenizer cannot spell, which stands as [UNK]."""
    cut: int
    """Texts that are longer than the model's positions."""
    longest: int
    """Tokens of the longest text, before it is cut."""


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
    return TokenFacts(
        texts=len(rows),
        unknown=sum(tokenizer.unknown_id in ids for ids in rows) if rows else 0,
        cut=sum(len(ids) > most for ids in rows),
        longest=max(map(len, rows), default=0),
    )


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
