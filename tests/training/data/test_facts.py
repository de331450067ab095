"""Counts of a corpus, beside counts made by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.training.data.corpus import Corpus, load_corpus
from harness.training.data.facts import Spread, facts_of, rows_to_look_at
from harness.training.settings.data import Pictures, Text
from tests.training.data.conftest import png

CAPTIONS = [["a red cat", "cat"], ["A  red cat"], ["two dogs run here", "dog"], ["cat", "a dog"]]


@pytest.fixture
def by_hand(parquet: Callable[..., str], tmp_path: Path) -> Corpus:
    """Four pictures of three groups; the second is the third one's pixels again."""
    source = parquet(
        image=[png(seed) for seed in (0, 1, 1, 2)], caption=CAPTIONS, group=["a", "b", "b", "c"]
    )
    text = Text(max_tokens=5)
    data = Pictures(train=source, val=source, test=source, group="group", text=text)
    return load_corpus(data, 16, tmp_path / "cache")


def test_counts_by_hand(by_hand: Corpus) -> None:
    facts = facts_of(by_hand)
    train = facts.splits["train"]
    assert set(facts.splits) == {"train", "val", "test"}
    assert (train.pictures, train.captions, train.different_captions) == (4, 7, 5)
    assert train.captions_a_picture == Spread(least=1, mean=7 / 4, most=2)
    assert train.words == Spread(least=1, mean=15 / 7, most=4)
    assert train.tokens == Spread(least=3, mean=(5 + 3 + 5 + 5 + 3 + 3 + 4) / 7, most=5)
    assert (train.groups, train.in_groups, train.largest_group) == (3, 2, 2)
    assert train.same_pixels == 2
    assert train.cut == 1 and facts.length == 5
    assert facts.words == len({"a", "red", "cat", "two", "dogs", "run", "here", "dog"})


def test_a_caption_of_another_group_is_counted_at_every_picture_that_has_it(
    by_hand: Corpus,
) -> None:
    """`a red cat` in groups a and b, `cat` in a and c: all but the third picture."""
    assert facts_of(by_hand).splits["train"].shared_captions == 3


def test_rows_to_look_at_show_what_a_group_is(by_hand: Corpus, corpus: Corpus) -> None:
    assert sorted(rows_to_look_at(by_hand.train, 12)) == [0, 1, 2, 3]
    assert {*rows_to_look_at(by_hand.train, 12)[:2]} == {1, 2}
    rows = rows_to_look_at(corpus.train, 12)
    assert len(set(rows)) == 12 and rows == rows_to_look_at(corpus.train, 12)
    groups = corpus.train.group_N[rows].tolist()
    assert groups[0] == groups[1] and groups[2] == groups[3]
