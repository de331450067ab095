"""Crossings, and effects against statsmodels' analyses of variance."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.anova import AnovaRM, anova_lm

from harness.statistics import linear
from harness.statistics.factors import NotCrossed, crossing, effects
from tests.statistics.tables import noise, table

TERMS = {("a",): "C(a, Sum)", ("b",): "C(b, Sum)", ("a", "b"): "C(a, Sum):C(b, Sum)"}


def grid(a: int, b: int) -> dict[str, dict[str, str]]:
    """Cells named by their number, of an a x b crossing."""
    return {
        str(i): {"a": str(x), "b": str(y)} for i, (x, y) in enumerate(np.ndindex(a, b))
    }  # fmt: skip


def long(scores_DS: np.ndarray, levels: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    rows = [
        {**own, "seed": seed, "value": scores_DS[int(cell), seed]}
        for cell, own in levels.items()
        for seed in range(scores_DS.shape[1])
    ]
    return pd.DataFrame(rows).dropna()


def scores_of(a: int, b: int, seeds: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return noise(rng, np.ones(a * b), seeds) + rng.normal(size=(a * b, 1))


@pytest.mark.parametrize("shape", [(2, 2, 3), (3, 2, 4), (5, 2, 3)])
def test_effects_are_the_more_wary_of_two_published_analyses(shape: tuple[int, int, int]) -> None:
    """F is that by the pooled error or that by the term's own (repeated measures), the smaller."""
    levels, scores_DS = grid(*shape[:2]), scores_of(*shape, seed=1)
    rows = long(scores_DS, levels)
    pooled = anova_lm(smf.ols("value ~ C(a, Sum) * C(b, Sum) + C(seed)", rows).fit(), typ=2)
    own = AnovaRM(rows, "value", "seed", within=["a", "b"]).fit().anova_table
    for effect in effects(table(scores_DS), crossing(levels))[0]:
        by_pooled = pooled.loc[TERMS[effect.factors]]
        by_own = own.loc[":".join(effect.factors)]
        assert effect.test.f == pytest.approx(min(by_pooled["F"], by_own["F Value"]))
        assert (effect.test.df, effect.test.df_error) == (by_pooled["df"], pooled["df"].iloc[-1])


def test_missing_runs_are_type_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_own_sum", lambda *_: np.nan)  # by the pooled error alone
    levels, scores_DS = grid(3, 2), scores_of(3, 2, 4, seed=2)
    scores_DS[0, 1] = scores_DS[0, 2] = scores_DS[4, 3] = np.nan
    rows = long(scores_DS, levels)
    expected = anova_lm(smf.ols("value ~ C(a, Sum) * C(b, Sum) + C(seed)", rows).fit(), typ=3)
    for effect in effects(table(scores_DS), crossing(levels))[0]:
        row = expected.loc[TERMS[effect.factors]]
        assert (effect.test.f, effect.test.p) == pytest.approx((row["F"], row["PR(>F)"]))


def test_adjusted_means_count_every_combination_alike() -> None:
    scores_DS = scores_of(3, 2, 4, seed=3)
    means = effects(table(scores_DS), crossing(grid(3, 2)))[1]
    by_levels = {tuple(m.levels.items()): m.mean.estimate for m in means}
    assert len(by_levels) == 3 + 2 + 6
    assert by_levels[("a", "1"),] == pytest.approx(scores_DS[2:4].mean())
    assert by_levels[("b", "1"),] == pytest.approx(scores_DS[1::2].mean())
    assert by_levels[("a", "2"), ("b", "0")] == pytest.approx(scores_DS[4].mean())
    # A missing run moves a mean by its own seed's place, not by the seed's level.
    lost = scores_DS + np.array([0, 0, 0, 1e3])
    lost[2, 3] = np.nan
    others = effects(table(lost), crossing(grid(3, 2)))[1]
    assert others[1].mean.estimate - 250 == pytest.approx(means[1].mean.estimate, abs=2)


