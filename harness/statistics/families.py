"""Adjustments for families of comparisons, and what many models or trials say together.

None of these gives a verdict; they stand ready for tables and figures that ask several questions.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from harness.statistics.additive import Scores, fit
from harness.statistics.blocked import Contrast, simultaneous
from harness.statistics.dunnett import tukey_critical, tukey_tail

FloatArray = npt.NDArray[np.float64]


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Adjusts p-values by Holm's steps (1979), for one contrast across tasks; nan stays out of the
    family.

    Raises ValueError for a value outside [0, 1].
    """
    p = np.asarray(p_values, dtype=float)
    if np.any((p < 0) | (p > 1)):
        raise ValueError(f"p-values must lie in [0, 1], got {p}")
    adjusted = np.full_like(p, math.nan)
    order = [i for i in np.argsort(p) if np.isfinite(p[i])]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def all_pairs(scores: Scores, *, alpha: float = 0.05) -> tuple[Contrast, ...]:
    """Compares all pairs of designs by the seed-blocked model, simultaneous over them (Tukey).

    In each contrast `control` is the later design of the pair. Standard errors are the primary
    analysis' (additive.py), p-values and intervals the studentized range's. Descriptive: verdicts
    come from the contrasts with the control.
    """
    model = fit(scores)
    compared = len(model.designs)
    return simultaneous(
        model,
        list(itertools.combinations(model.designs, 2)),
        lambda _: tukey_critical(compared, model.df, alpha),
        lambda t, _: tukey_tail(t, compared, model.df),
    )


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """McNemar's test counts the items on which exactly one of two models is right."""

    only_first: int
    only_second: int
    p: float
    """Exact and two-sided."""


def mcnemar(first_correct: npt.ArrayLike, second_correct: npt.ArrayLike) -> McNemar:
    """Tests two trained models on the same items (N,), by McNemar's exact test (1947).

    It speaks of these two models, not of their designs: another seed is another model. p is 1 when
    they never differ. Raises ValueError when the shapes differ.
    """
    first, second = np.asarray(first_correct, dtype=bool), np.asarray(second_correct, dtype=bool)
    if first.shape != second.shape:
        raise ValueError(f"the models were scored on other items: {first.shape}, {second.shape}")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differ = only_first + only_second
    p = float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0
    return McNemar(only_first=only_first, only_second=only_second, p=p)


def expected_best(values: npt.ArrayLike) -> FloatArray:
    """Estimates the maximum of k values drawn without replacement, for k = 1 ... n (n,).

    The unbiased estimator sum_i C(i-1, k-1) / C(n, k) v_(i) of what k tuning trials reach (Tang et
    al., "Showing your work doesn't always work", ACL 2020). Give losses with their sign changed.
    Raises ValueError without values or with one that is not finite.
    """
    ordered = np.sort(np.asarray(values, dtype=float).ravel())
    n = len(ordered)
    if n == 0 or not np.isfinite(ordered).all():
        raise ValueError("the best of k needs at least one value, and finite ones only")
    weights_KN = np.array(
        [
            [math.comb(i - 1, k - 1) / math.comb(n, k) for i in range(1, n + 1)]
            for k in range(1, n + 1)
        ]
    )
    return weights_KN @ ordered
