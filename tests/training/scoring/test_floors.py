"""Floors find what one side gives away, and nothing where it gives nothing away."""

import numpy as np
import pytest

from harness.training.scoring.floors import (
    floors,
    k_fold_text_only_accuracy,
    picture_only_accuracy,
    text_only_accuracy,
)

RNG = np.random.default_rng(0)


def texts(count: int) -> list[str]:
    return [f"word{RNG.integers(30)} word{RNG.integers(30)} end" for _ in range(count)]


def test_a_word_that_gives_the_label_is_found() -> None:
    seen, unseen = texts(200), texts(100)
    leak = [
        [text + (" leak" if row % 2 else "") for row, text in enumerate(t)] for t in (seen, unseen)
    ]
    labels = [[row % 2 == 1 for row in range(len(t))] for t in leak]
    assert text_only_accuracy(leak[0], labels[0], leak[1], labels[1]) == 1.0
    assert text_only_accuracy(seen, labels[0], unseen, labels[1]) < 0.7


def test_the_order_of_two_words_is_read() -> None:
    rows = ["red circle" if row % 2 else "circle red" for row in range(40)]
    labels = [row % 2 for row in range(40)]
    assert text_only_accuracy(rows, labels, rows, labels) == 1.0


def test_texts_that_have_every_label_alike_earn_exactly_one_of_so_many() -> None:
    rows = [text for text in texts(90) for _ in range(3)]
    labels = ["a", "b", "c"] * 90
    assert text_only_accuracy(rows[:180], labels[:180], rows[180:], labels[180:]) == 1 / 3


def test_folds_keep_groups_together() -> None:
    """Each label is given away by a word of its own group alone: nothing can be learned of it."""
    groups = [row // 5 for row in range(100)]
    rows = [f"only{group} here" for group in groups]
    drawn = RNG.permutation([0, 1] * 10)
    labels = [int(drawn[group]) for group in groups]
    alone = k_fold_text_only_accuracy(rows, labels, folds=4)
    together = k_fold_text_only_accuracy(rows, labels, folds=4, groups=groups)
    assert alone > 0.7 > together
    assert together == k_fold_text_only_accuracy(rows, labels, folds=4, groups=groups)


@pytest.mark.parametrize("folds", [1, 3])
def test_impossible_folds_are_refused(folds: int) -> None:
    with pytest.raises(ValueError, match="folds of 2 groups"):
        k_fold_text_only_accuracy(["a", "b"], [0, 1], folds=folds)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="rows to train on"):
        text_only_accuracy([], [], ["a"], [0])


def test_pictures_that_give_the_label_are_found_also_in_other_channels_and_sizes() -> None:
    labels = [row % 3 for row in range(300)]
    images_NHWC = RNG.integers(120, 136, size=(300, 40, 40, 6), dtype=np.uint8)
    assert (
        picture_only_accuracy(images_NHWC[:200], labels[:200], images_NHWC[200:], labels[200:])
        < 0.6
    )
    for row, label in enumerate(labels):
        images_NHWC[row, 4 : 4 + 8, 12 * label : 12 * label + 8, 4] = 250
    measured = [
        picture_only_accuracy(images_NHWC[:200], labels[:200], images_NHWC[200:], labels[200:])
        for _ in range(2)
    ]
    assert measured[0] == measured[1] > 0.95


def test_the_floors_of_a_task_stand_beside_its_majority() -> None:
    rows = texts(60)
    images_NHWC = RNG.integers(256, size=(60, 8, 8, 3), dtype=np.uint8)
    labels = ["yes"] * 40 + ["no"] * 20
    measured = floors((rows, images_NHWC, labels), (rows[:30], images_NHWC[:30], ["new"] * 30))
    assert (measured.items, measured.majority) == (30, 1.0)
    assert measured.text_only == measured.picture_only == 0.0
