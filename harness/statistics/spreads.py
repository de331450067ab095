"""Says where the control varies more from seed to seed than the designs that it is compared with.

The rule of the verdicts pools variances. It holds its 5 % where a design is noisier than the rest
(4-5 %), but the control's noise is in every contrast. Simulated, 60,000 studies each: a control
twice as noisy gives 5.5 % false verdicts with 3 designs, 6.7 % with 4, 8.7 % with 6 (3 seeds; with
5 seeds 6.6 % and 8.1 %), three times as noisy 7.0, 9.1 and 11.9 %. Two designs keep 5 %. Guarding
every standard error by the control's own variance gives 4.5, 5.1 and 6.0 %, and takes four points
off a power of 80 % where spreads are equal; so the rule stays, and says where spreads differ. Of
four designs a control twice as noisy is noticed in 24 % of studies with 3 seeds, 40 % with 5, 61 %
with 9: that nothing is said is no proof. Missing runs add to it (20,000 studies, 4 designs, 5
seeds): a design twice as noisy that lacks two of them 6.3 %, such a control 9.5 %.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from harness.statistics.additive import ROUNDING, Fit

RARE = 0.05
"""Chance of a note where spreads are equal."""


def control_spread(model: Fit, control: str) -> tuple[float, float]:
    """Tests whether the control is noisier than the other designs: the ratio of their SDs, and p.

    Among complete seeds, what the control does beside the mean of the others is independent of what
    these do among themselves, so the ratio of the two variances follows F exactly where all spreads
    are equal; one-sided. nan with fewer than three designs or two complete seeds, or where the
    others do not vary.
    """
    complete_DS = model.scores_DS[:, np.isfinite(model.scores_DS).all(axis=0)]
    designs, seeds = complete_DS.shape
    if designs < 3 or seeds < 2 or control not in model.designs:
        return math.nan, math.nan
    at = model.designs.index(control)
    others_DS = np.delete(complete_DS, at, axis=0)
    mean_S = others_DS.mean(axis=0)
    beside = float(np.var(complete_DS[at] - mean_S, ddof=1))
    residual_DS = others_DS - mean_S - others_DS.mean(axis=1, keepdims=True) + mean_S.mean()
    df = (designs - 2) * (seeds - 1)
    among = float((residual_DS**2).sum()) / df
    if math.sqrt(among) <= ROUNDING * float(np.abs(complete_DS).max()):
        return math.nan, math.nan
    f = beside / (among * designs / (designs - 1))
    own = max(0.0, beside / among - 1 / (designs - 1))
    return math.sqrt(own), float(stats.f.sf(f, seeds - 1, df))


def spread_notes(model: Fit, control: str) -> tuple[str, ...]:
    """Says in words that the control is noisier, where that is shown."""
    ratio, p = control_spread(model, control)
    if not p < RARE:
        return ()
    return (
        f"spreads differ: from seed to seed the control varies about {ratio:.1f} times as much as "
        f"the others (F test, p = {p:.2g}); with a control twice as noisy 5.5 to 9 % of studies of "
        "3 to 6 designs have a false verdict, not 5 %",
    )
