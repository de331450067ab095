"""Several endpoints of a study share one error rate: equals by Holm's steps, or in a fixed order.

A false *better* or *worse* anywhere, over endpoints x contrasts, has at most the chance alpha, and
so has a false *equal*.

Equals: Holm's steps (1979) over Dunnett families. All endpoints start at alpha over their number;
one on which every contrast excludes zero has no true null left to be rejected in error, so it
leaves, and the others are judged at alpha over the number left. A contrast that is equal to the
control passes nothing on: there zero may be the truth.

Ordered: a chain of tests for each contrast (Maurer, Hothorn and Lehmacher 1995). The next endpoint
is judged where the contrast excludes zero on this one, each at full alpha. Chains stop at different
endpoints, so that no Dunnett family is whole, and the contrasts share alpha by Bonferroni. *Equal*
says that a difference is smaller than the region, in error on one side only, but on any endpoint
that is reached: of E endpoints it takes an interval at 2 alpha / E, where that is below alpha.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from scipy import stats

from harness.endpoint import Order
from harness.statistics.blocked import Analysis, Contrast, Scores, analyse
from harness.statistics.looks import Looks


def analyse_all(
    tables: Sequence[Scores],
    control: str,
    *,
    alpha: float = 0.05,
    looks: Looks = 1,
    order: Order = "equals",
    names: Sequence[str] = (),
) -> tuple[Analysis, ...]:
    """Compares every design with the control on each endpoint, at one error rate over all.

    `tables`: one for each endpoint, the most important first, as `analyse` takes them; a design
    that cannot have an endpoint is left out of its table. `names`: what notes call the endpoints.
    One endpoint is analysed as `analyse` does. Raises ValueError as `analyse` does.
    """
    if len(tables) == 1:
        return (analyse(tables[0], control, alpha=alpha, looks=looks),)
    if order == "equals":
        return _equals(tables, control, alpha, looks)
    return _ordered(tables, control, alpha, looks, names or [str(i) for i in range(len(tables))])


def _equals(
    tables: Sequence[Scores], control: str, alpha: float, looks: Looks
) -> tuple[Analysis, ...]:
    waiting, done = list(range(len(tables))), dict[int, Analysis]()
    before = 0.0  # the largest p that had to be small for the others to get here
    while waiting:
        left = len(waiting)
        stage = {
            e: _times(analyse(tables[e], control, alpha=alpha / left, looks=looks), left, before)
            for e in waiting
        }
        leaving = [e for e in waiting if _all_differ(stage[e])]
        note = f"alpha {alpha:g} is shared by {len(tables)} endpoints; here it is {alpha / left:g}"
        for e in leaving or waiting:
            done[e] = replace(stage[e], notes=(*stage[e].notes, note))
        before = max([before, *(c.p_adjusted for e in leaving for c in stage[e].contrasts)])
        waiting = [e for e in waiting if e not in leaving] if leaving else []
    return tuple(done[e] for e in range(len(tables)))


def _times(analysis: Analysis, families: int, before: float) -> Analysis:
    """Adjusts p-values for the families that share alpha, and for what had to be decided first."""
    contrasts = tuple(
        replace(c, p_adjusted=min(1.0, max(before, families * c.p_adjusted)))
        if c.has_interval
        else c
        for c in analysis.contrasts
    )
    return replace(analysis, contrasts=contrasts)


def _all_differ(analysis: Analysis) -> bool:
    judged = [contrast for contrast in analysis.contrasts if contrast.has_interval]
    return bool(judged) and all(contrast.excludes_zero for contrast in judged)


def _ordered(
    tables: Sequence[Scores], control: str, alpha: float, looks: Looks, names: Sequence[str]
) -> tuple[Analysis, ...]:
    chains = max(1, len({design for scores in tables for design in scores} - {control}))
    stopped: dict[str, str] = {}  # design -> why it is judged no further
    largest: dict[str, float] = {}
    analyses: list[Analysis] = []
    for name, scores in zip(names, tables, strict=True):
        analysis = analyse(scores, control, alpha=alpha, looks=looks, chains=chains)
        wide = _widened(analysis, chains, len(tables))
        contrasts = tuple(
            replace(_linked(c, stopped, largest), widened=wide) for c in analysis.contrasts
        )
        note = ("a design is judged here where it differs on every endpoint before",)
        notes = analysis.notes + note * bool(analyses)
        analyses.append(replace(analysis, contrasts=contrasts, notes=notes))
        reached = {contrast.design: contrast for contrast in contrasts}
        for design in scores:
            if design not in stopped and design != control:
                _go_on(design, reached.get(design), name, stopped, largest)
    return tuple(analyses)


def _widened(analysis: Analysis, chains: int, endpoints: int) -> float:
    """Returns how much wider the intervals for *equal* are than those that exclude zero."""
    one = analysis.alpha / 2 / chains
    all_of_them = one * min(1.0, 2 / endpoints)
    return float(stats.t.isf(all_of_them, analysis.df) / stats.t.isf(one, analysis.df))


def _linked(
    contrast: Contrast, stopped: Mapping[str, str], largest: Mapping[str, float]
) -> Contrast:
    """Returns a contrast with the p-value of its whole chain, and why it is not reached."""
    if not contrast.has_interval:
        return contrast
    p = max(contrast.p_adjusted, largest.get(contrast.design, 0.0))
    return replace(contrast, p_adjusted=p, note=stopped.get(contrast.design, ""))


def _go_on(
    design: str,
    contrast: Contrast | None,
    name: str,
    stopped: dict[str, str],
    largest: dict[str, float],
) -> None:
    """Notes what the next endpoint must know of this one."""
    judged = contrast is not None and contrast.has_interval
    largest[design] = contrast.p_adjusted if contrast and judged else 1.0
    if not (contrast and judged and contrast.excludes_zero):
        stopped[design] = f"not judged: {name} comes first and shows no difference"
