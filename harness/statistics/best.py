"""Multiple comparisons with the best say which designs may be the best.

Source: Hsu, "Constrained simultaneous confidence intervals for multiple comparisons with the
best", Annals of Statistics 1984. None of this gives a verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.statistics.additive import Scores, fit
from harness.statistics.dunnett import one_sided_critical

DRAWS = 10_000


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A candidate is a design beside the best of the others, in the units of the score."""

    design: str
    gap: float
    """This one minus the best of the others; above zero for the best alone."""
    lower: float
    upper: float
    """All candidates' bounds hold together; neither side of zero is left where it is certain."""
    may_be_best: bool
    """Whether it is in the set that holds the truly best design with the stated confidence."""
    share_best: float
    """Descriptive: in what share of draws of the true means, in [0, 1], it is the best: scores as
    they are, no knowledge beforehand, normal errors."""


def candidates(
    scores: Scores, *, higher_is_better: bool = True, alpha: float = 0.05
) -> tuple[Candidate, ...]:
    """Compares every design with the best of the others, by Dunnett's one-sided critical value.

    `scores`: design -> seed -> score. A design may be the best unless some other is better than it
    beyond chance; standard errors are the primary analysis' (additive.py). Where lower is better,
    gaps stay in the score's own direction: the best design's lies below zero. Simulated, 3-13
    designs and 3-5 seeds: the set holds the best in 95-97 % where all are alike and in more where
    it is ahead, in 92-95 % where all are alike and the best is twice as noisy.

    Empty where fewer than two designs have scores. Raises ValueError where a pair of designs has
    no standard error, with the reason.
    """
    sign = 1 if higher_is_better else -1
    model = fit(
        {name: {seed: sign * value for seed, value in own.items()} for name, own in scores.items()}
    )
    count = len(model.designs)
    if count < 2:
        return ()
    delta_DD, reach_DD = np.full((count, count), math.inf), np.zeros((count, count))
    critical = one_sided_critical(count - 1, model.df, alpha) if model.df else math.nan
    for d, design in enumerate(model.designs):
        for other, name in enumerate(model.designs):
            if d != other:
                difference = model.difference(design, name)
                if not math.isfinite(difference.se):
                    raise ValueError(difference.note)
                delta_DD[d, other] = difference.delta
                reach_DD[d, other] = critical * difference.se
    may_D = (delta_DD + reach_DD).min(axis=1) > 0
    share_D = _shares(model.effects_D, model.covariance_PP[:count, :count] * model.mse, model.df)
    rows = []
    for d, design in enumerate(model.designs):
        upper = max(0.0, float((delta_DD[d] + reach_DD[d]).min()))
        rivals = may_D & (np.arange(count) != d)
        lower = min(0.0, float((delta_DD - reach_DD)[d, rivals].min())) if rivals.any() else 0.0
        bounds = sorted((sign * lower, sign * upper))
        rows.append(
            Candidate(
                design=design,
                gap=sign * float(delta_DD[d].min()),
                lower=bounds[0],
                upper=bounds[1],
                may_be_best=bool(may_D[d]),
                share_best=float(share_D[d]),
            )
        )
    return tuple(rows)


def _shares(effects_D: np.ndarray, covariance_DD: np.ndarray, df: int) -> np.ndarray:
    """Returns in what share of draws (D,) each is the largest; the same draws every time."""
    rng = np.random.default_rng(0)
    values, vectors_DD = np.linalg.eigh(covariance_DD)
    normal_ND = rng.standard_normal((DRAWS, len(effects_D)))
    error_ND = normal_ND @ (vectors_DD * np.sqrt(np.maximum(values, 0))).T
    scale_N1 = np.sqrt(df / rng.chisquare(df, DRAWS))[:, None]
    best_N = (effects_D + error_ND * scale_N1).argmax(axis=1)
    return np.bincount(best_N, minlength=len(effects_D)) / DRAWS
