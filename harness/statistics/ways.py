"""What would decide what is undecided: every way out, with its price and its chance.

A chance is of the rule in use at the level that the way leaves: whoever acts on a verdict that
was read has looked, so seeds added to these runs are another look, and so is another score of
them. Chances are drawn by what the data leave open (evidence.py), not by the estimate alone.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.statistics.blocked import Analysis
from harness.statistics.dunnett import as_dunnett
from harness.statistics.evidence import BoolArray, Evidence
from harness.statistics.looks import Looks, level_of_look, looks_with
from harness.statistics.variance import Growth

SEED_CAP = 30
"""Seeds in all beyond which none are counted."""
AIM, HOPE = 0.8, 0.5
"""Chance that a way is chosen to reach, and below which it is not recommended."""
ITEM_FACTORS = (2, 4, 10)
AVERAGED = 3
"""Measurements of which late checkpoints are averaged."""
GROWS = 0.1
"""Two-sided p of a difference's growth below which it is taken to grow: 5 % on the one side."""
ALL = "all contrasts"
NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way out of undecided."""

    cell: str
    """The contrast that it would decide; `all contrasts`: every one of the endpoint."""
    way: str
    """more seeds, more items, late checkpoints, longer training, fewer cells, or none."""
    what: str
    """What is to be done, in a few words."""
    device_hours: float
    """Its price; nan where no times are known."""
    chance: float
    """Of a decision, in [0, 1]; nan where nobody can know."""
    note: str
    """What it costs beside hours, and what the chance rests on."""
    recommended: bool = False
    """The cheapest with a chance of 80 %, else the likeliest with 50 %, else that there is none."""


@dataclass(frozen=True, kw_only=True)
class Means:
    """Means hold what a study has beside its scores: what ways cost and what they can change."""

    run_seconds: Mapping[str, float] = field(default_factory=dict)
    """Cell -> device-seconds of a run."""
    scoring_seconds: float = math.nan
    """Of scoring one run's endpoint on the items there are."""
    items: int = 0
    """Items that the endpoint is a mean of; 0: not known."""
    item_share: float = 0.0
    """Share of the residual variance that items make, in [0, 1]; 0 where not known."""
    counted: bool = False
    """Whether that share comes from counts and is an upper bound."""
    late_share: float = 0.0
    """Share that late checkpoints make."""
    growth: Mapping[str, Growth] = field(default_factory=dict)
    """Cell -> how its difference from the control changes at the end of training."""


def ways(analysis: Analysis, region: float, means: Means) -> tuple[Way, ...]:
    """Gives the ways out for every undecided contrast and, where there are several contrasts, for
    all of them; of each the recommended one first, then by price. Empty where all is decided.

    `region`: half-width of practical equivalence. A contrast without an interval has no way out,
    and one that another endpoint comes before waits for that.
    """
    evidence = Evidence.of(analysis)
    if not len(evidence.deltas) or evidence.seeds < 2 or not evidence.mse > 0:
        return ()
    cells = [contrast.design for contrast in analysis.contrasts if contrast.has_interval]
    open_places = [
        place
        for place, contrast in enumerate(c for c in analysis.contrasts if c.has_interval)
        if not (contrast.note or contrast.excludes_zero or contrast.is_equal(region))
    ]
    offers = _Offers(analysis, evidence, region, means, cells)
    goals: dict[str, tuple[int, ...]] = {cells[place]: (place,) for place in open_places}
    if open_places and len(cells) > 1:
        goals[ALL] = tuple(range(len(cells)))
    return tuple(
        way
        for cell, places in goals.items()
        for way in _sorted([*offers.of(cell, places, tuple(open_places))], cell)
    )


