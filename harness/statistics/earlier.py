"""Residual variances of earlier studies say what to expect of the next one.

For plans, and as a second opinion that says so; never for verdicts. Simulated with two designs,
three seeds and a prior of eight degrees of freedom, a nominal 5 % is 4.7 % where the new study is
like the earlier ones, 19 % and 33 % where it is two and four times as noisy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from harness.statistics.blocked import Analysis, Contrast
from harness.statistics.dunnett import dunnett_critical, dunnett_tail

MOST_DF = 1_000_000
"""Degrees of freedom that stand for an infinite number: earlier variances agree entirely."""


@dataclass(frozen=True, kw_only=True)
class Prior:
    """A prior is what earlier studies say of a residual variance, in squared units of the score."""

    variance: float
    df: float
    """What it counts for beside a study's own degrees of freedom; 0: earlier studies disagree."""


def prior(variances: Sequence[float], df: Sequence[int]) -> Prior:
    """Estimates a scaled F prior from residual variances of earlier studies and their df.

    By the moments of their logarithms (Smyth, "Linear models and empirical Bayes methods", SAGMB
    2004, section 6.2). Raises ValueError with fewer than three, or one that is not positive.
    """
    s2, d = np.asarray(variances, dtype=float), np.asarray(df, dtype=float)
    if len(s2) < 3 or not (np.isfinite(s2).all() and (s2 > 0).all() and (d >= 1).all()):
        raise ValueError("a prior needs three earlier studies or more, each with a spread")
    e = np.log(s2) - special.digamma(d / 2) + np.log(d / 2)
    excess = float(np.var(e, ddof=1) - special.polygamma(1, d / 2).mean())
    if excess <= 0:
        return Prior(variance=math.exp(float(e.mean())), df=math.inf)
    half = _inverse_trigamma(excess)
    scale = math.exp(float(e.mean() + special.digamma(half)) - math.log(half))
    return Prior(variance=scale, df=2 * half)


def _inverse_trigamma(value: float) -> float:
    """Finds the x > 0 at which trigamma is `value`."""
    return math.exp(
        optimize.brentq(
            lambda log_x: float(special.polygamma(1, math.exp(log_x))) / value - 1, -40.0, 40.0
        )
    )


@dataclass(frozen=True, kw_only=True)
class SecondOpinion:
    """A second opinion is a contrast's interval with a moderated variance: labelled, no verdict."""

    design: str
    se: float
    df: int
    lower: float
    upper: float
    p_adjusted: float


def second_opinion(
    analysis: Analysis, earlier: Prior, *, guarded: bool = True
) -> tuple[SecondOpinion, ...]:
    """Gives every contrast with its residual variance moderated by earlier studies.

    `guarded`: never below the study's own variance or the earlier ones': 3 % false positives, and
    11 % and 14 % where the new study is two and four times as noisy; it buys nothing from four
    designs on.
    Contrasts without an interval are left out.
    """
    df = int(min(analysis.df + earlier.df, MOST_DF))
    weight = earlier.df / (earlier.df + analysis.df) if math.isfinite(earlier.df) else 1.0
    pooled = weight * earlier.variance + (1 - weight) * analysis.mse
    if guarded:
        pooled = max(pooled, analysis.mse, earlier.variance)
    compared = [contrast for contrast in analysis.contrasts if contrast.has_interval]
    return tuple(_moderated(c, pooled, df, len(compared), analysis.alpha) for c in compared)


def _moderated(
    contrast: Contrast, pooled: float, df: int, count: int, alpha: float
) -> SecondOpinion:
    # The standard error scales with one seed's SD, whichever cells are missing.
    se = contrast.se * math.sqrt(2 * pooled) / contrast.seed_sd
    half = dunnett_critical(count, df, alpha) * se
    return SecondOpinion(
        design=contrast.design,
        se=se,
        df=df,
        lower=contrast.delta - half,
        upper=contrast.delta + half,
        p_adjusted=dunnett_tail(contrast.delta / se, count, df),
    )
