"""Dunnett's max|T| compares designs with a control, Tukey's range all with each other.

Source: Dunnett, "A multiple comparison procedure for comparing several treatments with a control",
JASA 1955. The statistics share the control, so any two of them correlate at 0.5: given the
control's own deviation and the estimated standard deviation they are independent, and the law of
their maximum is a double integral over those two, taken here by Gauss-Legendre quadrature.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

FloatArray = npt.NDArray[np.float64]

# Against 400 nodes each: relative error of a tail of at least 1e-10 below 5e-6, for 1-30 contrasts.
SCALE_NODES = 160
CONTROL_NODES = 64
NEGLIGIBLE = 1e-15


@lru_cache(maxsize=1)
def _control_nodes() -> tuple[FloatArray, FloatArray]:
    """Gives values (X,) and probability weights (X,) of the control's standard normal deviation."""
    nodes, weights = np.polynomial.legendre.leggauss(CONTROL_NODES)
    return 9 * nodes, 9 * weights * stats.norm.pdf(9 * nodes)


@lru_cache(maxsize=256)
def _scale_nodes(df: int) -> tuple[FloatArray, FloatArray]:
    """Gives values (S,) and probability weights (S,) of estimated over true standard deviation."""
    law = stats.chi(df, scale=1 / math.sqrt(df))
    # Even in the logarithm: a large statistic is exceeded where the estimate happens to be tiny.
    low, high = math.log(law.ppf(NEGLIGIBLE)), math.log(law.isf(NEGLIGIBLE))
    nodes, weights = np.polynomial.legendre.leggauss(SCALE_NODES)
    half = (high - low) / 2
    scale = np.exp(low + half * (nodes + 1))
    return scale, half * weights * scale * law.pdf(scale)


def dunnett_tail(statistic: float, contrasts: int, df: int) -> float:
    """Gives the chance under the null that the largest of `contrasts` absolute statistics exceeds
    this one: the adjusted two-sided p-value of a contrast, in [0, 1].

    Raises ValueError when there is no contrast or no
    degree of freedom.
    """
    if contrasts < 1 or df < 1:
        raise ValueError(
            f"Dunnett's test needs a contrast and a degree of freedom: {contrasts=}, {df=}"
        )
    control_X, weights_X = _control_nodes()
    scale_S, weights_S = _scale_nodes(df)
    reach_S1 = math.sqrt(2) * abs(statistic) * scale_S[:, None]
    # One contrast exceeds its limits; written as a small number, so that small p keep their digits.
    exceeds_SX = special.ndtr(control_X - reach_S1) + special.ndtr(-control_X - reach_S1)
    with np.errstate(divide="ignore"):  # a zero statistic is exceeded for certain: log(0)
        any_exceeds_SX = -np.expm1(contrasts * np.log1p(-np.minimum(exceeds_SX, 1.0)))
    return float(min(1.0, weights_S @ any_exceeds_SX @ weights_X))


def as_dunnett(alpha: float, contrasts: int, df: int, chains: int) -> float:
    """Gives the error rate at which Dunnett's intervals are as wide as Bonferroni's over `chains`
    are at `alpha`: it is below that. Raises ValueError as `dunnett_tail` does.
    """
    return dunnett_tail(float(stats.t.isf(alpha / 2 / chains, df)), contrasts, df)


@lru_cache(maxsize=1024)
def dunnett_critical(contrasts: int, df: int, alpha: float) -> float:
    """Gives the value that the largest of `contrasts` absolute statistics exceeds with chance
    `alpha`.

    Raises ValueError when alpha is not strictly between 0 and 1, or as `dunnett_tail` does.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
    # Bonferroni can only be too large, a single contrast only too small.
    low, high = (float(stats.t.isf(alpha / 2 / share, df)) for share in (1, contrasts))
    return float(
        optimize.brentq(
            lambda value: dunnett_tail(value, contrasts, df) - alpha,
            low * 0.99,
            high * 1.01,
            xtol=1e-9,
        )
    )


def one_sided_critical(contrasts: int, df: int, alpha: float) -> float:
    """Gives the value that the largest of `contrasts` signed statistics exceeds with chance
    `alpha`: for the question which designs may be the best, where only one side counts.

    Raises ValueError as `dunnett_critical` does.
    """
    high = dunnett_critical(contrasts, df, alpha)  # the two-sided one can only be larger
    control_X, weights_X = _control_nodes()
    scale_S, weights_S = _scale_nodes(df)

    def excess(value: float) -> float:
        reach_S1 = math.sqrt(2) * value * scale_S[:, None]
        all_below_SX = special.ndtr(control_X + reach_S1) ** contrasts
        return float(1 - weights_S @ all_below_SX @ weights_X) - alpha

    return float(optimize.brentq(excess, -10.0, high, xtol=1e-9))


def tukey_tail(statistic: float, designs: int, df: int) -> float:
    """Gives the chance under the null that the largest absolute statistic among all pairs of
    `designs` exceeds this one: the studentized range's tail at sqrt(2) times it.

    As `scipy.stats.studentized_range`, twenty times as fast. Raises ValueError with fewer than two
    designs or without a degree of freedom.
    """
    if designs < 2 or df < 1:
        raise ValueError(f"pairs need two designs and a degree of freedom: {designs=}, {df=}")
    largest_X, weights_X = _control_nodes()
    scale_S, weights_S = _scale_nodes(df)
    reach_S1 = math.sqrt(2) * abs(statistic) * scale_S[:, None]
    # All others lie below the largest, none of them farther than the reach.
    below_X = special.ndtr(largest_X)
    near_SX = np.maximum(below_X - special.ndtr(largest_X - reach_S1), 0)
    beyond_SX = below_X ** (designs - 1) - near_SX ** (designs - 1)
    return float(np.clip(designs * (weights_S @ beyond_SX @ weights_X), 0, 1))


@lru_cache(maxsize=1024)
def tukey_critical(designs: int, df: int, alpha: float) -> float:
    """Gives the value that the largest absolute statistic among all pairs of `designs` exceeds with
    chance `alpha`.

    Raises ValueError as `tukey_tail` does.
    """
    pairs = designs * (designs - 1) // 2
    low, high = (float(stats.t.isf(alpha / 2 / share, df)) for share in (1, max(1, pairs)))
    return float(
        optimize.brentq(
            lambda value: tukey_tail(value, designs, df) - alpha, low * 0.99, high * 1.01, xtol=1e-9
        )
    )
