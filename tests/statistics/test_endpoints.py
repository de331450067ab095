"""The promises over endpoints x contrasts, simulated by a rule that is written a second time, in
arrays, and held against the rule in use table by table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from harness.statistics.blocked import Analysis, analyse, level_of_look
from harness.statistics.dunnett import dunnett_critical
from harness.statistics.endpoints import Order, analyse_all
from harness.statistics.power import smallest_detectable_effect
from harness.statistics.verdicts import verdict

ALPHA, HUGE = 0.05, 50.0
NULL, HALF, ALL = "null", "half", "all"
"""What of an endpoint's contrasts is hugely different: none, the first of them, all."""


@dataclass(frozen=True)
class Draws:
    """Contrasts of many studies (N, E, M): estimates, standard errors, and df of a table."""

    delta_NEM: np.ndarray
    se_NEM: np.ndarray
    df: int


def drawn(
    truth_EM: np.ndarray, seeds: int, draws: int, rng: np.random.Generator, correlation: float
) -> Draws:
    """Studies of one control and M designs with residual SD 1, endpoints correlated or not."""
    endpoints, designs = truth_EM.shape[0], truth_EM.shape[1] + 1
    own, same = rng.normal(size=(2, draws, endpoints, designs, seeds))
    noise = math.sqrt(1 - correlation) * own + math.sqrt(correlation) * same[:, :1]
    noise[:, :, 1:] += truth_EM[:, :, None]
    residual = noise - noise.mean(axis=2, keepdims=True) - noise.mean(axis=3, keepdims=True)
    residual += noise.mean(axis=(2, 3), keepdims=True)
    df = (designs - 1) * (seeds - 1)
    mse_NE1 = (residual**2).sum(axis=(2, 3))[:, :, None] / df
    paired = noise[:, :, 1:] - noise[:, :, :1]
    variance = np.maximum(paired.var(axis=3, ddof=1), 2 * mse_NE1)
    return Draws(paired.mean(axis=3), np.sqrt(variance / seeds), df)


def half_widths(study: Draws, order: Order) -> tuple[np.ndarray, np.ndarray]:
    """Half-widths of the intervals (N, E, M), and which contrasts are judged."""
    draws, endpoints, contrasts = study.delta_NEM.shape
    if order == "ordered":
        half = float(stats.t.isf(ALPHA / 2 / contrasts, study.df)) * study.se_NEM
        differs = np.abs(study.delta_NEM) > half
        before = np.concatenate([np.ones((draws, 1, contrasts), bool), differs[:, :-1]], axis=1)
        return half, np.logical_and.accumulate(before, axis=1)
    levels = [ALPHA / max(1, left) for left in range(endpoints + 1)]
    reach = np.array([dunnett_critical(contrasts, study.df, level) for level in levels])
    waiting = np.ones((draws, endpoints), bool)
    level_NE = np.full((draws, endpoints), endpoints)
    for _ in range(endpoints):
        left_N1 = waiting.sum(axis=1, keepdims=True)
        level_NE = np.where(waiting, left_N1, level_NE)
        half = reach[level_NE][:, :, None] * study.se_NEM
        waiting &= ~(np.abs(study.delta_NEM) > half).all(axis=2)
    return half, np.ones_like(half, bool)


def errors(
    truth_EM: np.ndarray, region: float, order: Order, seeds: int, draws: int, correlation: float
) -> tuple[float, float]:
    """Shares of studies with a false better or worse anywhere, and with a false equal."""
    rng = np.random.default_rng(seeds + 10 * truth_EM.size)
    study = drawn(truth_EM, seeds, draws, rng, correlation)
    half, judged = half_widths(study, order)
    lower, upper = study.delta_NEM - half, study.delta_NEM + half
    endpoints, contrasts = truth_EM.shape
    if order == "ordered":
        one = ALPHA / 2 / contrasts
        half *= stats.t.isf(one * min(1, 2 / endpoints), study.df) / stats.t.isf(one, study.df)
    equal = judged & (np.abs(study.delta_NEM) + half <= region)
    better, worse = (judged & ~equal & side for side in (lower > 0, upper < 0))
    false_side = (better & (truth_EM <= 0)) | (worse & (truth_EM >= 0))
    false_equal = equal & (np.abs(truth_EM) >= region)
    return tuple(float(wrong.any(axis=(1, 2)).mean()) for wrong in (false_side, false_equal))


