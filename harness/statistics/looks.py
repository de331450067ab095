"""A verdict that is looked at while seeds are added pays for every look.

Whoever may stop at several numbers of seeds has several chances of a false verdict. With equal
boundaries (Pocock, "Group sequential methods in the design and analysis of clinical trials",
Biometrika 1977) every look has the same level, so chosen that all together err as often as
declared: 3 and 5 seeds .028 of .05, and 3, 5, 7, 9 seeds .017. It is simulated for the seed-blocked
model and Dunnett's test by its pooled variance. The rule in use takes the contrast's own variance
where that is larger, so it errs less; what it keeps back there it needs where spreads differ, and
looks do not spend it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from harness.statistics.additive import Scores
from harness.statistics.dunnett import dunnett_tail

FloatArray = npt.NDArray[np.float64]
Looks = int | tuple[int, ...]
"""How often a verdict is looked at, or at which numbers of seeds, ascending."""

STUDIES = 100_000
MOST_DESIGNS = 6
"""With more of them the level rises by up to 3 %; it is left where it is, on the safe side."""
RARE = 100
"""Simulated studies below which their number says little."""


def level_of_look(alpha: float, looks: Looks, designs: int) -> float:
    """Gives the family-wise level of every look with which all looks together err with `alpha`.

    Of a mere number of looks alpha is split evenly (Bonferroni). `designs` counts the control. One
    look has alpha itself. Good to about 1.5 %: 100,000 simulated studies.

    Raises ValueError for looks that are not ascending numbers of at least two seeds.
    """
    if isinstance(looks, int):
        return alpha / looks
    _check(looks)
    if len(looks) == 1 or designs < 2:
        return alpha
    smallest_N = np.sort(_null_p(looks, designs).min(0))
    if alpha * STUDIES <= RARE:  # as p_over_looks: what it calls smaller than alpha is rejected
        return min(alpha / len(looks), float(smallest_N[RARE - 1]))
    return float(np.quantile(smallest_N, alpha, method="lower"))


def p_over_looks(p: float, looks: Looks, designs: int) -> float:
    """Gives the chance, without any effect, that one of the looks has a p as small as this one."""
    if isinstance(looks, int):
        return min(1.0, looks * p)
    if len(looks) == 1 or designs < 2:
        return p
    hits = int((_null_p(looks, designs).min(0) <= p).sum())
    # Where too few of the simulated studies go so far: Bonferroni, which is close there, but never
    # above the share of those that go farther, so that a smaller p stays the smaller.
    chance = hits / STUDIES if hits >= RARE else min(len(looks) * p, RARE / STUDIES)
    return min(1.0, max(p, chance))


def errors_of_reads(
    alpha: float, numbers: tuple[int, ...], designs: int, declared: Looks = 1
) -> float:
    """Gives how often one of several reads errs when they are not as `declared`: each was judged at
    the level of the declared looks and the reads up to it, so of one look the first had all of
    alpha.

    `numbers`: seeds at which was read, ascending.
    """
    if len(numbers) == 1 or designs < 2:
        return alpha
    looks = [looks_taken(declared, numbers[:i], now).looks for i, now in enumerate(numbers)]
    levels = [level_of_look(alpha, own, designs) for own in looks]
    p_LN = _null_p(numbers, designs)
    return float((p_LN <= np.array(levels)[:, None]).any(0).mean())


def _check(looks: tuple[int, ...]) -> None:
    if not looks or min(looks) < 2 or list(looks) != sorted(set(looks)):
        raise ValueError(f"looks: name ascending numbers of at least two seeds, got {list(looks)}")


@lru_cache(maxsize=64)
def _null_p(looks: tuple[int, ...], designs: int) -> FloatArray:
    """Draws Dunnett's adjusted p (looks, studies) at every look of studies without any effect.

    A study is simulated by its designs' means and its residual sum of squares, which seeds that
    are added change by what they say themselves and by how far their means lie from those before.
    """
    designs = min(designs, MOST_DESIGNS)
    rng = np.random.default_rng(0)
    mean_ND, squares_N, before, p_LN = np.zeros((STUDIES, designs)), np.zeros(STUDIES), 0, []
    for seeds in looks:
        more = seeds - before
        new_ND = rng.standard_normal((STUDIES, designs)) / np.sqrt(more)
        apart_ND = new_ND - mean_ND
        apart_N = designs * apart_ND.var(1)  # less what the seeds do to all designs alike
        if more > 1:
            squares_N = squares_N + rng.chisquare((designs - 1) * (more - 1), STUDIES)
        squares_N = squares_N + apart_N * before * more / seeds
        mean_ND = mean_ND + apart_ND * more / seeds
        df = (designs - 1) * (seeds - 1)
        largest_N = np.abs(mean_ND[:, 1:] - mean_ND[:, :1]).max(1)
        t_N = largest_N / np.sqrt(2 * squares_N / df / seeds)
        p_LN.append(_tails(t_N, designs - 1, df))
        before = seeds
    return np.array(p_LN)


def _tails(statistic_N: FloatArray, contrasts: int, df: int) -> FloatArray:
    """Gives Dunnett's adjusted p of many statistics, from a grid, to 0.2 % where it matters."""
    grid = np.concatenate([np.linspace(0, 6, 49), np.geomspace(6.5, 1e3, 20)])
    logs = np.log([max(dunnett_tail(t, contrasts, df), 1e-300) for t in grid])
    return np.exp(np.interp(np.arcsinh(statistic_N), np.arcsinh(grid), logs))