def test_three_factors_have_seven_terms() -> None:
    levels = {
        str(i): dict(zip("abc", map(str, place), strict=True))
        for i, place in enumerate(itertools.product(range(2), repeat=3))
    }
    scores_DS = noise(np.random.default_rng(4), np.ones(8), 3)
    scores_DS += np.array([1, -1, -1, 1, -1, 1, 1, -1])[:, None] * 5  # nothing but all three
    tested, means = effects(table(scores_DS), crossing(levels))
    p = {effect.factors: effect.test.p for effect in tested}
    assert len(p) == 7 and p["a", "b", "c"] < 1e-5
    assert min(value for term, value in p.items() if len(term) < 3) > 0.01
    assert len(means) == 6 + 12


def test_factors_that_cannot_be_told_apart_are_one() -> None:
    levels = {cell: {**own, "twin": own["a"], "same": "x"} for cell, own in grid(2, 3).items()}
    for cell, own in levels.items():
        own["coarse"] = str(own["b"] == "2")
        levels[cell] = own
    crossed = crossing(levels)
    assert crossed.factors == {"a": ("0", "1"), "b": ("0", "1", "2")}
    assert crossed.notes == (
        "twin changes with a: their effects cannot be told apart",
        "coarse changes with b: their effects cannot be told apart",
    )


def test_a_level_without_its_combinations_is_left_out() -> None:
    levels = grid(5, 2)
    del levels["9"]
    crossed = crossing(levels)
    assert crossed.factors["a"] == ("0", "1", "2", "3") and len(crossed.cells) == 8
    assert crossed.notes == ("left out: a 4, which lacks combinations",)


@pytest.mark.parametrize(
    "cells, why",
    [
        ({"0": {"a": "0"}, "1": {"a": "1"}}, "and 1 vary \\(a\\)"),
        ({"0": {}, "1": {}}, "and 0 vary"),
        ({k: v for k, v in grid(2, 2).items() if k != "3"}, "1 combinations .* as a 1, b 1"),
        ({k: v for k, v in grid(3, 3).items() if k in "01236"}, "a × b is not complete"),
        (grid(2, 2) | {"4": {"a": "0", "b": "1"}}, "1 and 4 have the same a and b"),
    ],
)
def test_what_is_no_crossing_says_why(cells: dict[str, dict[str, str]], why: str) -> None:
    with pytest.raises(NotCrossed, match=why):
        crossing(cells)


def test_a_cell_without_scores_is_named() -> None:
    scores = table(scores_of(2, 2, 3, seed=0)) | {"3": {}}
    with pytest.raises(ValueError, match="3: no scores at all"):
        effects(scores, crossing(grid(2, 2)))


def rejected(shape: tuple[int, int, int], sd: float, tables: int, seed: int) -> np.ndarray:
    """Share of tables without any effect in which a, b and their interaction have p < .05; the
    first cell is `sd` times as noisy as the others."""
    rng, crossed = np.random.default_rng(seed), crossing(grid(*shape[:2]))
    sd_D = np.ones(shape[0] * shape[1])
    sd_D[0] = sd
    wrong = np.zeros(3)
    for _ in range(tables):
        tested, _ = effects(table(noise(rng, sd_D, shape[2])), crossed)
        wrong += [effect.test.p < 0.05 for effect in tested]
    return wrong / tables


def test_false_positives_quickly() -> None:
    assert (rejected((2, 2, 3), 1, 200, 1) < 0.1).all()  # SE 1.5 %


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 2, 3), (5, 2, 3), (4, 3, 5)])
@pytest.mark.parametrize("sd, most", [(1, 0.063), (2, 0.09)])
def test_false_positives(shape: tuple[int, int, int], sd: float, most: float) -> None:
    share = rejected(shape, sd, 2_000, 2)  # SE 0.5 %
    print(f"crossed {shape}, first cell {sd} x as noisy: a, b, a x b rejected in {share}")
    assert (share < most).all() and (share > 0.02).all()
