"""The primary analysis compares every design with the control, seeds as blocks, by Dunnett's rule.

It is the only one that gives verdicts (verdicts.py). Simulated with 2-6 designs and 3-5 seeds it
makes 3.6-4.8 % family-wise errors of a nominal 5 %.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.statistics.additive import Fit, Scores, fit
from harness.statistics.dunnett import as_dunnett, dunnett_critical, dunnett_tail
from harness.statistics.looks import Looks, level_of_look, p_over_looks
from harness.statistics.spreads import spread_notes


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A contrast is a design minus the control, in the units of the score; nan: not known."""

    design: str
    control: str
    delta: float
    """Least-squares difference."""
    seed_sd: float
    """SD of one seed's difference, the larger of the contrast's own and the pooled one."""
    se: float
    """Standard error of delta."""
    df: int
    """Degrees of freedom of the residual variance."""
    seeds: int
    """Seeds in which both have a score."""
    critical: float
    """Critical value: the interval is delta -+ critical * se."""
    lower: float
    upper: float
    p_adjusted: float
    """Adjusted for the other contrasts and for the declared looks."""
    note: str
    """Why it gives no verdict, as it has no interval or another endpoint comes first; or empty."""
    widened: float = 1.0
    """*Equal* is judged by an interval this many times as wide, see endpoints.py."""

    @property
    def has_interval(self) -> bool:
        """Whether there is anything to give a verdict from."""
        return math.isfinite(self.se)

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.lower > 0 or self.upper < 0

    def is_equal(self, region: float) -> bool:
        """Whether the interval for *equal* lies inside [-region, region]."""
        more = (self.widened - 1) * (self.upper - self.lower) / 2
        return -region <= self.lower - more and self.upper + more <= region


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """An analysis holds every design's contrast with the control, and what they rest on."""

    control: str
    means: dict[str, float]
    """Plain mean of each design's own scores; nan for a design without any."""
    seeds: dict[str, int]
    """Usable scores of each design."""
    mse: float
    """Residual variance of the blocked model, in squared units of the score."""
    df: int
    alpha: float
    """Family-wise error rate of these intervals: a share, by looks and endpoints, of the declared
    one."""
    looks: Looks = 1
    """The looks it is declared over."""
    family_alpha: float = 0.05
    """The rate over all looks, of which `alpha` is that of one."""
    contrasts: tuple[Contrast, ...]
    """One for each design with a score, in the order given, without the control."""
    notes: tuple[str, ...]
    f: float = math.nan
    """F statistic of the designs in the blocked model: do they differ at all?"""
    f_p: float = math.nan
    """Its p-value; not adjusted, for description."""
    chains: int = 0
    """Chains of endpoints that share alpha by Bonferroni; 0: intervals are Dunnett's."""

    @property
    def residual_sd(self) -> float:
        """SD of a score around its design and seed, in the units of the score; nan: not known."""
        return math.sqrt(self.mse)

    @property
    def designs_compared(self) -> int:
        """Counts the control and the designs that have an interval: the D of the model."""
        return 1 + sum(contrast.has_interval for contrast in self.contrasts)

    @property
    def seeds_read(self) -> int:
        """Counts the seeds of the contrast that has most: the look that this analysis is, whatever
        runs other contrasts lack."""
        return max((contrast.seeds for contrast in self.contrasts), default=0)

    @property
    def dunnett_alpha(self) -> float:
        """The error rate at which Dunnett's intervals are as wide as these, for power.py."""
        return self.as_dunnett(self.alpha)

    def as_dunnett(self, level: float) -> float:
        """Gives the error rate at which Dunnett's intervals are as wide as these would be at
        another level."""
        if not self.chains:
            return level
        return as_dunnett(level, self.designs_compared - 1, self.df, self.chains)


