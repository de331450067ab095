"""The classifier of words alone sees what captions give away, and nothing of its own fold."""

import numpy as np

from harness.training.scoring.blind import words_alone


def test_a_word_that_gives_the_answer_away_is_found() -> None:
    captions, right = [], []
    for number in range(40):
        captions += [f"a dog and thing {number}", f"a dog and no thing {number}"]
        right += [True, False]
    families = [number // 2 for number in range(80)]
    odds = words_alone(captions, np.array(right), families, 5)
    assert (odds[::2] > odds[1::2]).all()


def test_pairs_of_words_count_where_the_words_are_the_same() -> None:
    captions, right = [], []
    for number in range(40):
        captions += [f"{number} red circle blue square", f"{number} square red circle blue"]
        right += [True, False]
    odds = words_alone(captions, np.array(right), [n // 2 for n in range(80)], 4)
    assert (odds[::2] > odds[1::2]).all()


def test_no_caption_is_judged_by_what_saw_its_family() -> None:
    """Every caption is of one word that only its own family has: nothing can be known of it."""
    captions = [f"word{number}" for number in range(30)]
    right = np.arange(30) % 2 == 0
    odds = words_alone(captions, right, list(range(30)), 5)
    known = words_alone(captions * 2, np.tile(right, 2), list(range(60)), 30)
    assert (np.sign(known) == np.tile(np.where(right, 1, -1), 2)).mean() > 0.9
    assert np.abs(odds).max() < np.abs(known).mean()


def test_the_same_captions_give_the_same_odds() -> None:
    captions = ["a b", "b a", "a c", "c a"] * 5
    right = np.array([True, False] * 10)
    one, other = (words_alone(captions, right, [n // 2 for n in range(20)], 3) for _ in range(2))
    assert np.array_equal(one, other)
    assert not words_alone(["x"], np.array([True]), [0], 2).any()
