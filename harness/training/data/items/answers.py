"""The answers that a question can be given, and how right each is, by VQA's rule.

Letters: N questions, K answers that can be given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from harness.training.data.items.items import Items
from harness.training.data.items.lines import normalised_answer

ENOUGH = 3 / 10
"""Share of the people who must give an answer for it to be fully right: three of ten (Antol et al.
2015)."""


def answer_list(train: Items, most: int) -> tuple[str, ...]:
    """Lists the `most` answers that people give most often to the training questions, the most
    common first; each question counts 1, shared among its answers. Equally common ones stand in the
    order of the alphabet.
    """
    weight: dict[str, float] = defaultdict(float)
    for answers in train.answers:
        for answer, share in answers:
            weight[answer] += share
    # Rounded, so that the order of the questions, and with it of the sums, does not break ties.
    ordered = sorted(weight, key=lambda answer: (-round(weight[answer], 6), answer))
    return tuple(ordered[:most])


def targets_of(items: Items, answers: Sequence[str]) -> np.ndarray:
    """Says how right each answer is: float32 (N, K), min(1, share of people / 0.3); a row of zeros
    where no answer that people give can be given.
    """
    place = {answer: number for number, answer in enumerate(answers)}
    targets_NK = np.zeros((len(items), len(answers)), dtype=np.float32)
    for row, of_item in enumerate(items.answers):
        for answer, share in of_item:
            if answer in place:
                targets_NK[row, place[answer]] = _right(share)
    return targets_NK


def vqa_accuracy(given: Sequence[str], items: Items) -> np.ndarray:
    """Says how right the answer given to each question is: float32 (N,), in [0, 1]. Case and
    spacing make no difference.
    """
    right = [
        _right(dict(answers).get(normalised_answer(answer), 0.0))
        for answer, answers in zip(given, items.answers, strict=True)
    ]
    return np.array(right, dtype=np.float32)


def majority_worth(items: Items) -> float:
    """Says how right, in the mean, the answer is that earns most when it is given to all."""
    worth: dict[str, float] = defaultdict(float)
    for answers in items.answers:
        for answer, share in answers:
            worth[answer] += _right(share)
    return max(worth.values()) / len(items)


def _right(share: float) -> float:
    return min(1.0, round(share / ENOUGH, 9))
