"""Facts are what can be counted of a corpus before it is trained on: lengths, words, identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.training.data.corpus import Corpus
from harness.training.data.splits import NAMES, Split
from harness.training.data.tokenizer import words_of
from harness.training.randomness import stream


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A spread is the least, the mean and the most of some counts."""

    least: int
    mean: float
    most: int

    @staticmethod
    def of(counts: np.ndarray) -> Spread:
        return Spread(least=int(counts.min()), mean=float(counts.mean()), most=int(counts.max()))


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """SplitFacts counts one split. Captions that differ in case or spacing alone are one."""

    pictures: int
    captions: int
    different_captions: int
    captions_a_picture: Spread
    words: Spread
    """Of a caption, split at spaces."""
    tokens: Spread
    """Of a caption as the model reads it: cut, [CLS] and [SEP] included."""
    cut: int
    """Captions that are longer than the tokenizer's length."""
    groups: int
    in_groups: int
    """Pictures whose group has another picture."""
    largest_group: int
    """Pictures of the largest group."""
    same_pixels: int
    """Pictures of which there is another one, pixel for pixel."""
    shared_captions: int
    """Pictures with a caption that a picture of another group has too: to the losses they match."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts count a corpus."""

    splits: dict[str, SplitFacts]
    vocabulary: int
    """Tokens, special ones included."""
    words: int
    """Different words of the training captions, as the tokenizer separates them."""
    length: int
    """Tokens of the longest caption that is not cut."""
    unknown_share: float
    """Of all tokens, in [0, 1]."""


def facts_of(corpus: Corpus) -> Facts:
    """Counts what a corpus holds."""
    texts = [caption for captions in corpus.train.captions for caption in captions]
    splits = {name: getattr(corpus, name) for name in NAMES}
    return Facts(
        splits={name: _split(split, corpus) for name, split in splits.items() if len(split)},
        vocabulary=corpus.tokenizer.vocabulary,
        words=len(words_of(corpus.tokenizer.backend, texts)),
        length=corpus.tokenizer.length,
        unknown_share=corpus.facts["unknown_share"],
    )


def _split(split: Split, corpus: Corpus) -> SplitFacts:
    caption_K = split.caption_NC[split.caption_NC >= 0]
    _, group_N, size_G = np.unique(split.group_N, return_inverse=True, return_counts=True)
    _, picture_N, same_P = np.unique(split.picture_N, return_inverse=True, return_counts=True)
    return SplitFacts(
        pictures=len(split),
        captions=len(caption_K),
        different_captions=len(np.unique(caption_K)),
        captions_a_picture=Spread.of(split.count_N),
        words=Spread.of(
            np.array([len(c.split()) for captions in split.captions for c in captions])
        ),
        tokens=Spread.of((split.ids_KL != corpus.tokenizer.pad_id).sum(axis=1)),
        cut=int(corpus.facts[f"{split.name}_cut"]),
        groups=len(size_G),
        in_groups=int((size_G[group_N] > 1).sum()),
        largest_group=int(size_G.max()),
        same_pixels=int((same_P[picture_N] > 1).sum()),
        shared_captions=_shared(split),
    )


def _shared(split: Split) -> int:
    """Counts the pictures with a caption that another group has too."""
    rows_K = np.repeat(np.arange(len(split)), split.count_N)
    caption_K = split.caption_NC[split.caption_NC >= 0]
    pairs = np.unique(np.stack([caption_K, split.group_N[rows_K]]), axis=1)
    captions, groups = np.unique(pairs[0], return_counts=True)
    return len(np.unique(rows_K[np.isin(caption_K, captions[groups > 1])]))


def rows_to_look_at(split: Split, count: int) -> list[int]:
    """Draws rows of a split for a person to look at: some by chance, and beside the first two of
    them another picture of their group, where there is one.
    """
    order = stream(0, "rows to look at", split.name).permutation(len(split))
    mates: dict[int, int] = {}
    for row in map(int, order):
        if len(mates) == 2:
            break
        same = np.flatnonzero(split.group_N == split.group_N[row])
        if len(same) > 1 and row not in mates.values():
            mates[row] = int(same[same != row][0])
    shown = [row for pair in mates.items() for row in pair]
    return [*shown, *(int(row) for row in order if row not in shown)][:count]
