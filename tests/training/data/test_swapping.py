"""Two words of a caption change places where it stays fluent and says something else."""

from __future__ import annotations

import itertools

import pytest

from harness.training.data.swapping import swapped_captions

COLOURS = ("red", "blue", "green", "black")
CORPUS = [[f"a {a} circle left of a {b} square"] for a in COLOURS for b in COLOURS if a != b]


def test_the_words_stay_and_the_meaning_goes() -> None:
    swapped = swapped_captions(CORPUS)
    for (caption,), (other,) in zip(CORPUS, swapped, strict=True):
        assert other not in ("", caption)
        assert sorted(other.split()) == sorted(caption.split())


def test_only_pairs_of_words_that_were_seen_meet() -> None:
    seen = {
        pair for (text,) in CORPUS for pair in zip(text.split(), text.split()[1:], strict=False)
    }
    for (other,) in swapped_captions(CORPUS):
        words = other.split()
        assert words[0] == "a" and set(itertools.pairwise(words)) <= seen


@pytest.mark.parametrize(
    "caption",
    [
        "a red circle and a blue circle",  # parts in another order say the same
        "red, blue",
        "circle",
        "a purple unicorn",  # no neighbours that others have
    ],
)
def test_nothing_is_better_than_a_true_or_an_odd_caption(caption: str) -> None:
    assert swapped_captions([*CORPUS, [caption]])[-1] == ("",)


def test_not_another_caption_of_the_picture() -> None:
    both = ["a red circle left of a blue square", "a blue circle left of a red square"]
    swapped = swapped_captions([*CORPUS, both])[-1]
    assert not set(swapped) & set(both)


def test_letters_stay_as_they_are_written() -> None:
    texts = [[text.capitalize() + "."] for (text,) in CORPUS]
    (shown,) = swapped_captions([*texts, ["A Red circle  left of a blue square."]])[-1]
    assert shown == "A Blue circle  left of a red square."
    dogs = [["Dogs chase big cats."], ["Cats chase big dogs."], ["Dogs chase big cats!"]]
    assert swapped_captions(dogs)[0] == ("Cats chase big dogs.",)


def test_none_is_true_of_the_same_thing_in_another_picture() -> None:
    both = [["a red circle left of a blue square"], ["a blue circle left of a red square"]]
    rest = [row for row in CORPUS if row not in both]
    families = [*range(len(rest)), 99, 99]
    results = swapped_captions([*rest, *both], families)[-2:]
    assert not {*both[0], *both[1]} & {text for (text,) in results}
