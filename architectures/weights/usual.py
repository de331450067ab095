"""What is usual of published models stands in for what their files do not tell."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

DECODER, WORDS = "heads.mlm.decoder.weight", "embeddings.word.weight"
DECODER_BIAS = "heads.mlm.decoder.bias"
WIDE_HEADS: Mapping[int, int] = {1280: 16, 1408: 16, 1664: 16}
"""Width of the huge, giant and gigantic ViT -> heads."""
PUBLISHED_WIDTHS = {192, 384, 768, 1024, *WIDE_HEADS}
"""Widths of ViTs and BERTs whose heads are known."""


def usual_heads(width: int) -> int:
    """Returns the heads of published ViTs and BERTs of a width: 64 columns each, more in the ViTs
    above the large one.
    """
    return WIDE_HEADS.get(width, max(width // 64, 1))


def rounded_up(words: int, rows: int) -> bool:
    """Says whether a word table has more rows than words only because their number was rounded up,
    as is done for speed (30528 rows for BERT's 30522 words).
    """
    return words < rows < words + 128 and rows % 8 == 0


def for_words(tensors: Mapping[str, Tensor], words: int, prefix: str = "") -> dict[str, Tensor]:
    """Returns weights without the rows of a word table, and of its MLM head, that no word takes."""
    rows = {f"{prefix}{role}" for role in (WORDS, DECODER, DECODER_BIAS)}
    return {
        role: x[:words] if role in rows and rounded_up(words, len(x)) else x
        for role, x in tensors.items()
    }
