"""BERT's rule says which words are hidden for MLM (Devlin et al. 2019, google-research/bert).

Letters: B rows, L tokens, R predictions of a row.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb
from typing import NamedTuple

import numpy as np

from harness.training.data.tokenizer import Tokenizer
from harness.training.settings.objectives import MLM


class Masked(NamedTuple):
    """Input and targets of MLM are held here."""

    ids_BL: np.ndarray
    """int64 (B, L); the tokens with some replaced."""
    positions_BR: np.ndarray
    """int64 (B, R); where predictions are read, ascending, padded with 0."""
    labels_BR: np.ndarray
    """int64 (B, R); the tokens that stood there, padded with -100."""


def mask_words(
    ids_BL: np.ndarray, tokenizer: Tokenizer, mlm: MLM, rng: np.random.Generator
) -> Masked:
    """Draws what is hidden. Every token is predicted with chance `share`, or with `whole_words`
    every word, all pieces of it; special tokens and padding never are.

    A row may have no prediction. A batch without any gets one, at the word whose draw was
    lowest, so that its loss is defined. R is fixed by the length (`widest`), not by luck; a row
    that draws more, less than once in 10,000 rows, keeps those with the lowest draws.
    """
    rows, length = ids_BL.shape
    draw_BL = np.where(tokenizer.is_word_V[ids_BL], rng.random((rows, length)), 2.0)
    width = widest(length - 2, mlm.share)
    if mlm.whole_words:  # pieces are drawn together, which spreads their number
        draw_BL = np.take_along_axis(draw_BL, word_starts(ids_BL, tokenizer), axis=1)
        width = min(2 * width, max(length - 2, 1))
    order_BL = np.argsort(draw_BL, axis=1, kind="stable")
    drawn_BL = np.take_along_axis(draw_BL, order_BL, axis=1)
    lowest_BR, drawn_BR = order_BL[:, :width], drawn_BL[:, :width]
    chosen_BR = drawn_BR < mlm.share
    if mlm.whole_words and width < length:  # no word whose other pieces find no place
        chosen_BR &= drawn_BR != drawn_BL[:, width : width + 1]
    if not chosen_BR.any():
        chosen_BR = drawn_BR == min(drawn_BR.min(), 1.0)  # no words at all: still none

    place_BR = np.sort(np.where(chosen_BR, lowest_BR, length), axis=1)
    chosen_BR = place_BR < length
    positions_BR = np.where(chosen_BR, place_BR, 0)
    labels_BR = np.where(chosen_BR, np.take_along_axis(ids_BL, positions_BR, axis=1), -100)

    fate_BR = rng.random((rows, width))
    random_BR = tokenizer.word_ids[rng.integers(len(tokenizer.word_ids), size=(rows, width))]
    changed_BR = np.where(fate_BR < mlm.mask_share + mlm.random_share, random_BR, labels_BR)
    changed_BR = np.where(fate_BR < mlm.mask_share, tokenizer.mask_id, changed_BR)
    masked_BL = ids_BL.copy()
    row, column = np.nonzero(chosen_BR)
    masked_BL[row, positions_BR[row, column]] = changed_BR[row, column]
    return Masked(masked_BL, positions_BR, labels_BR)


def word_starts(ids_BL: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """Finds where the word begins that each token is a piece of, int64 (B, L); special tokens
    begin where they stand.
    """
    begins_BL = tokenizer.begins_word_V[ids_BL]
    begins_BL[:, 1:] |= ~tokenizer.is_word_V[ids_BL[:, :-1]]  # BPE marks no first word
    place_L = np.arange(ids_BL.shape[1])
    return np.maximum.accumulate(np.where(begins_BL, place_L, 0), axis=1)


@lru_cache
def widest(words: int, share: float) -> int:
    """Finds the smallest R >= 1 such that more than R of `words` are drawn with chance < 1e-4."""
    left = 1.0
    for count in range(words + 1):
        left -= comb(words, count) * share**count * (1 - share) ** (words - count)
        if left < 1e-4:
            return max(count, 1)
    return max(words, 1)
