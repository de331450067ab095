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


def noncentral(effect: float, designs: int, seeds: int) -> float:
    df = (designs - 1) * (seeds - 1)
    critical = dunnett_critical(designs - 1, df, 0.05)
    centre = effect / math.sqrt(2 / seeds)
    return float(stats.nct.sf(critical, df, centre) + stats.nct.cdf(-critical, df, centre))


@pytest.mark.parametrize("designs, seeds", POOLED)
def test_the_known_pooled_effects_are_a_bit_smaller(designs: int, seeds: int) -> None:
    pooled = POOLED[designs, seeds]
    assert noncentral(pooled, designs, seeds) == pytest.approx(0.8, abs=0.015)
    ratio = smallest_detectable_effect(designs, seeds) / pooled
    if designs == 2:  # with one contrast its own variance is the pooled one
        assert ratio == pytest.approx(1, abs=0.01)
    else:
        assert 1.05 < ratio < 1.2


@pytest.mark.parametrize("designs, seeds", [(2, 3), (4, 3), (6, 5)])
def test_the_effect_is_found_in_four_of_five_tables(designs: int, seeds: int) -> None:
    effect, rng = smallest_detectable_effect(designs, seeds), np.random.default_rng(3)
    scores_NDS = rng.standard_normal((20_000, designs, seeds))
    scores_NDS[:, 1] += effect
    paired_NS = scores_NDS[:, 1] - scores_NDS[:, 0]
    residual_NDS = (
        scores_NDS
        - scores_NDS.mean(1, keepdims=True)
        - scores_NDS.mean(2, keepdims=True)
        + scores_NDS.mean((1, 2), keepdims=True)
    )
    df = (designs - 1) * (seeds - 1)
    mse_N = (residual_NDS**2).sum((1, 2)) / df
    se_N = np.sqrt(np.maximum(paired_NS.var(1, ddof=1), 2 * mse_N) / seeds)
    lower_N = paired_NS.mean(1) - dunnett_critical(designs - 1, df, 0.05) * se_N
    assert (lower_N > 0).mean() == pytest.approx(0.8, abs=0.012)  # four standard errors


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
        calls.append(arguments[:2])
        return simulate(*arguments)

    monkeypatch.setattr(power, "_standard_errors", counted)
    smallest_detectable_effect.cache_clear()
    first = smallest_detectable_effect(6, 5)
    assert smallest_detectable_effect(6, 5) == first
    assert calls == [(6, 5)], "one simulation, and none for the same question again"
    smallest_detectable_effect.cache_clear()
    assert smallest_detectable_effect(6, 5) == first


@pytest.mark.parametrize("effect", [0.0, 1.5, 3.0])
@pytest.mark.parametrize("seeds", [3, 6])
def test_the_chance_of_one_contrast_is_the_noncentral_t(effect: float, seeds: int) -> None:
    ours = decision_chance(effect, 0.0, designs=2, seeds=seeds, alpha=0.05)
    assert ours == pytest.approx(noncentral(effect, 2, seeds), abs=0.004)


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
