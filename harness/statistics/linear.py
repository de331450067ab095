"""Questions about several designs at once are weighted sums of designs in the seed-blocked model.

The error of a question is the larger of the pooled residual variance and its own variance between
seeds, as in the primary analysis (additive.py), so that cells of unequal spread mislead less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, stats

from harness.statistics.additive import ROUNDING, Fit, Scores, fit

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FTest:
    """An F test asks whether several weighted sums of designs are all zero."""

    f: float
    """F statistic; nan where there is no error to compare with."""
    df: int
    """Sums tested at once that are not implied by the others."""
    df_error: int
    p: float


@dataclass(frozen=True, kw_only=True)
class Combination:
    """A combination is a weighted sum of designs, in the units of the score."""

    estimate: float
    se: float
    """Without what seeds do to all designs alike; nan where it cannot be known."""
    df: int

    @property
    def p(self) -> float:
        """Chance of an estimate so far from zero where the truth is zero: two-sided, unadjusted."""
        return float(2 * stats.t.sf(abs(self.estimate / self.se), self.df))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Returns Student's bounds at 1 - alpha, not adjusted for other intervals."""
        half = float(stats.t.isf(alpha / 2, self.df)) * self.se if self.df else math.nan
        return self.estimate - half, self.estimate + half


def is_connected(model: Fit) -> bool:
    """Says whether shared seeds lead from every design to every other, so that all compare."""
    scores, sizes = np.isfinite(model.scores_DS).sum(), sum(model.scores_DS.shape)
    return bool(model.designs) and model.df == scores - sizes + 1


def adjusted_means(scores: Scores) -> dict[str, float]:
    """Gives design -> its mean score, of designs with any.

    Where runs are missing it is that of all seeds by least squares: a design gains nothing by
    lacking the seeds that are hard for all. Plain means where designs do not share seeds.
    """
    model = fit(scores)
    if np.isnan(model.scores_DS).any() and is_connected(model):
        means_D = model.effects_D + model.seed_effects_S.mean()
    else:
        means_D = np.array([row[np.isfinite(row)].mean() for row in model.scores_DS])
    return dict(zip(model.designs, map(float, means_D), strict=True))


def seed_weights(model: Fit, weights_DK: FloatArray) -> FloatArray:
    """Returns weights (D + S, K) of designs and seeds: a level is one averaged over all seeds."""
    seeds = len(model.seeds)
    return np.vstack([weights_DK, np.tile(weights_DK.sum(axis=0) / seeds, (seeds, 1))])


def combination(model: Fit, weights_D: npt.ArrayLike) -> Combination:
    """Estimates a weighted sum of designs: a contrast if weights sum to 0, a level if to 1.

    Raises ValueError where the designs do not share seeds.
    """
    weights_D = np.asarray(weights_D, dtype=float)
    _check(model)
    weights_P = seed_weights(model, weights_D[:, None])[:, 0]
    estimate = float(weights_P @ np.concatenate([model.effects_D, model.seed_effects_S]))
    among_D = weights_D - weights_D.mean()
    size = float(weights_D @ weights_D)
    pooled = model.mse * float(among_D @ among_D)
    own = _own_sum(model, among_D[None])
    among = max(pooled, own) if math.isfinite(own) else pooled
    variance = among + model.mse * (size - float(among_D @ among_D))
    spread = float(weights_P @ model.covariance_PP @ weights_P) / size
    se = math.sqrt(variance * spread)
    certain = se <= ROUNDING * float(np.nanmax(np.abs(model.scores_DS)))
    return Combination(estimate=estimate, se=math.nan if certain else se, df=model.df)


def f_test(model: Fit, contrasts_KD: npt.ArrayLike) -> FTest:
    """Tests that all contrasts, rows of weights (K, D) that sum to zero, are zero at once.

    The error is the larger of the residual variance and that of the contrasts between seeds: the
    term's own error of a repeated-measures analysis. One contrast gives the square of its t.
    Simulated, 3-13 designs and 3-5 seeds: 3-5.5 % false positives of a nominal 5 %; where one
    design is twice as noisy, 3-6.7 % of a single contrast and 5-8 % of all designs at once.

    Raises ValueError where the designs do not share seeds.
    """
    _check(model)
    basis_KD = linalg.orth(np.asarray(contrasts_KD, dtype=float).T, rcond=1e-9).T
    count, designs = basis_KD.shape
    estimate_K = basis_KD @ model.effects_D
    covariance_KK = basis_KD @ model.covariance_PP[:designs, :designs] @ basis_KD.T
    own = _own_sum(model, basis_KD) / count
    error = max(model.mse, own) if math.isfinite(own) else model.mse
    if not math.sqrt(error) > ROUNDING * float(np.nanmax(np.abs(model.scores_DS))):
        return FTest(f=math.nan, df=count, df_error=model.df, p=math.nan)
    f = float(estimate_K @ np.linalg.solve(covariance_KK, estimate_K)) / count / error
    p = float(stats.f.sf(f, count, model.df))
    return FTest(f=f, df=count, df_error=model.df, p=p)


def _own_sum(model: Fit, weights_KD: FloatArray) -> float:
    """Sums the variances between seeds of weighted sums, over seeds in which none of their designs
    is missing; nan with fewer than two."""
    used_D = np.abs(weights_KD).max(axis=0) > 1e-12
    values_KS = weights_KD[:, used_D] @ model.scores_DS[used_D]
    values_KS = values_KS[:, np.isfinite(values_KS).all(axis=0)]
    return float(values_KS.var(axis=1, ddof=1).sum()) if values_KS.shape[1] > 1 else math.nan


def _check(model: Fit) -> None:
    if not is_connected(model):
        raise ValueError("not all of these designs share seeds: they cannot be compared together")
    if model.df < 1:
        raise ValueError("no degree of freedom is left: two designs and two seeds are the least")
