"""Descriptive intervals: proportions of items, means over seeds, bands around curves.

None of these gives a verdict: items of one model say nothing of other seeds, and an interval per
point or per task takes no account of the others unless it says simultaneous.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

FloatArray = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """An interval is an estimate between its bounds, in the units of the values."""

    lower: float
    estimate: float
    upper: float


def proportion_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Gives the two-sided exact interval of a share of independent items, in [0, 1] (Clopper and
    Pearson 1934).

    Raises ValueError without items or with more successes than items.
    """
    exact = _binomial(successes, n, "two-sided").proportion_ci(confidence, method="exact")
    return Interval(float(exact.low), successes / n, float(exact.high))


@functools.cache  # a millisecond each, and many runs count alike
def proportion_lower_bound(successes: int, n: int, confidence: float = 0.95) -> float:
    """Gives the one-sided exact lower bound of a share of independent items, in [0, 1].

    Where it does not lie above chance, nothing is shown to be learned.

    Raises ValueError as `proportion_interval` does.
    """
    exact = _binomial(successes, n, "greater").proportion_ci(confidence, method="exact")
    return float(exact.low)


def _binomial(successes: int, n: int, side: str) -> Any:
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a share needs items and at most that many successes: {successes} of {n}")
    return stats.binomtest(successes, n, alternative=side)


def mean_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Gives Student's t interval of a mean over seeds; values that are not finite are left out.

    Bounds are nan with fewer than two values, and all is nan with none.
    """
    kept = np.asarray(values, dtype=float).ravel()
    kept = kept[np.isfinite(kept)]
    if len(kept) < 2:
        return Interval(math.nan, float(kept[0]) if len(kept) else math.nan, math.nan)
    reach = stats.t.isf((1 - confidence) / 2, len(kept) - 1)
    mean, half = float(kept.mean()), float(reach * kept.std(ddof=1) / math.sqrt(len(kept)))
    return Interval(mean - half, mean, mean + half)


def sd_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Gives the chi-squared interval of the SD of normal values; those not finite are left out.

    All is nan with fewer than two values.
    """
    kept = np.asarray(values, dtype=float).ravel()
    kept = kept[np.isfinite(kept)]
    if len(kept) < 2:
        return Interval(math.nan, math.nan, math.nan)
    df, sd, tail = len(kept) - 1, float(kept.std(ddof=1)), (1 - confidence) / 2
    lower, upper = (sd * math.sqrt(df / float(stats.chi2.isf(p, df))) for p in (tail, 1 - tail))
    return Interval(lower, sd, upper)


@dataclass(frozen=True, kw_only=True)
class Band:
    """A band surrounds the mean curve over seeds; arrays are (T,) points, nan bounds: one seed."""

    mean: FloatArray
    lower: FloatArray
    """Holds at any one point with the stated confidence."""
    upper: FloatArray
    lower_simultaneous: FloatArray
    """Holds at all points together."""
    upper_simultaneous: FloatArray
    seeds: int


def mean_band(curves_ST: npt.ArrayLike, confidence: float = 0.95) -> Band:
    """Gives pointwise and simultaneous t bands of the mean of curves (S, T) at common points.

    The simultaneous band takes, at each point, the larger of the variance there and the curve's
    median one (three seeds agree by accident somewhere), times a level from the expected number of
    times that a t process crosses it (Kac-Rice; Liebl and Reimherr, "Fast and fair simultaneous
    confidence bands for functional parameters", JRSS B 2023). Its roughness is the angle that the
    residuals turn through from point to point, so a smooth curve pays little and a finer grid
    nothing; the level never exceeds Bonferroni's. Simulated with 3 and 5 seeds on smooth, rough and
    drifting curves, a 95 % band misses anywhere in 0-2 % (without the median: 5-25 %).

    Raises ValueError unless the array has two axes, one point or more, and finite values only.
    """
    curves_ST = np.asarray(curves_ST, dtype=float)
    if curves_ST.ndim != 2 or 0 in curves_ST.shape:
        raise ValueError(f"curves must be an array [seeds, points], got shape {curves_ST.shape}")
    if not np.isfinite(curves_ST).all():
        row, column = np.argwhere(~np.isfinite(curves_ST))[0]
        raise ValueError(f"curve {row} is not finite at point {column}: leave it out or cut it")
    seeds = len(curves_ST)
    mean = curves_ST.mean(axis=0)
    if seeds == 1:
        bounds = ("lower", "upper", "lower_simultaneous", "upper_simultaneous")
        empty = {name: np.full_like(mean, math.nan) for name in bounds}
        return Band(mean=mean, seeds=1, **empty)
    variance = curves_ST.var(axis=0, ddof=1)
    one = stats.t.isf((1 - confidence) / 2, seeds - 1) * np.sqrt(variance / seeds)
    wary = np.maximum(variance, np.median(variance))
    every = crossing_level(curves_ST - mean, seeds - 1, 1 - confidence) * np.sqrt(wary / seeds)
    return Band(
        mean=mean,
        lower=mean - one,
        upper=mean + one,
        lower_simultaneous=mean - every,
        upper_simultaneous=mean + every,
        seeds=seeds,
    )


def paired_difference_band(
    curves_ST: npt.ArrayLike, control_ST: npt.ArrayLike, confidence: float = 0.95
) -> Band:
    """Gives bands of the mean of curve minus control (S, T), row by row the same seed.

    Raises ValueError when the shapes differ, and as `mean_band` does.
    """
    curves_ST, control_ST = np.asarray(curves_ST, dtype=float), np.asarray(control_ST, dtype=float)
    if curves_ST.shape != control_ST.shape:
        raise ValueError(f"paired curves differ in shape: {curves_ST.shape}, {control_ST.shape}")
    return mean_band(curves_ST - control_ST, confidence)


def crossing_level(path_RT: FloatArray, df: int, alpha: float) -> float:
    """Finds the level that a t process leaves anywhere with chance alpha at most.

    The process at point T is the projection of R independent normal numbers on column T of
    `path_RT`, whose lengths do not matter, over an estimate of their SD with `df` degrees of
    freedom: residuals of curves at points (R seeds), or a fitted curve's weights (R coefficients).
    """
    length_T = np.linalg.norm(path_RT, axis=0)
    moving_RT = path_RT[:, length_T > 0] / length_T[length_T > 0]
    # |cosine|: a path that turns over entirely leaves the same two-sided band.
    cosine = np.abs((moving_RT[:, 1:] * moving_RT[:, :-1]).sum(axis=0))
    turned = float(np.arccos(np.minimum(cosine, 1)).sum())

    def excess(level: float) -> float:
        crossings = turned / math.pi * (1 + level**2 / df) ** (-df / 2)
        return 2 * float(stats.t.sf(level, df)) + crossings - alpha

    bonferroni = float(stats.t.isf(alpha / 2 / max(1, moving_RT.shape[1]), df))
    if excess(bonferroni) >= 0:
        return bonferroni
    return float(optimize.brentq(excess, 0.0, bonferroni))