def truth(patterns: tuple[str, ...], contrasts: int) -> np.ndarray:
    """True differences (E, M)."""
    first = {NULL: 0, HALF: (contrasts + 1) // 2, ALL: contrasts}
    rows = [[HUGE] * first[p] + [0.0] * (contrasts - first[p]) for p in patterns]
    return np.array(rows)


MIXTURES = [
    (NULL, NULL), (HALF, NULL), (ALL, NULL), (HALF, HALF), (NULL, HALF), (NULL, NULL, NULL),
    (HALF, NULL, NULL), (ALL, HALF, NULL), (ALL, ALL, NULL), (NULL, ALL, HALF),
]  # fmt: skip


def kinds(analyses: tuple[Analysis, ...], region: float) -> list[list[str]]:
    return [
        [verdict(a, c.design, region, seed_cap=c.seeds).kind for c in a.contrasts] for a in analyses
    ]


def tables(scores_EDS: np.ndarray) -> list[dict[str, dict[int, float]]]:
    return [{name: dict(enumerate(row)) for name, row in zip("cdefgh", scores_DS, strict=False)}
            for scores_DS in scores_EDS.tolist()]  # fmt: skip


def both(scores_EDS: np.ndarray, order: Order, region: float) -> tuple[list[list[str]], ...]:
    """Verdicts by the rule in use, and by the one in arrays."""
    analyses = analyse_all(tables(scores_EDS), "c", order=order)
    paired = scores_EDS[:, 1:] - scores_EDS[:, :1]
    mse_E1 = np.array([[a.mse] for a in analyses])
    variance = np.maximum(paired.var(axis=2, ddof=1), 2 * mse_E1)
    study = Draws(
        paired.mean(axis=2)[None], np.sqrt(variance / paired.shape[2])[None], analyses[0].df
    )
    half, judged = half_widths(study, order)
    wide = half[0] * analyses[0].contrasts[0].widened
    delta = study.delta_NEM[0]
    names = np.where(
        ~judged[0],
        "undecided",
        np.where(
            np.abs(delta) + wide <= region,
            "equal",
            np.where(delta > half[0], "better", np.where(delta < -half[0], "worse", "undecided")),
        ),
    )
    return kinds(analyses, region), names.tolist()


@pytest.mark.parametrize("order", ["equals", "ordered"])
def test_the_rule_in_use_is_the_one_simulated(order: Order) -> None:
    rng, seen = np.random.default_rng(5), set()
    for size in (1.0, 3.0, 6.0):
        for _ in range(12):
            true = rng.choice([0.0, 1.0, -size, 3 * size], size=(3, 4, 1))
            used, again = both(rng.normal(size=(3, 4, 4)) + true, order, 3.0)
            assert used == again
            seen |= {kind for row in used for kind in row}
    assert seen == {"better", "worse", "equal", "undecided"}


def test_one_endpoint_is_the_analysis_that_stands() -> None:
    (table,) = tables(np.random.default_rng(1).normal(size=(1, 4, 3)))
    orders: tuple[Order, ...] = ("equals", "ordered")
    for order in orders:
        for looks in (1, 3):
            alone = analyse(table, "c", looks=looks)
            assert analyse_all([table], "c", looks=looks, order=order) == (alone,)


def some(*deltas: tuple[float, ...]) -> list[dict[str, dict[int, float]]]:
    """Endpoints of designs d, e with these differences from c, SDs of a seed's difference 1."""
    noise = np.array([-1.0, 0.0, 1.0])
    rows = [[0 * noise, *(delta + noise for delta in endpoint)] for endpoint in deltas]
    return tables(np.array(rows))


def test_an_endpoint_decided_throughout_leaves_its_share() -> None:
    levels = [a.alpha for a in analyse_all(some((50, 60), (0, 50), (0, 0)), "c")]
    assert levels == [0.05 / 3, 0.05 / 2, 0.05 / 2]
    assert [a.alpha for a in analyse_all(some((50, 60), (50, 60)), "c")] == [0.025, 0.025]
    once, twice = (analyse_all(some((50, 60), (0, 50)), "c", looks=k)[1] for k in (1, 2))
    assert (once.alpha, twice.alpha) == (0.05, 0.025)
    alone = analyse(some((0, 50))[0], "c")
    for ours, its in zip(once.contrasts, alone.contrasts, strict=True):  # all of alpha came to it
        assert (ours.lower, ours.upper) == (its.lower, its.upper)
    assert "alpha 0.05 is shared by 2 endpoints; here it is 0.05" in once.notes


def test_adjusted_p_and_interval_agree() -> None:
    rng = np.random.default_rng(3)
    orders: tuple[Order, ...] = ("equals", "ordered")
    for order in orders:
        for _ in range(20):
            true = rng.choice([0.0, 4.0, 20.0], size=(3, 3, 1))
            scored = tables(rng.normal(size=(3, 3, 4)) + true)
            for analysis in analyse_all(scored, "c", order=order, looks=2):
                for c in analysis.contrasts:
                    assert (c.p_adjusted < 0.05) == (c.excludes_zero and not c.note)


def test_the_next_endpoint_is_judged_where_the_one_before_differs() -> None:
    names = ("recall", "loss", "words")
    scored = some((50, 0), (0.5, 50), (50, 50))
    first, second, third = analyse_all(scored, "c", order="ordered", names=names)
    assert [c.note for c in first.contrasts] == ["", ""]
    why = "not judged: recall comes first and shows no difference"
    assert [c.note for c in second.contrasts] == ["", why]
    assert [c.note for c in third.contrasts] == [why.replace("recall", "loss"), why]
    said = verdict(second, "e", 1.0)
    assert (said.kind, said.short, said.text) == ("undecided", why, f"undecided: {why}")
    assert second.contrasts[1].lower > 0  # it is shown, and decides nothing
    df = first.df
    assert first.contrasts[0].critical == pytest.approx(stats.t.isf(0.05 / 4, df))
    assert first.contrasts[0].widened == pytest.approx(
        stats.t.isf(0.05 / 4 * 2 / 3, df) / stats.t.isf(0.05 / 4, df)
    )


def test_power_knows_how_wide_the_intervals_are() -> None:
    first, _ = analyse_all(some((50, 0), (0, 0)), "c", order="ordered")
    critical = first.contrasts[0].critical
    assert dunnett_critical(2, first.df, first.dunnett_alpha) == pytest.approx(critical)
    assert first.dunnett_alpha < first.alpha == 0.05
    (alone,) = analyse_all(some((50, 0)), "c")
    assert alone.dunnett_alpha == 0.05


def test_a_design_that_cannot_have_an_endpoint_begins_at_the_next() -> None:
    first, second = some((50, 50), (50, 50))
    del first["e"]
    _, judged = analyse_all([first, second], "c", order="ordered")
    assert [c.note for c in judged.contrasts] == ["", ""]
    first["e"] = {}  # it can, and has none
    _, judged = analyse_all([first, second], "c", order="ordered", names=("recall", "loss"))
    assert judged.contrasts[1].note.startswith("not judged: recall")


@pytest.mark.parametrize("order", ["equals", "ordered"])
@pytest.mark.parametrize(
    "table", [{"c": {0: 1.0}}, {"c": {}, "d": {}}, {"c": {0: 1.0}, "d": {0: 2}}]
)
def test_without_intervals_nothing_is_judged(
    table: dict[str, dict[int, float]], order: Order
) -> None:
    for analysis in analyse_all([table] * 3, "c", order=order):
        assert not any(contrast.has_interval for contrast in analysis.contrasts)


def test_looks_are_split_in_one_place() -> None:
    assert level_of_look(0.05, 4, 3) == 0.0125


@pytest.mark.parametrize("endpoints", [2, 3])
def test_planted_effects_are_found(endpoints: int) -> None:
    """A difference that is found in 80 % at the level all start from, on each endpoint alone."""
    effect = smallest_detectable_effect(4, 3, alpha=ALPHA / endpoints)
    true = np.zeros((endpoints, 3))
    true[:, 0] = effect
    study = drawn(true, 3, 4000, np.random.default_rng(8), 0.0)
    half, _ = half_widths(study, "equals")
    found = (study.delta_NEM > half)[:, :, 0].mean(axis=0)
    assert found == pytest.approx(0.8, abs=0.025)  # a standard error is 0.6 %


QUICK = [((HALF, NULL), 2), ((ALL, NULL), 1), ((NULL, NULL, NULL), 3)]
ORDERS: tuple[Order, ...] = ("equals", "ordered")


@pytest.mark.parametrize("order", ORDERS)
def test_false_verdicts_quickly(order: Order) -> None:
    for patterns, contrasts in QUICK:
        wrong, _ = errors(truth(patterns, contrasts), 1.0, order, 3, 2000, 1.0)
        assert 0.01 < wrong < 0.065  # a standard error is 0.5 %
    _, equal = errors(np.full((3, 2), 8.0), 8.0, order, 5, 2000, 0.0)
    assert equal < 0.065


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("patterns", MIXTURES, ids="-".join)
def test_false_better_and_worse(patterns: tuple[str, ...], order: Order) -> None:
    """At most 5 % with a Monte-Carlo error of 0.15 %."""
    for contrasts in (1, 2, 3, 5) if HALF not in patterns else (2, 3, 5):
        for seeds in (3, 5):
            for correlation in (0.0, 1.0):
                true = truth(patterns, contrasts)
                wrong, _ = errors(true, 1.0, order, seeds, 20_000, correlation)
                assert wrong < 0.0545, (contrasts, seeds, correlation)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("endpoints", [1, 2, 3, 5])
def test_false_equal_at_the_edge_of_the_region(endpoints: int, order: Order) -> None:
    for contrasts in (1, 2, 5):
        for seeds in (3, 5):
            for correlation, region in ((0.0, 4.0), (0.0, 100.0), (1.0, 8.0)):
                true = np.full((endpoints, contrasts), region)
                _, equal = errors(true, region, order, seeds, 15_000, correlation)
                assert equal < 0.0555, (contrasts, seeds, correlation, region)
