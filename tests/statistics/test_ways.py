"""The ways out of undecided: their prices, chances, levels, and which is recommended."""

import dataclasses
import math

import numpy as np
import pytest

from harness.statistics.blocked import Analysis, analyse
from harness.statistics.endpoints import analyse_all
from harness.statistics.evidence import Evidence
from harness.statistics.looks import Looks, level_of_look
from harness.statistics.variance import Growth
from harness.statistics.verdicts import verdict
from harness.statistics.ways import AIM, ALL, HOPE, NONE, SEED_CAP, Means, Way, ways

SECONDS = {"c": 3600.0, "d": 7200.0, "e": 3600.0}
MEANS = Means(
    run_seconds=SECONDS, scoring_seconds=36.0, items=100, item_share=0.6, late_share=0.3,
    growth={"d": Growth(doubling=2.0, p=0.02), "e": Growth(doubling=1.0, p=0.5)},
)  # fmt: skip


def analysed(effect: float, looks: Looks = 1, seeds: int = 3) -> Analysis:
    """Three designs: d has the effect, e clearly differs."""
    rows = np.random.default_rng(6).normal([[0], [effect], [30]], size=(3, seeds))
    scores = {name: dict(enumerate(row)) for name, row in zip("cde", rows, strict=True)}
    return analyse(scores, "c", looks=looks)


def of(analysis: Analysis, cell: str, means: Means = MEANS) -> dict[str, Way]:
    return {way.way: way for way in ways(analysis, 0.1, means) if way.cell == cell}


def test_what_is_decided_has_no_way_out() -> None:
    every = ways(analysed(1.5), 0.1, MEANS)
    assert {way.cell for way in every} == {"d", ALL}
    assert ways(analysed(40.0), 0.1, MEANS) == ()
    one = analyse({"c": {0: 1.0}, "d": {0: 2.0}}, "c")
    assert ways(one, 0.1, MEANS) == (), "without an interval nothing is known"


def test_a_contrast_that_another_endpoint_comes_before_waits() -> None:
    analysis = analysed(1.5)
    waiting = tuple(dataclasses.replace(c, note="not judged") for c in analysis.contrasts)
    assert ways(dataclasses.replace(analysis, contrasts=waiting), 0.1, MEANS) == ()


def test_more_seeds_are_judged_at_the_level_of_the_looks_they_need() -> None:
    analysis = analysed(1.5)
    way = of(analysis, "d")["more seeds"]
    more = int(way.what.split()[0])
    level = level_of_look(0.05, (3, 3 + more), 3)
    drawn_NC = Evidence.of(analysis).decided_after(0.1, level=level, more=more)
    assert way.chance == drawn_NC[:, 0].mean()
    assert way.device_hours == pytest.approx(more * 4)
    assert f"declare looks (3, {3 + more}), level {level:.2g}" in way.note
    assert way.chance >= AIM or 3 + more == SEED_CAP


def test_a_declared_look_comes_first_and_costs_no_more_alpha() -> None:
    every = [way for way in ways(analysed(1.5, (3, 5)), 0.1, MEANS) if way.way == "more seeds"]
    own = [way for way in every if way.cell == "d"]
    declared = next(way for way in own if way.what == "2 more seeds (5 in all)")
    assert declared.note.startswith("as declared")
    assert len(own) == 1 + (declared.chance < AIM)


def with_a_run_lost(looks: Looks) -> Analysis:
    """Five seeds of three designs, of which d lacks one run."""
    rows = np.random.default_rng(6).normal([[0], [1.5], [1.0]], size=(3, 5))
    scores = {name: dict(enumerate(row)) for name, row in zip("cde", rows, strict=True)}
    del scores["d"][4]
    return analyse(scores, "c", looks=looks)


def test_a_lost_run_gives_no_declared_look_back() -> None:
    analysis = with_a_run_lost((3, 5))
    assert [c.seeds for c in analysis.contrasts] == [4, 5] and analysis.seeds_read == 5
    for cell in ("d", "e", ALL):
        way = of(analysis, cell)["more seeds"]
        more = int(way.what.split()[0])
        assert f"({5 + more} in all)" in way.what
        assert way.note.startswith("seeds added after this report are another look")
    needs = verdict(analysis, "d", 0.1).needs
    assert needs == int(of(analysis, "d")["more seeds"].what.split()[0])