@dataclass(frozen=True, kw_only=True)
class LooksTaken:
    """LooksTaken says which looks an analysis pays for, and what its reader must know of them."""

    looks: Looks
    """To be given to `analyse`."""
    undeclared: tuple[int, ...] = ()
    """Numbers of seeds at which was read, this analysis the last of them, where it is not as
    declared; empty: it is."""
    declared: Looks = 1

    def note(self, alpha: float, level: float, designs: int) -> str:
        """Says what was read and that verdicts now stand at `level`; empty where all is as
        declared. `alpha`: of all looks; `designs` counts the control."""
        if not self.undeclared:
            return ""
        *before, now = self.undeclared
        read = f"read at {_listed(before)} seeds, now {now}" if before else f"read at {now} seeds"
        text = f"{read}: not a declared look, so verdicts stand at level {level:.2g}"
        errors = errors_of_reads(alpha, self.undeclared, designs, self.declared)
        if errors > alpha:
            text += (
                f"; all reads together err in up to {errors:.1%} of such studies, not {alpha:.1%}"
            )
        return text


def looks_taken(declared: Looks, read_at: Iterable[int], seeds: int) -> LooksTaken:
    """Says which looks an analysis of `seeds` seeds pays for: the declared ones, and every other
    number of seeds at which its verdicts were read, this one among them.

    `read_at`: numbers of seeds at which a report was read before, in any order; the same number
    again costs nothing. Fewer than two seeds give no verdict, so they are no look.
    """
    numbers = tuple(sorted({number for number in (*read_at, seeds) if number >= 2}))
    if isinstance(declared, int):
        if len(numbers) <= declared:
            return LooksTaken(looks=declared)
        return LooksTaken(looks=numbers, undeclared=numbers, declared=declared)
    if set(numbers) <= set(declared):
        return LooksTaken(looks=declared)
    looks = tuple(sorted({*numbers, *declared}))
    return LooksTaken(looks=looks, undeclared=numbers, declared=declared)


def looks_with(looks: Looks, now: int, later: int) -> Looks:
    """Gives the looks that an analysis of `now` seeds pays for once it is made again at `later`."""
    if isinstance(looks, int):
        return looks if looks > 1 or now < 2 else tuple(sorted({now, later}))
    return tuple(sorted({*looks, later}))


def seeds_compared(scores: Scores, control: str) -> int:
    """Counts the seeds of the contrast that has most: how many a read is of."""
    own = scores.get(control, {}).keys()
    return max((len(own & scores[name].keys()) for name in scores if name != control), default=0)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
