"""The residual variance of an endpoint has parts: items, late checkpoints, and design x seed.

Which part is large says what would shrink it: more items to answer, a mean over late checkpoints,
or only more seeds. Descriptive: verdicts do not use it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]

ITEMS, LATE, REST = "items", "late checkpoints", "design x seed"
BOUND = "at most, from counts: what is hard for every run does not count, and is in them"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part is a share of the residual variance of an endpoint."""

    part: str
    """`items`, `late checkpoints` or `design x seed`."""
    share: float
    """In [0, 1]; shares of an endpoint sum to 1."""
    sd: float
    """Residual SD that it alone would make, in the units of the score."""
    note: str = ""
    """What the share rests on, and what it is not, in words."""


def variance_parts(
    mse: float, *, items: float = math.nan, late: float = math.nan, counted: bool = False
) -> tuple[Part, ...]:
    """Splits the residual variance `mse` (squared units of the score) into its parts.

    `items`, `late`: variance that items and late checkpoints make, in the same units; nan: not
    known, and what is not known stays in design x seed. `counted`: `items` comes from counts of
    right answers and is an upper bound. What changes from one checkpoint to the next are items
    too, so the two may overlap: where they exceed the whole, both are cut alike, and say so.
    """
    if not mse > 0:
        return ()
    sources = {
        ITEMS: (items, BOUND if counted else "from answers to single items"),
        LATE: (late, "from the last measurements of its curve"),
    }
    estimates = {
        name: 0.0 if math.isnan(value) else value / mse for name, (value, _) in sources.items()
    }
    whole = max(1.0, sum(estimates.values()))
    parts = [
        Part(
            part=name,
            share=estimates[name] / whole,
            sd=math.sqrt(estimates[name] / whole * mse),
            note=_note(value, estimates[name], whole, source),
        )
        for name, (value, source) in sources.items()
    ]
    rest = max(0.0, 1.0 - sum(part.share for part in parts))
    note = "what is left, with all that is not known"
    return (*parts, Part(part=REST, share=rest, sd=math.sqrt(rest * mse), note=note))


def _note(variance: float, share: float, whole: float, source: str) -> str:
    if math.isnan(variance):
        return "not known: nothing that was measured tells"
    return f"{source}; estimated at {share:.0%}, cut to fit" if share and whole > 1 else source


def item_variance(answers_DSN: npt.ArrayLike) -> float:
    """Estimates the variance that N items make in the residual of a mean over them.

    answers_DSN: (D, S, N) what every design's run of every seed got for every item. It is the
    mean square of design x seed x item over N: that an item is hard, for all, for a design or for
    a seed, drops out of comparisons between designs or is no matter of chance. nan with fewer than
    two designs, seeds or items.
    """
    answers = np.asarray(answers_DSN, dtype=float)
    if answers.ndim != 3 or min(answers.shape) < 2:
        return math.nan
    for axis in range(3):
        answers = answers - answers.mean(axis, keepdims=True)
    df = math.prod(size - 1 for size in answers.shape)
    return float((answers**2).sum() / df / answers.shape[2])


def counted_variance(counts: Iterable[tuple[float, int]]) -> float:
    """Gives the binomial variance p (1 - p) / n of a share, mean over runs of (successes, items).

    More than items make in a comparison on the same items: their difficulty is the same for all.
    """
    shares = [(right / items, items) for right, items in counts if items]
    return float(np.mean([p * (1 - p) / n for p, n in shares])) if shares else math.nan


def late_variance(curve_DST: npt.ArrayLike) -> float:
    """Estimates how much the residual of a score changes from one late measurement to the next.

    curve_DST: (D, S, T) the score at its last T measurements. Half the mean square of successive
    differences, less what a design's or a seed's runs do together, so that a steady trend is not
    taken for noise. nan with fewer than two of any.
    """
    curve = np.asarray(curve_DST, dtype=float)
    if curve.ndim != 3 or min(curve.shape) < 2:
        return math.nan
    steps = np.diff(curve, axis=2)
    for axis in (0, 1):
        steps = steps - steps.mean(axis, keepdims=True)
    df = (curve.shape[0] - 1) * (curve.shape[1] - 1) * steps.shape[2]
    return float((steps**2).sum() / df / 2)


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Growth says whether a difference still changes at the end of training."""

    doubling: float
    """What a doubling of the samples adds to the difference, in the units of the score."""
    p: float
    """Two-sided, of the seeds' slopes against none; nan from one seed."""


def growth(difference_ST: npt.ArrayLike, samples_T: npt.ArrayLike) -> Growth:
    """Fits every seed's difference of two designs (S, T) to the logarithm of the samples (T,).

    What a doubling adds is what it would add if the difference went on as it did: a guess.
    """
    difference = np.asarray(difference_ST, dtype=float)
    time_T = np.log2(np.asarray(samples_T, dtype=float))
    time_T = time_T - time_T.mean()
    slope_S = difference @ time_T / (time_T @ time_T)
    spread = float(slope_S.std(ddof=1)) / math.sqrt(len(slope_S)) if len(slope_S) > 1 else 0.0
    if not spread:
        return Growth(doubling=float(slope_S.mean()), p=math.nan)
    t = float(slope_S.mean()) / spread
    return Growth(doubling=float(slope_S.mean()), p=float(2 * stats.t.sf(abs(t), len(slope_S) - 1)))