@pytest.mark.parametrize("looks, share", [(1, 2), (2, 3), ((3, 5), 3)])
def test_scoring_again_is_a_look_beside_the_declared_ones(looks: Looks, share: int) -> None:
    note = of(analysed(1.5, looks), "d")["more items"].note
    assert f"level {0.05 / share:.2g} " in note


def test_ways_of_an_ordered_endpoint_are_judged_as_its_verdicts() -> None:
    noise = np.array([-1.0, 0.0, 1.0])
    rows = {"c": 0 * noise, "d": 50 + noise, "e": 60 + noise}
    far = {name: dict(enumerate(map(float, row))) for name, row in rows.items()}
    near = far | {"d": dict(enumerate(map(float, noise)))}
    _, _, last = analyse_all([far, far, near], "c", order="ordered")
    (d, _), wide = last.contrasts, last.contrasts[0].widened
    half = d.upper - d.delta
    for region, undecided in ((half * 1.01, True), (half * wide * 1.01, False)):
        assert (verdict(last, "d", region).kind == "undecided") == undecided
        assert any(way.cell == "d" for way in ways(last, region, MEANS)) == undecided
        evidence = Evidence.of(last)
        assert evidence.decided_after(region, level=last.dunnett_alpha)[:, 0].any() != undecided


def test_every_way_has_its_price() -> None:
    offers = of(analysed(1.5), "d")
    assert offers["late checkpoints"].device_hours == pytest.approx(3 * 4)
    assert offers["longer training"].device_hours == pytest.approx(2 * 3 * 4)
    assert offers["fewer cells"].device_hours == pytest.approx(3 * 3), "c and d alone"
    factor = int(offers["more items"].what.split()[0])
    assert offers["more items"].device_hours == pytest.approx((factor - 1) * 9 * 36 / 3600)
    assert f"{factor * 100:,} in all" in offers["more items"].what
    for way in ways(analysed(1.5), 0.1, dataclasses.replace(MEANS, run_seconds={"c": 1.0})):
        assert math.isnan(way.device_hours) or way.way in ("more items",)


def test_the_chance_of_longer_training_is_unknown_unless_the_difference_grows() -> None:
    growing = of(analysed(1.5), "d")["longer training"]
    assert 0 < growing.chance <= 1 and "is a guess" in growing.note
    for change in (Growth(doubling=2.0, p=0.4), Growth(doubling=-2.0, p=0.01)):
        means = dataclasses.replace(MEANS, growth={"d": change})
        flat = of(analysed(1.5), "d", means)["longer training"]
        assert math.isnan(flat.chance) and "nobody knows" in flat.note
    assert "longer training" not in of(analysed(1.5), ALL)


def test_ways_that_nothing_speaks_for_are_not_offered() -> None:
    assert of(analysed(1.5), "d", Means()).keys() - {NONE} == {"more seeds", "fewer cells"}
    bound = of(analysed(1.5), "d", dataclasses.replace(MEANS, counted=True))["more items"]
    assert "at most this" in bound.note


@pytest.mark.parametrize("effect", [0.0, 0.8, 1.5, 2.5])
def test_the_recommended_way_stands_first_and_the_rest_by_price(effect: float) -> None:
    every = ways(analysed(effect), 0.1, MEANS)
    for cell in {way.cell for way in every}:
        first, *rest = [way for way in every if way.cell == cell]
        assert first.recommended and not any(way.recommended for way in rest)
        prices = [way.device_hours for way in rest if not math.isnan(way.device_hours)]
        assert prices == sorted(prices)
        likely = [way for way in (first, *rest) if way.chance >= AIM]
        if first.way == NONE:
            assert first.what == "this endpoint cannot see it"
            assert not any(way.chance >= HOPE for way in rest)
        elif likely:
            assert first.device_hours == min(way.device_hours for way in likely)
        else:
            assert first.chance == max(way.chance for way in (first, *rest) if way.chance >= HOPE)


def test_an_effect_within_the_noise_cannot_be_seen() -> None:
    first = ways(analysed(0.0), 0.001, Means())[0]
    assert (first.way, first.recommended) == (NONE, True)
    assert first.chance < HOPE
