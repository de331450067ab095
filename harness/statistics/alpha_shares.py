"""A night's comparisons share one error rate: each question is judged at a level of its own.

The chance of any false verdict is at most the sum of the levels (Boole), however many questions are
asked, however much they depend on each other, and also where an answer decides what is asked next:
a level depends on the number of the question alone. What is asked of runs must be settled before
those runs are looked at.
"""

from __future__ import annotations

import math


def alpha_share(place: int, alpha: float, questions: int | None = None) -> float:
    """Gives the level of a question, counted from 1.

    `questions`: a number declared before the first one; each then has alpha / questions, and later
    ones none. None: there may be any number, and the k-th has alpha * 6 / (pi k)^2, which sums to
    alpha over all k (Euler's series). Raises ValueError where a value is out of range.

    >>> [round(alpha_share(k, 0.05), 4) for k in (1, 2, 3)], alpha_share(4, 0.05, 5)
    ([0.0304, 0.0076, 0.0034], 0.01)
    """
    if not 0 < alpha < 1 or place < 1 or (questions is not None and questions < 1):
        raise ValueError(f"alpha lies in (0, 1), numbers from 1: {alpha=}, {place=}, {questions=}")
    if questions is None:
        return alpha * 6 / (math.pi * place) ** 2
    return alpha / questions if place <= questions else 0.0
