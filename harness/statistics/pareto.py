"""The Pareto front holds the designs that no other one beats in cost and score at once."""

from __future__ import annotations

import math
from collections.abc import Mapping


def dominated_by(
    cost: Mapping[str, float], score: Mapping[str, float], *, higher_is_better: bool = True
) -> dict[str, str | None]:
    """Gives design -> one that costs no more and scores no worse, and is better in one; None: it is
    on the Pareto front.

    Of several the best-scoring is named. Designs without a finite cost and score are left out. It
    compares estimates: a design may lie just behind the front by chance.
    """
    sign = 1 if higher_is_better else -1
    points = {
        name: (-cost[name], sign * score[name])
        for name in cost
        if math.isfinite(cost[name] + score.get(name, math.nan))
    }
    above = {
        name: [
            other
            for other, (cheap, good) in points.items()
            if cheap >= point[0] and good >= point[1] and (cheap, good) != point
        ]
        for name, point in points.items()
    }
    return {
        name: max(others, key=lambda other: points[other][1], default=None)
        for name, others in above.items()
    }
