"""Rankings of the same designs are compared, over scores of one study or over two studies.

Descriptive: a ranking takes no account of how sure its places are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]

SHUFFLES = 9_999


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """An agreement says how alike rankings of the same designs are."""

    designs: int
    """Designs that all rankings hold."""
    coefficient: float
    """Kendall's tau-b of two rankings, in [-1, 1], or W of several, in [0, 1]; nan: no order."""
    p: float
    """Chance of agreeing so well, or of two so well or badly, where orders are unrelated."""


def kendall_tau(first: Mapping[str, float], second: Mapping[str, float]) -> Agreement:
    """Gives Kendall's tau-b (1938) of two sets of values, over designs with a finite one in both.

    Values of a score where lower is better have their sign changed by the caller. p is exact
    without ties. With fewer than two designs the coefficient is nan.
    """
    both = [name for name in first if math.isfinite(first[name] + second.get(name, math.nan))]
    values = [[ranking[name] for name in both] for ranking in (first, second)]
    if len(both) < 2:
        return Agreement(designs=len(both), coefficient=math.nan, p=math.nan)
    tau = stats.kendalltau(*values)
    return Agreement(designs=len(both), coefficient=float(tau.statistic), p=float(tau.pvalue))


def kendall_w(rankings: Sequence[Mapping[str, float]]) -> Agreement:
    """Gives Kendall's coefficient of concordance W (1939), corrected for ties.

    p comes from shuffling each ranking by itself, the same shuffles every time. Designs without a
    finite value in every ranking are left out; with fewer than two the coefficient is nan. Raises
    ValueError for fewer than two rankings.
    """
    if len(rankings) < 2:
        raise ValueError(f"agreement needs two rankings, got {len(rankings)}")
    common = [
        name
        for name in rankings[0]
        if all(math.isfinite(ranking.get(name, math.nan)) for ranking in rankings)
    ]
    ranks_RD = np.array(
        [stats.rankdata([ranking[name] for name in common]) for ranking in rankings]
    ).reshape(len(rankings), len(common))
    within = float(((ranks_RD - (len(common) + 1) / 2) ** 2).sum())
    if within == 0 or len(common) < 2:
        return Agreement(designs=len(common), coefficient=math.nan, p=math.nan)
    # Between designs over all: 1 where rankings are the same, 1 / R expected where unrelated.
    scale = len(rankings) * within
    observed = _spread(ranks_RD)
    rng = np.random.default_rng(0)
    as_large = sum(
        _spread(rng.permuted(ranks_RD, axis=1)) >= observed * (1 - 1e-12) for _ in range(SHUFFLES)
    )
    p = (1 + as_large) / (1 + SHUFFLES)
    return Agreement(designs=len(common), coefficient=observed / scale, p=p)


def _spread(ranks_RD: FloatArray) -> float:
    total_D = ranks_RD.sum(axis=0)
    return float(((total_D - total_D.mean()) ** 2).sum())
