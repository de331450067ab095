"""Captions with two words exchanged, by rule, for data without ground truth (after NegCLIP,
Yuksekgonul et al. 2023, which exchanges words of one part of speech that a tagger found).

Here the captions themselves say what may stand where: two words change places only where every pair
of neighbours that then meet also meets in other training captions. So the result reads as fluently
as they do, and a text that is only odd gives nothing away.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

JOINING = frozenset({"and", "or", "with", "beside", "near", "next", "to", ",", ";", ":", "."})
"""Words between parts of a caption whose order says nothing."""
ARTICLES = frozenset({"a", "an", "the"})
GRAMMAR = 40
"""So many of the most frequent words (a, of, is) stay where they are; a tenth of the words where
that is less."""
_END = ""
_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*|[^\w\s]")

Neighbours = Counter[tuple[str, str]]
"""In how many captions two words meet, in small letters; `_END` stands before and after each."""


def swapped_captions(captions: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Returns each caption of each picture with two of its words exchanged, "" where no two can be.

    Of all fluent exchanges it is the one whose rarest new pair of neighbours is the most frequent.
    No result only puts parts that "and" or the like joins in another order, since it would stay
    true, and none is another caption of its picture. Punctuation stands between spaces.
    """
    words_of = [[_WORD.findall(text) for text in of_picture] for of_picture in captions]
    neighbours: Neighbours = Counter()
    counts: Counter[str] = Counter()
    for words in itertools.chain.from_iterable(words_of):
        counts.update({word.lower() for word in words})
        neighbours.update(_pairs([word.lower() for word in words]))
    grammar = {word for word, _ in counts.most_common(min(GRAMMAR, len(counts) // 10))}
    swapped = []
    for of_picture in words_of:
        taken = {tuple(word.lower() for word in words) for words in of_picture}
        results = [
            max(_exchanges(words, neighbours, grammar, taken), default=(0, ""))[1]
            for words in of_picture
        ]
        swapped.append(tuple(results))
    return tuple(swapped)


def _pairs(words: Sequence[str]) -> set[tuple[str, str]]:
    """Returns the pairs of words that meet, the ends of the caption included."""
    return set(itertools.pairwise([_END, *words, _END]))


def _exchanges(
    words: list[str], neighbours: Neighbours, grammar: set[str], taken: set[tuple[str, ...]]
) -> Iterator[tuple[int, str]]:
    """Yields every fluent exchange, with in how many captions its rarest new pair meets."""
    lower = [word.lower() for word in words]
    before = _pairs(lower)
    places = [i for i, word in enumerate(lower) if word not in grammar and word[0].isalnum()]
    for first, second in itertools.combinations(places, 2):
        changed, shown = list(lower), list(words)
        for order in (changed, shown):
            order[first], order[second] = order[second], order[first]
        rarest = min((neighbours[pair] for pair in _pairs(changed) - before), default=0)
        if rarest and tuple(changed) not in taken and _parts(changed) != _parts(lower):
            yield rarest, " ".join(shown)


def _parts(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns the parts of a caption that joining words divide, sorted, without articles."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in JOINING:
            parts.append([])
        elif word not in ARTICLES:
            parts[-1].append(word)
    return sorted(map(tuple, parts))
