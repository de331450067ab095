"""Verdicts from intervals made by hand, and what an undecided contrast still needs."""

import math
from typing import Any

import numpy as np
import pytest

from harness.statistics.blocked import Analysis, Contrast, analyse
from harness.statistics.evidence import Evidence
from harness.statistics.looks import level_of_look
from harness.statistics.verdicts import verdict


def analysis(lower: float, upper: float, **changed: Any) -> Analysis:
    """Three designs and three seeds, of which `d` has this interval."""
    centre = (lower + upper) / 2
    facts: dict[str, Any] = dict(
        design="d", control="c", delta=centre, seed_sd=0.02, se=0.01, df=4, seeds=3,
        critical=3.2, lower=lower, upper=upper, p_adjusted=0.5, note="",
    )  # fmt: skip
    contrast = Contrast(**{**facts, **changed})
    other = Contrast(**{**facts, "design": "e"})
    return Analysis(
        control="c", means={}, seeds={}, mse=0.0002, df=4, alpha=0.05,
        contrasts=(contrast, other), notes=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    "lower, upper, kind",
    [
        (-0.01, 0.01, "equal"),
        (-0.02, 0.02, "equal"),  # the region's own bounds belong to it
        (0.005, 0.015, "equal"),
        (-0.015, -0.005, "equal"),
        (0.005, 0.025, "better"),
        (0.03, 0.05, "better"),
        (-0.05, -0.001, "worse"),
        (-0.01, 0.03, "undecided"),
        (0.0, 0.03, "undecided"),
    ],
)
def test_four_verdicts(lower: float, upper: float, kind: str) -> None:
    said = verdict(analysis(lower, upper), "d", 0.02)
    assert said.kind == kind and said.text.startswith(kind)
    assert (said.needs is None) == (kind != "undecided")
    crosses = lower <= 0 <= upper
    assert ("although 0 is outside" in said.text) == (kind == "equal" and not crosses)


def test_without_a_region_nothing_is_equal() -> None:
    assert verdict(analysis(0.001, 0.002), "d", 0.0).kind == "better"
    assert verdict(analysis(-0.001, 0.002), "d", 0.0).kind == "undecided"


def test_seeds_needed_are_the_fewest_that_reach_80_percent() -> None:
    said = verdict(analysis(-0.004, 0.056), "d", 0.005)
    assert said.needs is not None
    evidence = Evidence.of(analysis(-0.004, 0.056))
    chances = [
        evidence.decided_after(0.005, level=level_of_look(0.05, (3, 3 + more), 3), more=more)[
            :, 0
        ].mean()
        for more in range(1, said.needs + 1)
    ]
    assert chances[-1] >= 0.8 and all(chance < 0.8 for chance in chances[:-1])
    assert f"needs {said.needs} more seeds" in said.text


def test_a_stricter_alpha_needs_more() -> None:
    rows = {"c": [0.50, 0.52, 0.51], "d": [0.52, 0.53, 0.54], "e": [0.50, 0.51, 0.53]}
    scores = {name: dict(enumerate(row)) for name, row in rows.items()}
    once, four = (verdict(analyse(scores, "c", looks=looks), "d", 0.0) for looks in (1, 4))
    assert once.needs is not None and four.needs is not None
    assert four.needs > once.needs


def test_hours_count_a_run_of_every_design_compared() -> None:
    seconds = {"c": 100.0, "d": 200.0, "e": 600.0, "not compared": 1e9}
    said = verdict(analysis(-0.004, 0.056), "d", 0.005, seconds_per_run=seconds)
    assert said.needs is not None
    assert said.hours == pytest.approx(said.needs * 900 / 3600)
    assert "device-hours" in said.text
    scores = {"c": {0: 1.0, 1: 3.0, 2: 2.0}, "d": {0: 2.0, 1: 2.0, 2: 4.0}, "e": {0: 1.0}}
    said = verdict(analyse(scores, "c"), "d", 0.0, seed_cap=1000, seconds_per_run={"c": 1, "d": 2})
    assert said.needs is not None  # `e` has no interval: it is not among those compared
    assert said.hours == pytest.approx(said.needs * 3 / 3600)
    with pytest.raises(ValueError, match="no time for e"):
        verdict(analysis(-0.004, 0.056), "d", 0.005, seconds_per_run={"c": 1, "d": 1})


def test_beyond_the_cap_it_is_not_decidable() -> None:
    said = verdict(analysis(-0.03, 0.031), "d", 0.0, seconds_per_run=dict.fromkeys("cde", 1.0))
    assert (said.kind, said.needs, said.hours) == ("undecided", None, None)
    assert "not decidable at a sensible cost (more than 30 seeds in all)" in said.text
    # The cap counts all seeds, those there already among them.
    needed = verdict(analysis(-0.004, 0.056), "d", 0.0).needs
    assert needed is not None
    for cap, expected in ((3 + needed, needed), (2 + needed, None), (3, None)):
        assert verdict(analysis(-0.004, 0.056), "d", 0.0, seed_cap=cap).needs == expected


@pytest.mark.parametrize("row", [[0.5, 0.5, 0.5], [0.7, math.nan, math.nan]])
def test_no_interval_no_verdict(row: list[float]) -> None:
    scores = {"c": {s: 0.5 for s in range(3)}, "d": dict(enumerate(row))}
    said = verdict(analyse(scores, "c"), "d", 1.0)
    assert (said.kind, said.needs) == ("undecided", None)
    assert "no interval" in said.text


def test_bad_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="known: d, e"):
        verdict(analysis(0, 1), "x", 0.1)
    for region in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="region"):
            verdict(analysis(0, 1), "d", region)


def test_a_clear_table_is_decided_end_to_end() -> None:
    rng = np.random.default_rng(0)
    rows = {"c": 0.5, "up": 0.6, "same": 0.5, "down": 0.4}
    scores = {
        name: {s: mean + 0.1 * s + 0.002 * rng.normal() for s in range(5)}
        for name, mean in rows.items()
    }
    kinds = {name: verdict(analyse(scores, "c"), name, 0.01).kind for name in rows if name != "c"}
    assert kinds == {"up": "better", "same": "equal", "down": "worse"}