def analyse(
    scores: Scores, control: str, *, alpha: float = 0.05, looks: Looks = 1, chains: int = 0
) -> Analysis:
    """Compares every design with the control by the seed-blocked model.

    `scores` is design -> seed -> score, with cells missing or nan where a run gave none. `looks` is
    how many times the study declared it would look and perhaps add seeds, over which alpha is split
    evenly (Bonferroni), or at which numbers of seeds (looks.py). Intervals are simultaneous over
    the contrasts: Dunnett's max|T| (correlation 0.5, which is exact when no cell is missing), or,
    of contrasts that each begin one of several `chains` of endpoints, Bonferroni's over these.

    Raises ValueError for a control that is not among the designs, and for a bad alpha or looks.
    """
    if control not in scores:
        close = difflib.get_close_matches(control, scores, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        names = ", ".join(scores) or "none"
        raise ValueError(f"the control {control!r} is not among the designs; {hint}Known: {names}")
    if not 0 < alpha < 1 or (isinstance(looks, int) and looks < 1):
        raise ValueError(f"alpha must lie in (0, 1) and looks be at least 1: {alpha=}, {looks=}")
    model = fit(scores)
    rows = dict(zip(model.designs, model.scores_DS, strict=True))
    pairs = [(name, control) for name in model.designs if name != control and control in rows]
    designs = len(model.designs)
    level = level_of_look(alpha, looks, designs)

    def critical(count: int) -> float:
        if chains:
            return float(stats.t.isf(level / 2 / chains, model.df))
        return dunnett_critical(count, model.df, level)

    def tail(t: float, count: int) -> float:
        if chains:
            chance = 2 * chains * float(stats.t.sf(abs(t), model.df))
        else:
            chance = dunnett_tail(t, count, model.df)
        return p_over_looks(min(1.0, chance), looks, designs)

    return Analysis(
        control=control,
        means={
            name: float(np.nanmean(rows[name])) if name in rows else math.nan for name in scores
        },
        seeds={name: int(np.isfinite(rows.get(name, [])).sum()) for name in scores},
        mse=model.mse,
        df=model.df,
        alpha=level,
        looks=looks,
        family_alpha=alpha,
        contrasts=simultaneous(model, pairs, critical, tail),
        notes=(
            *model.notes,
            *_notes(control in rows, alpha, looks, level),
            *spread_notes(model, control),
        ),
        f=model.f,
        f_p=model.f_p,
        chains=chains,
    )


def simultaneous(
    model: Fit,
    pairs: list[tuple[str, str]],
    critical: Callable[[int], float],
    tail: Callable[[float, int], float],
) -> tuple[Contrast, ...]:
    """Makes contrasts of (design, control) pairs, simultaneous over those that have an interval.

    `critical` gives the critical value for a number of contrasts, `tail` the adjusted p of a
    t statistic in that number.
    """
    differences = [model.difference(*pair) for pair in pairs]
    count = sum(math.isfinite(difference.se) for difference in differences)
    reach = critical(count) if count else math.nan
    contrasts = []
    for (design, control), difference in zip(pairs, differences, strict=True):
        has_interval = math.isfinite(difference.se)
        half = reach * difference.se
        contrasts.append(
            Contrast(
                design=design,
                control=control,
                delta=difference.delta,
                seed_sd=difference.seed_sd,
                se=difference.se,
                df=model.df,
                seeds=difference.seeds,
                critical=reach if has_interval else math.nan,
                lower=difference.delta - half,
                upper=difference.delta + half,
                p_adjusted=tail(difference.delta / difference.se, count)
                if has_interval
                else math.nan,
                note=difference.note,
            )
        )
    return tuple(contrasts)


def _notes(control_has_scores: bool, alpha: float, looks: Looks, level: float) -> tuple[str, ...]:
    """Says what the reader of the intervals must know of the control and of alpha."""
    notes = []
    if not control_has_scores:
        notes.append("the control has no scores: nothing can be compared with it")
    sure = f"{100 * (1 - level):.4g} % intervals"
    if isinstance(looks, tuple) and len(looks) > 1:
        numbers = ", ".join(map(str, looks))
        notes.append(f"alpha {alpha:g} over looks at {numbers} seeds: {sure}")
    elif isinstance(looks, int) and looks > 1:
        notes.append(f"alpha {alpha:g} split over {looks} declared looks: {sure}")
    return tuple(notes)
