"""Scores are modelled as Y_ds = mu + design_d + seed_s + residual_ds, fitted by least squares.

A seed is a block: what a seed does to all designs alike (data order, shared initial weights) drops
out of every comparison. Complete and incomplete tables go through the same least squares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]
Scores = Mapping[str, Mapping[int, float]]

# Differences below this share of the largest score are rounding, not variation between seeds.
ROUNDING = 1e-10


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A `Difference` is one design minus another, in the units of the score."""

    delta: float
    """Least-squares difference; nan where the two share no seed."""
    seed_sd: float
    """SD of one seed's difference: sqrt(max(Var(d_s), 2 MSE)); nan when it cannot be known."""
    se: float
    """Standard error of delta; with every cell present seed_sd / sqrt(seeds)."""
    seeds: int
    """Seeds in which both designs have a score."""
    note: str = ""
    """Why there is no standard error, in words; empty when there is one."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A `Fit` is the additive model fitted to the usable scores of a table (D designs, S seeds)."""

    designs: tuple[str, ...]
    """Designs with at least one usable score, in the order given."""
    seeds: tuple[int, ...]
    """Seeds of those designs, ascending."""
    scores_DS: FloatArray
    """The scores, nan where a cell is missing."""
    mse: float
    """Residual variance, in squared units of the score; nan without a degree of freedom."""
    df: int
    """Degrees of freedom of mse: (D - 1)(S - 1) when no cell is missing."""
    effects_D: FloatArray
    """What each design adds to the score; only differences between them mean something."""
    seed_effects_S: FloatArray
    """What each seed adds to the score: an effect of each kind makes a fitted score."""
    covariance_PP: FloatArray
    """Covariance of both, designs first, in units of the residual variance."""
    notes: tuple[str, ...]
    """What was left out of the fit, in words."""
    f: float
    """F statistic of the designs, given the seeds; nan where nothing is left to compare it with."""
    f_p: float
    """Chance of such an F where all designs are alike."""

    def difference(self, design: str, control: str) -> Difference:
        """Gives one design minus another, with the larger of its own and the pooled variance.

        Pooled variance alone rejects too often when one design is noisier than the others, the
        contrast's own alone has too few degrees of freedom; their maximum needs no branch.
        """
        d, c = self.designs.index(design), self.designs.index(control)
        paired = self.scores_DS[d] - self.scores_DS[c]
        paired = paired[np.isfinite(paired)]
        seeds, nan = len(paired), math.nan
        if seeds == 0:
            note = f"{design} and {control} share no seed"
            return Difference(delta=nan, seed_sd=nan, se=nan, seeds=0, note=note)
        delta = float(self.effects_D[d] - self.effects_D[c])
        if seeds == 1:
            note = f"{design} and {control} share one seed: no interval from fewer than two"
            return Difference(delta=delta, seed_sd=nan, se=nan, seeds=1, note=note)
        variance = max(float(np.var(paired, ddof=1)), 2 * self.mse)
        if math.sqrt(variance) <= ROUNDING * float(np.nanmax(np.abs(self.scores_DS))):
            note = "no variation between seeds: no standard error, so no interval"
            return Difference(delta=delta, seed_sd=0.0, se=nan, seeds=seeds, note=note)
        cov = self.covariance_PP
        spread = float(cov[d, d] + cov[c, c] - 2 * cov[d, c])  # 2 / seeds when nothing is missing
        se = math.sqrt(variance * spread / 2)
        return Difference(delta=delta, seed_sd=math.sqrt(variance), se=se, seeds=seeds)


def fit(scores: Scores) -> Fit:
    """Fits the additive model to design -> seed -> score; cells may be missing, nan or infinite.

    A score that is not finite counts as missing. `notes` of the fit name whatever was left out.
    """
    designs = tuple(name for name in scores if any(map(math.isfinite, scores[name].values())))
    seeds = tuple(sorted({seed for name in designs for seed in scores[name]}))
    scores_DS = np.array(
        [[scores[name].get(seed, math.nan) for seed in seeds] for name in designs], dtype=float
    ).reshape(len(designs), len(seeds))
    scores_DS[~np.isfinite(scores_DS)] = math.nan
    design_N, seed_N = np.nonzero(np.isfinite(scores_DS))
    score_N = scores_DS[design_N, seed_N]
    # Centred, so that residuals keep their digits when scores are large and close together.
    centre = float(score_N.mean()) if len(score_N) else 0.0
    score_N = score_N - centre
    columns_NP = np.zeros((len(score_N), len(designs) + len(seeds)))
    columns_NP[np.arange(len(score_N)), design_N] = 1
    columns_NP[np.arange(len(score_N)), len(designs) + seed_N] = 1
    inverse_PN = np.linalg.pinv(columns_NP)
    effects_P = inverse_PN @ score_N
    residual_N = score_N - columns_NP @ effects_P
    df = len(score_N) - (int(np.linalg.matrix_rank(columns_NP)) if len(score_N) else 0)
    rss = float(residual_N @ residual_N)
    if df and math.sqrt(rss / df) <= ROUNDING * float(np.nanmax(np.abs(scores_DS))):
        rss = 0.0
    f, f_p = _f_of_designs(scores_DS, rss, df)
    return Fit(
        designs=designs,
        seeds=seeds,
        scores_DS=scores_DS,
        mse=rss / df if df else math.nan,
        df=df,
        effects_D=effects_P[: len(designs)],
        seed_effects_S=effects_P[len(designs) :] + centre,
        covariance_PP=inverse_PN @ inverse_PN.T,
        notes=_notes(scores, designs, seeds, scores_DS),
        f=f,
        f_p=f_p,
    )


def _f_of_designs(scores_DS: FloatArray, rss: float, df: int) -> tuple[float, float]:
    """Tests the designs in the blocked model: F and p, by how much more the seeds alone leave
    unexplained than the whole model's `rss` with `df` degrees of freedom.
    """
    scores_DS = scores_DS[:, np.isfinite(scores_DS).any(axis=0)]
    count_S = np.isfinite(scores_DS).sum(axis=0)
    steps = int(count_S.sum()) - len(count_S) - df  # degrees of freedom of the designs
    if df == 0 or steps < 1 or rss <= 0:
        return math.nan, math.nan
    mean_S = np.nansum(scores_DS, axis=0) / count_S
    alone = float(np.nansum((scores_DS - mean_S) ** 2))
    f = max(0.0, alone - rss) / steps / (rss / df)
    return f, float(stats.f.sf(f, steps, df))


def _notes(
    scores: Scores, designs: tuple[str, ...], seeds: tuple[int, ...], scores_DS: FloatArray
) -> tuple[str, ...]:
    """Says which designs, seeds and cells the fit had to do without."""
    notes = [f"{name}: no scores at all" for name in scores if name not in designs]
    if len(seeds) == 1:
        notes.append("one seed in all: differences without intervals")
    missing = [
        f"{designs[d]} seed {seeds[s]}"
        for d, s in zip(*np.nonzero(np.isnan(scores_DS)), strict=True)
    ]
    if missing:
        notes.append(f"missing cells: least squares on what is there ({', '.join(missing)})")
    return tuple(notes)
