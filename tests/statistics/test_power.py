"""Detectable effects against the published pooled ones, chances against noncentral t and tables."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.statistics import power
from harness.statistics.blocked import analyse
from harness.statistics.dunnett import dunnett_critical
from harness.statistics.power import decision_chance, smallest_detectable_effect
from harness.statistics.verdicts import verdict

# Dunnett's critical value, 80 % power, pooled variance.
POOLED = {(2, 3): 4.6, (4, 3): 3.35, (6, 3): 3.20, (6, 5): 2.28}


@pytest.mark.parametrize("designs, seeds", POOLED)
def test_pooled_effects_are_the_known_ones(designs: int, seeds: int) -> None:
    ours = smallest_detectable_effect(designs, seeds, rule="pooled")
    assert ours == pytest.approx(POOLED[designs, seeds], abs=0.03)
    found = noncentral(ours, designs, seeds)
    assert found == pytest.approx(0.8, abs=0.005)


def noncentral(effect: float, designs: int, seeds: int) -> float:
    df = (designs - 1) * (seeds - 1)
    critical = dunnett_critical(designs - 1, df, 0.05)
    centre = effect / math.sqrt(2 / seeds)
    return float(stats.nct.sf(critical, df, centre) + stats.nct.cdf(-critical, df, centre))


def test_the_rule_in_use_needs_more_unless_there_is_one_contrast() -> None:
    assert smallest_detectable_effect(2, 3) == smallest_detectable_effect(2, 3, rule="pooled")
    for designs, seeds in ((4, 3), (6, 5)):
        pooled = smallest_detectable_effect(designs, seeds, rule="pooled")
        assert 1.05 < smallest_detectable_effect(designs, seeds) / pooled < 1.2


def test_more_seeds_and_looser_demands_detect_less() -> None:
    effects = [smallest_detectable_effect(4, seeds) for seeds in (2, 3, 5, 9)]
    assert effects == sorted(effects, reverse=True)
    assert smallest_detectable_effect(4, 3, alpha=0.2) < smallest_detectable_effect(4, 3)
    assert smallest_detectable_effect(4, 3, power=0.5) < smallest_detectable_effect(4, 3)


def test_nothing_is_detected_from_one_seed_or_one_design() -> None:
    assert smallest_detectable_effect(4, 1) == smallest_detectable_effect(1, 5) == math.inf
    assert decision_chance(9, 1, designs=4, seeds=1, alpha=0.05) == 0


def test_it_is_simulated_once_and_repeats_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, simulate = [], power._standard_errors

    def counted(*arguments: Any) -> power.FloatArray:
        calls.append(arguments[:3])
        return simulate(*arguments)

    monkeypatch.setattr(power, "_standard_errors", counted)
    smallest_detectable_effect.cache_clear()
    first = smallest_detectable_effect(6, 5)
    assert smallest_detectable_effect(6, 5) == first
    assert calls == [(6, 5, "larger")], "one simulation, and none for the same question again"
    smallest_detectable_effect.cache_clear()
    assert smallest_detectable_effect(6, 5) == first
    assert smallest_detectable_effect(6, 5, rng_seed=1) == pytest.approx(first, rel=0.01)


@pytest.mark.parametrize("effect", [0.0, 1.5, 3.0])
@pytest.mark.parametrize("designs, seeds", [(2, 3), (4, 6)])
def test_pooled_power_is_the_noncentral_t(effect: float, designs: int, seeds: int) -> None:
    ours = decision_chance(effect, 0.0, designs=designs, seeds=seeds, alpha=0.05, rule="pooled")
    assert ours == pytest.approx(noncentral(effect, designs, seeds), abs=0.004)


@pytest.mark.parametrize("effect, region", [(1.5, 1.0), (0.0, 1.5), (0.6, 3.0)])
def test_the_chance_is_the_share_of_decided_tables(effect: float, region: float) -> None:
    rng, decided = np.random.default_rng(7), 0
    for _ in range(150):
        scores_DS = rng.normal(size=(3, 8))
        scores_DS[1] += effect
        analysis = analyse(
            {name: dict(enumerate(row)) for name, row in zip("cde", scores_DS, strict=True)}, "c"
        )
        decided += verdict(analysis, "d", region, seed_cap=8).kind != "undecided"
    expected = decision_chance(effect, region, designs=3, seeds=8, alpha=0.05)
    assert expected > 0.1
    assert decided / 150 == pytest.approx(expected, abs=0.12)  # three standard errors
