"""Simulates the rule in use: what a number of designs and seeds can detect or decide.

Effects are in residual SDs of the blocked model: a seed's difference of two designs has SD
sqrt(2) of them. The rule's standard error is sqrt(max(Var(d_s), 2 MSE) / seeds), see additive.py.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.statistics.dunnett import dunnett_critical

FloatArray = npt.NDArray[np.float64]

DRAWS = 100_000


def _standard_errors(designs: int, seeds: int, rng: np.random.Generator) -> FloatArray:
    """Draws the standard error of a contrast, in residual SDs: (DRAWS,).

    The sum of squares behind the MSE splits into the contrast's own, with S - 1 degrees of
    freedom, and an independent rest, so two chi-squared draws stand for a whole table of scores.
    """
    own = rng.chisquare(seeds - 1, DRAWS)
    pooled = own
    if designs > 2:
        pooled = own + rng.chisquare((designs - 2) * (seeds - 1), DRAWS)
    pooled = pooled / ((designs - 1) * (seeds - 1))
    variance = np.maximum(own / (seeds - 1), pooled)
    return np.sqrt(2 * variance / seeds)


@lru_cache(maxsize=256)
def smallest_detectable_effect(
    designs: int,
    seeds: int,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Gives the difference from the control, in residual SDs, that is detected with chance `power`.

    `designs` counts the control. Detected means that Dunnett's interval at `alpha` lies wholly on
    the right side of zero. Good to about 0.5 %. Infinite where nothing can be detected: fewer than
    two designs or two seeds.
    """
    if designs < 2 or seeds < 2:
        return math.inf
    rng = np.random.default_rng(0)
    critical = dunnett_critical(designs - 1, (designs - 1) * (seeds - 1), alpha)
    half_width = critical * _standard_errors(designs, seeds, rng)
    error = math.sqrt(2 / seeds) * rng.standard_normal(DRAWS)
    # In each draw the effect is detected from half_width - error upwards.
    return float(np.quantile(half_width - error, power))


@lru_cache(maxsize=1024)
def decision_chance(
    effect: float,
    region: float,
    *,
    designs: int,
    seeds: int,
    alpha: float,
) -> float:
    """Gives the chance, in [0, 1], that Dunnett's interval excludes zero or falls inside
    [-region, region].

    `effect` and `region` are in residual SDs; `designs` counts the control. With region 0 and two
    designs this is the power of the noncentral t.
    """
    if designs < 2 or seeds < 2:
        return 0.0
    critical = dunnett_critical(designs - 1, (designs - 1) * (seeds - 1), alpha)
    half = critical * _standard_errors(designs, seeds, np.random.default_rng(0))
    sd = math.sqrt(2 / seeds)
    excludes_zero = special.ndtr((effect - half) / sd) + special.ndtr((-effect - half) / sd)
    reach = np.maximum(region - half, 0)
    inside = special.ndtr((reach - effect) / sd) - special.ndtr((-reach - effect) / sd)
    # An estimate either lies within `reach` of zero or beyond `half`; when they overlap it must.
    return float(np.where(reach >= half, 1.0, excludes_zero + inside).mean())
