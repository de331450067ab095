"""Promised chances of a decision against what then was decided, in simulated studies."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import special

from harness.statistics import evidence as evidence_module
from harness.statistics.blocked import Analysis, analyse
from harness.statistics.dunnett import dunnett_critical
from harness.statistics.evidence import Evidence, FloatArray
from harness.statistics.looks import level_of_look


def analysed(scores_DS: FloatArray, level: float = 0.05) -> Analysis:
    rows = {str(d): dict(enumerate(map(float, row))) for d, row in enumerate(scores_DS)}
    return analyse(rows, "0", alpha=level)


def decided(analysis: Analysis, region: float) -> list[bool]:
    return [
        c.lower > 0 or c.upper < 0 or (-region <= c.lower and c.upper <= region)
        for c in analysis.contrasts
    ]


def test_without_anything_new_all_stays_as_it_is() -> None:
    rng = np.random.default_rng(2)
    for region in (0.0, 1.0, 4.0):
        analysis = analysed(rng.normal([[0], [0], [1], [4]], size=(4, 5)))
        drawn_NC = Evidence.of(analysis).decided_after(region, level=analysis.alpha)
        assert (drawn_NC == decided(analysis, region)).all()


def test_more_seeds_fewer_residuals_and_larger_effects_decide_more() -> None:
    evidence = Evidence.of(analysed(np.random.default_rng(4).normal([[0], [1], [0]], size=(3, 3))))

    def share(**ways: float) -> float:
        return float(evidence.decided_after(0.0, level=0.05, **ways)[:, 0].mean())  # type: ignore[arg-type]

    seeds = [share(more=more) for more in (1, 4, 20)]
    assert seeds == sorted(seeds) and seeds[-1] > seeds[0] + 0.2
    assert share(kept=0.2) > share(kept=0.8)
    fresh = [
        evidence.decided_afresh(0.0, level=0.05, chosen=(0,), shift=shift).mean()
        for shift in (0.0, 4.0, 50.0)
    ]
    assert fresh == sorted(fresh) and fresh[-1] > 0.99


def test_a_clear_effect_is_almost_sure_to_be_decided_and_draws_repeat() -> None:
    scores_DS = np.random.default_rng(3).normal([[0], [30]], size=(2, 6))
    evidence = Evidence.of(analysed(scores_DS))
    drawn_NC = evidence.decided_after(0.0, level=0.05, more=2)
    assert drawn_NC.mean() > 0.99
    assert (drawn_NC == evidence.decided_after(0.0, level=0.05, more=2)).all()


def test_a_contrast_that_is_noisier_than_the_others_is_taken_to_be_so() -> None:
    rng = np.random.default_rng(5)
    scores_DS = rng.normal(size=(3, 8)) * [[1], [1], [9]]
    evidence = Evidence.of(analysed(scores_DS))
    sd_ND, _ = evidence._drawn(np.random.default_rng(0))
    assert np.median(sd_ND[:, 2]) > 1.2 * np.median(sd_ND[:, 0])
    assert np.median(sd_ND[:, 0]) == np.median(sd_ND[:, 1])


# -- calibration

Case = Callable[[np.random.Generator], tuple[float, float, bool] | None]
"""One simulated study: what is promised by draws, what by the estimate taken as the truth, and
whether it was decided; None: it was decided at once."""


def by_estimate(analysis: Analysis, seeds: int, region: float, level: float) -> float:
    """The chance if the estimates of effect and spread were the truth."""
    contrast, df = analysis.contrasts[0], (len(analysis.contrasts)) * (seeds - 1)
    se = contrast.seed_sd / np.sqrt(seeds)
    centre, half = contrast.delta / se, dunnett_critical(len(analysis.contrasts), df, level)
    reach = max(region / se - half, 0)
    inside = special.ndtr(reach - centre) - special.ndtr(-reach - centre)
    return float(special.ndtr(centre - half) + special.ndtr(-centre - half) + inside)


def seeds_added(designs: int, now: int, more: int, region: float, spread: float | None) -> Case:
    """Seeds are looked at and more are added; effects uniform on [-8, 8], or normal."""
    level = level_of_look(0.05, (now, now + more), designs)

    def case(rng: np.random.Generator) -> tuple[float, float, bool] | None:
        scores_DS = rng.standard_normal((designs, now + more))
        scores_DS[1] += rng.uniform(-8, 8) if spread is None else spread * rng.standard_normal()
        first = analysed(scores_DS[:, :now])
        if decided(first, region)[0]:
            return None
        drawn = Evidence.of(first).decided_after(region, level=level, more=more)[:, 0].mean()
        plain = by_estimate(first, now + more, region, level)
        return float(drawn), plain, decided(analysed(scores_DS, level), region)[0]

    return case


def items_added(rng: np.random.Generator) -> tuple[float, float, bool] | None:
    """Items make 0.8 of the residual variance, and four times as many are asked of 12 seeds."""
    true_DS = np.sqrt(0.2) * rng.standard_normal((2, 12))
    true_DS[1] += rng.uniform(-3, 3)
    noise_KDS = np.sqrt(0.8) * rng.standard_normal((4, 2, 12))
    first = analysed(true_DS + noise_KDS[0])
    if decided(first, 0.0)[0]:
        return None
    kept = 1 - 0.8 * (1 - 1 / 4)
    drawn = Evidence.of(first).decided_after(0.0, level=0.025, kept=kept)[:, 0].mean()
    return float(drawn), 0.0, decided(analysed(true_DS + noise_KDS.mean(0), 0.025), 0.0)[0]


def made_afresh(rng: np.random.Generator) -> tuple[float, float, bool] | None:
    """The same study on 12 seeds of its own."""
    scores_KDS = rng.standard_normal((2, 2, 12))
    scores_KDS[:, 1] += rng.uniform(-3, 3)
    first = analysed(scores_KDS[0])
    if decided(first, 0.0)[0]:
        return None
    drawn = Evidence.of(first).decided_afresh(0.0, level=0.05, chosen=(0,)).mean()
    return float(drawn), 0.0, decided(analysed(scores_KDS[1]), 0.0)[0]


def simulated(case: Case, studies: int) -> FloatArray:
    """Promises and outcome (studies, 3) of undecided studies."""
    rng, outcomes = np.random.default_rng(8), list[tuple[float, float, bool]]()
    while len(outcomes) < studies:
        if (outcome := case(rng)) is not None:
            outcomes.append(outcome)
    return np.array(outcomes, dtype=float)


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many studies need few draws each."""
    monkeypatch.setattr(evidence_module, "DRAWS", 800)
    evidence_module._decided_after.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [seeds_added(2, 12, 6, 0.0, None), items_added, made_afresh],
    ids=["seeds", "items", "afresh"],
)  # fmt: skip
def test_a_promise_from_many_seeds_is_kept_as_often_as_it_says(case: Case, few_draws: None) -> None:
    """With many seeds no prior matters: this is about how a study goes on."""
    outcomes = simulated(case, 1000)
    for low, high in ((0.0, 0.3), (0.3, 0.5), (0.5, 1.0), (0.0, 1.0)):
        chosen = outcomes[(outcomes[:, 0] >= low) & (outcomes[:, 0] <= high)]
        if len(chosen) < 30:
            continue
        promised, _, kept = chosen.mean(0)
        error = 3.5 * np.sqrt(promised * (1 - promised) / len(chosen))
        print(f"[{low}, {high}] n {len(chosen)}: promised {promised:.3f}, decided {kept:.3f}")
        assert kept == pytest.approx(promised, abs=error + 0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spread, least, most", [(None, -0.02, 0.2), (2.0, -0.1, 0.15), (1.0, -0.35, 0.0)]
)
@pytest.mark.parametrize("designs, more", [(2, 4), (4, 4), (4, 12)])
def test_promises_from_three_seeds(
    designs: int, more: int, spread: float | None, least: float, most: float, few_draws: None
) -> None:
    """The drawn promise keeps its word where effects are large or spread by two residual SDs; by
    the estimate alone more is promised, and less of it kept."""
    outcomes = simulated(seeds_added(designs, 3, more, 0.5, spread), 600)
    gaps = []
    print(f"{designs} designs, 3 + {more} seeds, effects {spread or 'uniform'}")
    for column, name in enumerate(("drawn", "by the estimate")):
        high = outcomes[outcomes[:, column] >= 0.7]
        promised, kept = high[:, column].mean(), high[:, 2].mean()
        print(f"  {name}: n {len(high)}, promised {promised:.3f}, decided {kept:.3f}")
        gaps.append(kept - promised)
    error = 2.5 * np.sqrt(0.2 / (outcomes[:, 0] >= 0.7).sum())
    assert least - error < gaps[0] < most + error
    assert gaps[1] < gaps[0]
