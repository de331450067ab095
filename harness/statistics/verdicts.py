"""From an interval to words: better, worse, equal, or undecided and what it would take."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.statistics.blocked import Analysis, Contrast
from harness.statistics.evidence import Evidence
from harness.statistics.looks import level_of_look, looks_with

CHANCE = 0.8


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one contrast says."""

    kind: Literal["better", "worse", "equal", "undecided"]
    needs: int | None
    """Seeds to add for an 80 % chance of a decision; None when decided or beyond the cap."""
    hours: float | None
    """Device-hours of those seeds; None where there are none or no times were given."""
    short: str
    """A few words for a table: the kind of a decided contrast, what an undecided one takes."""
    text: str
    """The whole sentence, with the figures."""


def verdict(
    analysis: Analysis,
    design: str,
    region: float,
    *,
    seed_cap: int = 30,
    seconds_per_run: Mapping[str, float] | None = None,
    higher_is_better: bool = True,
) -> Verdict:
    """The verdict on one design against the control.

    `region` is the pre-declared half-width of practical equivalence, in the units of the score: an
    interval inside [-region, region] is *equal*, even when zero lies outside it; otherwise one
    above zero is *better*, one below *worse* (the other way round where lower scores are better,
    as losses), and anything else *undecided*. More than `seed_cap` seeds in all counts as not
    decidable at a sensible cost.

    The seeds still needed are drawn from what the data leave open (evidence.py), by the rule in use
    at the level of the looks that it then takes, this one and the last. A seed is one run of
    *every* design that the analysis compared, the control among them, because the residual variance
    comes from all; `hours` is added seeds x the sum of those designs' `seconds_per_run`.

    Raises ValueError for an unknown design, a negative region, or a design without a time.
    """
    contrast = next((c for c in analysis.contrasts if c.design == design), None)
    if contrast is None:
        compared = ", ".join(c.design for c in analysis.contrasts) or "none"
        raise ValueError(f"no contrast of {design!r} with {analysis.control!r}; known: {compared}")
    if not 0 <= region < math.inf:
        raise ValueError(f"the region of equivalence must be finite and not negative, got {region}")
    if contrast.note:
        return Verdict(
            kind="undecided",
            needs=None,
            hours=None,
            short=contrast.note,
            text=f"undecided: {contrast.note}",
        )
    if decided := _decided(contrast, region, higher_is_better):
        return decided
    return _undecided(analysis, contrast, region, seed_cap, seconds_per_run)


def _decided(contrast: Contrast, region: float, higher_is_better: bool) -> Verdict | None:
    lower, upper = contrast.lower, contrast.upper
    shown = f"{contrast.delta:+.3g} [{lower:+.3g}, {upper:+.3g}]"
    kind: Literal["better", "worse", "equal"]
    if contrast.is_equal(region):
        kind, short = "equal", f"equal within {region:g}"
        text = f"{short}: {shown}"
        if contrast.excludes_zero:
            text += ", although 0 is outside the interval: a difference too small to matter"
            short += ", although not zero"
    elif contrast.excludes_zero:
        kind = "better" if (lower > 0) == higher_is_better else "worse"
        short, text = kind, f"{kind}: {shown}"
    else:
        return None
    return Verdict(kind=kind, needs=None, hours=None, short=short, text=text)


def _undecided(
    analysis: Analysis,
    contrast: Contrast,
    region: float,
    seed_cap: int,
    seconds_per_run: Mapping[str, float] | None,
) -> Verdict:
    more = _more_seeds(analysis, contrast, region, seed_cap)
    if more is None:
        short = "not decidable at a sensible cost"
        text = f"undecided: {short} (more than {seed_cap} seeds in all)"
        return Verdict(kind="undecided", needs=None, hours=None, short=short, text=text)
    hours = None
    short = f"needs {more} more seed{'s' if more > 1 else ''}"
    if seconds_per_run is not None:
        hours = more * _seconds_per_seed(analysis, seconds_per_run) / 3600
        short += f" = {hours:.2g} device-hours"
    text = f"undecided: {short} for an {CHANCE:.0%} chance of a decision"
    return Verdict(kind="undecided", needs=more, hours=hours, short=short, text=text)


def _more_seeds(analysis: Analysis, contrast: Contrast, region: float, seed_cap: int) -> int | None:
    judged = [c.design for c in analysis.contrasts if c.has_interval]
    evidence, place = Evidence.of(analysis), judged.index(contrast.design)
    now = analysis.seeds_read

    def chance(seeds: int) -> float:
        looks = looks_with(analysis.looks, now, seeds)
        level = level_of_look(analysis.family_alpha, looks, analysis.designs_compared)
        level, more = analysis.as_dunnett(level), seeds - now
        return float(evidence.decided_after(region, level=level, more=more)[:, place].mean())

    totals = range(now + 1, seed_cap + 1)
    needed = bisect.bisect_left(totals, CHANCE, key=chance)
    return totals[needed] - now if needed < len(totals) else None


def _seconds_per_seed(analysis: Analysis, seconds_per_run: Mapping[str, float]) -> float:
    compared = [analysis.control, *(c.design for c in analysis.contrasts if c.has_interval)]
    if missing := [name for name in compared if name not in seconds_per_run]:
        raise ValueError(f"seconds_per_run names no time for {', '.join(missing)}")
    return sum(seconds_per_run[name] for name in compared)
