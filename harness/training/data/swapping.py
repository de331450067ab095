"""Captions with two words exchanged, by rule, for data without ground truth (after NegCLIP,
Yuksekgonul et al. 2023, which exchanges words of one part of speech that a tagger found).

Here the captions themselves say what may stand where: two words change places only where all threes
of neighbours that then meet also meet in other training captions. So the result reads as fluently
as they do; letters, spaces and marks stay as they are, and nothing but the meaning gives it away.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

JOINING = frozenset({"and", "or", "with", "beside", "near", "next", "to", ",", ";", ":", "."})
"""Words between parts of a caption whose order says nothing."""
ARTICLES = frozenset({"a", "an", "the"})
LIMITING = frozenset({"only", "just", "exactly"})
"""Words that say nearly the same wherever they stand."""
GRAMMAR = 40
"""So many of the most frequent words (a, of, is) stay where they are; a tenth of the words where
that is less."""
_END = ""
_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*|[^\w\s]")

Threes = Counter[tuple[str, str, str]]
"""In how many captions three words meet, in small letters; `_END` stands before and after each."""


def swapped_captions(
    captions: Sequence[Sequence[str]], family_N: Sequence[int] | None = None
) -> tuple[tuple[str, ...], ...]:
    """Returns each caption of each picture with two of its words exchanged, "" where no two can be.

    `family_N`: equal for pictures that are the same thing; None: none are. Of all fluent exchanges
    it is the one whose rarest new three of neighbours is the most frequent. No result only puts
    parts that "and" or the like joins in another order, since it would stay true, and none is
    another caption of its picture's family.
    """
    family_N = range(len(captions)) if family_N is None else family_N
    threes: Threes = Counter()
    counts: Counter[str] = Counter()
    taken: dict[int, set[tuple[str, ...]]] = {}
    for family, of_picture in zip(family_N, captions, strict=True):
        for caption in of_picture:
            words = _words(caption)
            counts.update(set(words))
            threes.update(_threes(words))
            taken.setdefault(family, set()).add(tuple(words))
    still = {word for word, _ in counts.most_common(min(GRAMMAR, len(counts) // 10))} | LIMITING
    return tuple(
        tuple(
            max(_exchanges(caption, threes, still, taken[family]), default=(0, ""))[1]
            for caption in of_picture
        )
        for family, of_picture in zip(family_N, captions, strict=True)
    )


def _words(caption: str) -> list[str]:
    """Returns the words and marks of a caption in small letters."""
    return [word.lower() for word in _WORD.findall(caption)]


def _threes(words: Sequence[str]) -> set[tuple[str, str, str]]:
    """Returns the threes of words that meet, the ends of the caption included."""
    ends = [_END, _END]
    padded = [*ends, *words, *ends]
    return set(zip(padded, padded[1:], padded[2:], strict=False))


def _exchanges(
    caption: str, threes: Threes, still: set[str], taken: set[tuple[str, ...]]
) -> Iterator[tuple[int, str]]:
    """Yields every fluent exchange, with in how many captions its rarest new three meets."""
    words = _words(caption)
    before, parts = _threes(words), _parts(words)
    places = [i for i, word in enumerate(words) if word not in still and word[0].isalnum()]
    for first, second in itertools.combinations(places, 2):
        changed = list(words)
        changed[first], changed[second] = words[second], words[first]
        rarest = min((threes[three] for three in _threes(changed) - before), default=0)
        if rarest and tuple(changed) not in taken and _parts(changed) != parts:
            yield rarest, _written(caption, first, second)


def _written(caption: str, first: int, second: int) -> str:
    """Writes two words of a caption in each other's place, a capital where a capital was."""
    spans = [match.span() for match in _WORD.finditer(caption)]
    (a, b), (c, d) = spans[first], spans[second]
    one, other = caption[a:b], caption[c:d]
    if one.istitle() != other.istitle():
        one, other = (
            word.capitalize() if place.istitle() else word.lower()
            for word, place in ((one, other), (other, one))
        )
    return caption[:a] + other + caption[b:c] + one + caption[d:]


def _parts(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns the parts of a caption that joining words divide, sorted, without articles."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in JOINING:
            parts.append([])
        elif word not in ARTICLES:
            parts[-1].append(word)
    return sorted(map(tuple, parts))
