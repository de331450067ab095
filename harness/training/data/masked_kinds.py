"""Single words of captions are masked here, each of a kind: a colour, a shape, a place.

Letters: N masked words, L tokens, R most pieces of one word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from harness.training.data.splits import Split
from harness.training.data.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class MaskedKind:
    """N captions of a split in each of which one word of a kind is masked, all its pieces."""

    rows_N: np.ndarray
    """int64 (N,): the picture of each caption."""
    ids_NL: np.ndarray
    """int64 (N, L): tokens with the word masked."""
    positions_NR: np.ndarray
    """int64 (N, R): where the pieces stood, padded with 0."""
    labels_NR: np.ndarray
    """int64 (N, R): the pieces, padded with -100."""

    def __len__(self) -> int:
        return len(self.rows_N)

    def take(self, some: np.ndarray) -> MaskedKind:
        """Takes some of the captions."""
        return MaskedKind(
            rows_N=self.rows_N[some],
            ids_NL=self.ids_NL[some],
            positions_NR=self.positions_NR[some],
            labels_NR=self.labels_NR[some],
        )

    @property
    def commonest(self) -> float:
        """Share of the words that are the commonest one: what a constant answer earns."""
        return float(np.unique(self.labels_NR, axis=0, return_counts=True)[1].max() / len(self))


def masked_kinds(
    split: Split,
    which: str,
    tokenizer: Tokenizer,
    kinds: Mapping[str, tuple[str, ...]],
    items: int,
) -> dict[str, MaskedKind]:
    """Returns kind -> its masked words, at most `items`, spread evenly over the captions; a kind
    that no caption has is left out.

    which: `first` or `all` captions of a picture
    kinds: kind -> its words; `left of` stands for `left` where `of` follows. Of entries that fit
           at one word the one of most words wins, then the kind that is named first; what is of
           the kind "" is never masked
    """
    masked: dict[str, list[tuple[int, list[int], list[int]]]] = {kind: [] for kind in kinds if kind}
    entries = _entries(kinds)
    longest = max((len(entry) for entry in entries), default=1)
    for row, captions in enumerate(split.captions):
        for caption in captions if which == "all" else captions[:1]:
            ids, places = _words(caption, tokenizer)
            words = [word for word, _ in places]
            for at, (_, pieces) in enumerate(places):
                kind = _kind(words[at : at + longest], entries)
                if kind and pieces[-1] < tokenizer.length - 1:  # the last place is [SEP]'s
                    masked[kind].append((row, ids, pieces))
    return {kind: _kept(its, tokenizer, items) for kind, its in masked.items() if its}


def _entries(kinds: Mapping[str, tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    entries: dict[tuple[str, ...], str] = {}
    for kind, words in kinds.items():
        for word in words:
            entries.setdefault(tuple(word.casefold().split()), kind)
    return entries


def _kind(words: list[str], entries: Mapping[tuple[str, ...], str]) -> str:
    for count in range(len(words), 0, -1):
        if tuple(words[:count]) in entries:
            return entries[tuple(words[:count])]
    return ""


def _words(caption: str, tokenizer: Tokenizer) -> tuple[list[int], list[tuple[str, list[int]]]]:
    """Returns the ids of a caption, and its words in small letters with where their pieces are."""
    encoding = tokenizer.backend.encode(caption)
    pieces: dict[int, list[int]] = {}
    for place, word in enumerate(encoding.word_ids):
        if word is not None:
            pieces.setdefault(word, []).append(place)
    spans = [(encoding.offsets[its[0]][0], encoding.offsets[its[-1]][1], its)
             for its in pieces.values()]  # fmt: skip
    return encoding.ids, [(caption[a:b].strip().casefold(), its) for a, b, its in spans]


def _kept(
    captions: list[tuple[int, list[int], list[int]]], tokenizer: Tokenizer, items: int
) -> MaskedKind:
    if len(captions) > items:
        captions = [captions[i * len(captions) // items] for i in range(items)]
    rows, ids, pieces = zip(*captions, strict=True)
    ids_NL = tokenizer.padded(ids).astype(np.int64)
    positions_NR = np.zeros((len(rows), max(map(len, pieces))), dtype=np.int64)
    labels_NR = np.full(positions_NR.shape, -100)
    for row, its in enumerate(pieces):
        positions_NR[row, : len(its)] = its
        labels_NR[row, : len(its)] = ids_NL[row, its]
        ids_NL[row, its] = tokenizer.mask_id
    return MaskedKind(
        rows_N=np.array(rows), ids_NL=ids_NL, positions_NR=positions_NR, labels_NR=labels_NR
    )


def batches_of(words: MaskedKind, rows: int) -> Iterator[MaskedKind]:
    """Yields the captions in batches of at most `rows`."""
    for start in range(0, len(words), rows):
        yield words.take(np.arange(start, min(start + rows, len(words))))
