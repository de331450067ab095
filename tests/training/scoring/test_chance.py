"""Chance levels against enumeration."""

import itertools

import numpy as np
import pytest

from harness.training.scoring.chance import majority_level, recall_chance


def test_recall_chance_is_the_share_of_lucky_choices() -> None:
    for k, gold, candidates in ((1, 1, 6), (2, 2, 6), (3, 5, 7), (4, 1, 4)):
        choices = list(itertools.combinations(range(candidates), k))
        lucky = sum(min(choice) < gold for choice in choices) / len(choices)
        assert recall_chance(k, [gold], candidates) == pytest.approx(lucky)


def test_recall_chance_is_the_mean_over_queries() -> None:
    assert recall_chance(5, np.ones(100, int), 100) == pytest.approx(0.05)
    each = [recall_chance(5, [gold], 50) for gold in (1, 3, 3)]
    assert recall_chance(5, [1, 3, 3], 50) == pytest.approx(np.mean(each))
    assert recall_chance(10, [1, 2], 4) == 1


@pytest.mark.parametrize("k, gold, candidates", [(1, [], 3), (1, [0], 3), (1, [4], 3), (0, [1], 3)])
def test_impossible_retrieval_is_refused(k: int, gold: list[int], candidates: int) -> None:
    with pytest.raises(ValueError, match=r"candidates|k must"):
        recall_chance(k, gold, candidates)


def test_majority_level() -> None:
    assert majority_level(["a", "b", "a", "c"]) == 0.5
    assert majority_level(iter([0, 0, 0])) == 1
    with pytest.raises(ValueError, match="label"):
        majority_level([])