def _sorted(offers: list[Way], cell: str) -> list[Way]:
    """Puts the recommended way first and the rest by price, those of unknown price last."""
    likely = [way for way in offers if way.chance >= AIM and not math.isnan(way.device_hours)]
    best = min(likely, key=_price, default=None) or max(
        (way for way in offers if way.chance >= HOPE), key=lambda way: way.chance, default=None
    )
    rest = sorted((way for way in offers if way is not best), key=_price)
    if best is None:
        known = [way.chance for way in offers if not math.isnan(way.chance)]
        none = Way(
            cell=cell,
            way=NONE,
            what="this endpoint cannot see it",
            device_hours=math.nan,
            chance=max(known, default=math.nan),
            note=f"even the likeliest way has a chance below {HOPE:.0%}, up to {SEED_CAP} seeds: "
            "ask an endpoint that varies less, or a larger difference",
            recommended=True,
        )
        return [none, *rest]
    return [dataclasses.replace(best, recommended=True), *rest]


def _price(way: Way) -> tuple[bool, float, float]:
    return math.isnan(way.device_hours), way.device_hours, -way.chance


@dataclass(frozen=True)
class _Offers:
    """Makes the ways of an endpoint."""

    analysis: Analysis
    evidence: Evidence
    region: float
    means: Means
    cells: list[str]
    drawn: dict[int, BoolArray] = field(default_factory=dict)
    """More seeds -> which contrasts they decide."""

    def of(self, cell: str, places: tuple[int, ...], open_: tuple[int, ...]) -> Iterator[Way]:
        """Gives what could be done for the contrasts at these places; `open_`: those undecided."""

        def chance(decided_NC: BoolArray) -> float:
            return float(decided_NC[:, list(places)].all(1).mean())

        yield from self._more_seeds(cell, chance)
        if self.means.item_share > 0:
            yield self._more_items(cell, chance)
        kept = self.means.late_share and 1 - self.means.late_share * (1 - 1 / AVERAGED)
        if kept:
            yield self._afresh(
                cell, "late checkpoints", f"the mean of the last {AVERAGED} checkpoints", places,
                "declare it (`final`) for fresh seeds; the curve says what a mean of scores gains, "
                "a mean of weights may gain more or less", everyone=True, kept=kept,
            )  # fmt: skip
        yield from self._longer(cell, places)
        fewer = places if cell != ALL else open_
        if len(fewer) < len(self.cells):
            what = f"the control and {len(fewer)} of {len(self.cells)} cells"
            yield self._afresh(
                cell, "fewer cells", what, fewer,
                "to be declared before: a fresh study on seeds of its own; it has fewer contrasts "
                "to pay for and less to know the residual variance by",
            )  # fmt: skip

    def _more_seeds(self, cell: str, chance: Callable[[BoolArray], float]) -> Iterator[Way]:
        """Offers the fewest seeds that reach the aim: at a declared look if one does, else also at
        any number up to the cap."""
        now, declared = self.analysis.seeds_read, self.analysis.looks
        later = [n - now for n in declared if n > now] if isinstance(declared, tuple) else []
        for steps in filter(None, (later, range(1, max(SEED_CAP - now, 1) + 1))):
            chances: dict[int, float] = {}

            def chance_with(more: int, chances: dict[int, float] = chances) -> float:
                return chances.setdefault(more, chance(self._with_seeds(more)))

            more = steps[min(bisect.bisect_left(steps, AIM, key=chance_with), len(steps) - 1)]
            yield Way(
                cell=cell,
                way="more seeds",
                what=f"{more} more seed{'s' if more > 1 else ''} ({now + more} in all)",
                device_hours=more * self._hours(self.cells),
                chance=chance_with(more),
                note=self._of_looks(self._looks(now + more)),
            )
            if chance_with(more) >= AIM:
                return

    def _with_seeds(self, more: int) -> BoolArray:
        """Draws decisions once for all contrasts: they are asked for each."""
        if more not in self.drawn:
            level = self._level(self._looks(self.analysis.seeds_read + more))
            self.drawn[more] = self.evidence.decided_after(
                self.region, level=self.analysis.as_dunnett(level), more=more
            )
        return self.drawn[more]

    def _of_looks(self, looks: Looks) -> str:
        level = f"level {self._level(looks):.2g}"
        if looks == self.analysis.looks:
            return f"as declared: {level} at every look"
        numbers = ", ".join(map(str, looks)) if isinstance(looks, tuple) else str(looks)
        return f"seeds added after this report are another look: declare looks ({numbers}), {level}"

    def _looks(self, later: int) -> Looks:
        return looks_with(self.analysis.looks, self.analysis.seeds_read, later)

    def _level(self, looks: Looks) -> float:
        return level_of_look(self.analysis.family_alpha, looks, len(self.cells) + 1)

    def _more_items(self, cell: str, chance: Callable[[BoolArray], float]) -> Way:
        share = self.means.item_share
        # The same runs judged again: their two verdicts hang together in a way nobody simulated.
        looks = self.analysis.looks
        level = self.analysis.family_alpha / (1 + (looks if isinstance(looks, int) else len(looks)))

        def chance_with(factor: int) -> float:
            kept = 1 - share * (1 - 1 / factor)
            return chance(
                self.evidence.decided_after(
                    self.region, level=self.analysis.as_dunnett(level), kept=kept
                )
            )

        chances = {factor: chance_with(factor) for factor in ITEM_FACTORS}
        factor = next((f for f in ITEM_FACTORS if chances[f] >= AIM), ITEM_FACTORS[-1])
        runs = self.evidence.seeds * (len(self.cells) + 1)
        items = f", {factor * self.means.items:,} in all" if self.means.items else ""
        bound = "; the chance is at most this: the items' part comes from counts"
        return Way(
            cell=cell,
            way="more items",
            what=f"{factor} times as many items{items}",
            device_hours=(factor - 1) * runs * self.means.scoring_seconds / 3600,
            chance=chances[factor],
            note=f"the same runs scored again are another look: level {level:.2g} (Bonferroni)"
            + bound * self.means.counted,
        )

    def _longer(self, cell: str, places: tuple[int, ...]) -> Iterator[Way]:
        """Offers longer training where the difference of a single contrast has a curve."""
        change = self.means.growth.get(cell)
        if change is None:
            return
        delta = float(self.evidence.deltas[places[0]])
        grows = change.p < GROWS and change.doubling * delta > 0
        note = f"the difference changed by {change.doubling:+.3g} in the last doubling"
        note += f" of samples (p = {change.p:.2g})" if grows else " of samples: not shown to grow"
        note += "; that it goes on so is a guess" if grows else ", so nobody knows the chance"
        way = self._afresh(
            cell, "longer training", "twice the samples", places, note + "; fresh seeds",
            everyone=True, shift=change.doubling, times=2,
        )  # fmt: skip
        yield way if grows else dataclasses.replace(way, chance=math.nan)

    def _afresh(
        self,
        cell: str,
        way: str,
        what: str,
        places: tuple[int, ...],
        note: str,
        *,
        everyone: bool = False,
        kept: float = 1.0,
        shift: float = 0.0,
        times: int = 1,
    ) -> Way:
        """Offers a study on as many fresh seeds; `everyone`: of all cells, not of these alone."""
        every = tuple(range(len(self.cells)))
        chosen = every if everyone else places
        level, chains = self.analysis.family_alpha, self.analysis.chains
        if chains:  # a chain is a cell
            df = len(chosen) * (self.evidence.seeds - 1)
            level = as_dunnett(level, len(chosen), df, chains if everyone else len(chosen))
        decided_NC = self.evidence.decided_afresh(
            self.region, level=level, chosen=chosen, kept=kept, shift=shift
        )
        judged = decided_NC[:, [chosen.index(place) for place in places]]
        cells = [self.cells[place] for place in chosen]
        return Way(
            cell=cell,
            way=way,
            what=what,
            device_hours=times * self.evidence.seeds * self._hours(cells),
            chance=float(np.asarray(judged).all(1).mean()),
            note=note,
        )

    def _hours(self, cells: list[str]) -> float:
        """Gives device-hours of a run of the control and of each of these cells."""
        seconds = [self.means.run_seconds.get(c, math.nan) for c in (self.analysis.control, *cells)]
        return sum(seconds) / 3600
