"""The primary analysis on tables made by hand, its symmetries, and its error rate."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.statistics.additive import fit
from harness.statistics.blocked import Analysis, analyse
from harness.statistics.dunnett import dunnett_critical

NAN = math.nan


def table(*rows: list[float]) -> dict[str, dict[int, float]]:
    return {name: dict(enumerate(row)) for name, row in zip("cdefghij", rows, strict=False)}


TABLES = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).normal(0.5, 0.1, size=(3, 4))
)


def figures(analysis: Analysis) -> np.ndarray:
    return np.array([[c.delta, c.se, c.lower, c.upper] for c in analysis.contrasts])


def test_two_designs_are_the_paired_t_test() -> None:
    analysis = analyse(table([0.50, 0.54, 0.52], [0.53, 0.58, 0.54]), "c")
    (contrast,) = analysis.contrasts
    # d_s = .03, .04, .02: mean .03, SD .01, so SE = .01 / sqrt 3, and 2 MSE equals Var(d_s).
    assert contrast.delta == pytest.approx(0.03)
    assert contrast.seed_sd == pytest.approx(0.01)
    assert contrast.se == pytest.approx(0.01 / math.sqrt(3))
    assert 2 * analysis.mse == pytest.approx(0.01**2)
    assert (contrast.df, contrast.seeds) == (2, 3)
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert (contrast.lower, contrast.upper) == pytest.approx((0.03 - half, 0.03 + half), rel=1e-5)
    paired = stats.ttest_rel([0.53, 0.58, 0.54], [0.50, 0.54, 0.52])
    assert contrast.p_adjusted == pytest.approx(paired.pvalue, rel=1e-5)


def test_complete_tables_follow_the_closed_form() -> None:
    scores_DS = np.random.default_rng(5).normal(size=(4, 5)) + np.arange(5)
    analysis = analyse(table(*scores_DS.tolist()), "c")
    by_design, by_seed = scores_DS.mean(1, keepdims=True), scores_DS.mean(0, keepdims=True)
    residual_DS = scores_DS - by_design - by_seed + scores_DS.mean()
    mse = (residual_DS**2).sum() / 12
    assert (analysis.mse, analysis.df) == (pytest.approx(mse), 12)
    for row, contrast in zip(scores_DS[1:], analysis.contrasts, strict=True):
        differences = row - scores_DS[0]
        assert contrast.delta == pytest.approx(differences.mean())
        variance = max(differences.var(ddof=1), 2 * mse)
        assert contrast.se == pytest.approx(math.sqrt(variance / 5))
        assert contrast.critical == dunnett_critical(3, 12, 0.05)
    larger = [c.seed_sd**2 > 2 * mse * (1 + 1e-9) for c in analysis.contrasts]
    assert any(larger) and not all(larger)  # the table exercises both sides of the rule


def test_missing_cells_are_least_squares_on_what_is_there() -> None:
    # Additive without noise but for the last seed, where `e` is missing and `d` is 3 too high.
    analysis = analyse(table([0, 10, 20], [1, 11, 24], [5, 15, NAN]), "c")
    columns = np.zeros((8, 5))  # designs d and e, then the three seeds
    cells = [
        (0, 0, 0),
        (0, 1, 10),
        (0, 2, 20),
        (1, 0, 1),
        (1, 1, 11),
        (1, 2, 24),
        (2, 0, 5),
        (2, 1, 15),
    ]
    for row, (design, seed, _) in enumerate(cells):
        columns[row, 2 + seed] = 1
        if design:
            columns[row, design - 1] = 1
    effects, residual, _, _ = np.linalg.lstsq(columns, np.array([c[2] for c in cells], float))
    assert [c.delta for c in analysis.contrasts] == pytest.approx(effects[:2].tolist())
    assert (analysis.mse, analysis.df) == (pytest.approx(residual[0] / 3), 3)
    assert [c.seeds for c in analysis.contrasts] == [3, 2]
    assert analysis.seeds == {"c": 3, "d": 3, "e": 2}
    assert analysis.notes == ("missing cells: least squares on what is there (e seed 2)",)
    covariance = np.linalg.inv(columns.T @ columns)
    variance = 2 * analysis.mse * covariance[1, 1] / 2  # of `e`, whose own differences agree
    assert analysis.contrasts[1].se == pytest.approx(math.sqrt(variance))


def test_f_of_the_designs_is_the_blocked_anova() -> None:
    two = analyse(table([0.50, 0.54, 0.52], [0.53, 0.58, 0.55]), "c")
    paired = stats.ttest_rel([0.53, 0.58, 0.55], [0.50, 0.54, 0.52])
    assert two.f == pytest.approx(paired.statistic**2)
    assert two.f_p == pytest.approx(paired.pvalue)

    scores_DS = np.random.default_rng(2).normal(size=(4, 5))
    found = analyse(table(*scores_DS.tolist()), "c")
    of_designs = 5 * np.var(scores_DS.mean(axis=1), ddof=1)
    assert found.f == pytest.approx(of_designs / found.mse)
    assert found.f_p == pytest.approx(stats.f.sf(found.f, 3, 12))
    assert found.residual_sd == pytest.approx(math.sqrt(found.mse))

    scores_DS[1, 2] = NAN  # by two models with and without designs
    seeds_NS = np.tile(np.eye(5), (4, 1))
    designs_ND = np.repeat(np.eye(4)[:, 1:], 5, axis=0)
    there = np.isfinite(scores_DS.ravel())
    rss = [
        np.linalg.lstsq(columns[there], scores_DS.ravel()[there])[1].item()
        for columns in (seeds_NS, np.hstack([seeds_NS, designs_ND]))
    ]
    f = (rss[0] - rss[1]) / 3 / (rss[1] / 11)
    found = analyse(table(*scores_DS.tolist()), "c")
    assert found.f == pytest.approx(f) and found.f_p == pytest.approx(stats.f.sf(f, 3, 11))


def test_the_fit_is_that_of_statsmodels() -> None:
    """Figures of its version 0.15: ols("y ~ C(design) + C(seed)") and anova_lm(typ=2)."""
    found = analyse(
        table([51.2, 49.8, 50.9, 52.4], [53.1, NAN, 52.2, 54.6], [50.4, 50.1, 51.7, NAN]), "c"
    )
    assert (found.f, found.f_p) == pytest.approx((8.051054458088808, 0.03959467104735127))
    assert (found.mse, found.df) == (pytest.approx(0.3567619047619064), 4)
    deltas = [contrast.delta for contrast in found.contrasts]
    assert deltas == pytest.approx([1.822857142857171, 0.16285714285715613])
    errors = [contrast.se for contrast in found.contrasts]
    assert errors == pytest.approx([0.4735507788358662] * 2)  # the pooled variance is the larger


@pytest.mark.parametrize("scores", [{"c": {0: 1.0}}, {"c": {0: 1.0, 1: NAN}, "d": {0: 2.0}}])
def test_without_degrees_of_freedom_there_is_no_f(scores: dict[str, dict[int, float]]) -> None:
    found = analyse(scores, "c")
    assert math.isnan(found.f) and math.isnan(found.f_p)


@pytest.mark.parametrize("gap", ["absent", NAN, math.inf])
def test_a_score_that_is_not_finite_is_a_missing_one(gap: object) -> None:
    scores = table([1, 2, 4], [2, 4, 4], [0, 1, 2])
    if gap == "absent":
        del scores["e"][1]
    else:
        scores["e"][1] = gap  # type: ignore[assignment]
    analysis = analyse(scores, "c")
    assert analysis.seeds["e"] == 2 and "e seed 1" in analysis.notes[0]
    assert np.isfinite(figures(analysis)).all()


def test_a_design_without_scores_is_named_and_costs_the_others_nothing() -> None:
    rows: list[list[float]] = [[1, 2, 4], [2, 4, 4]]
    analysis = analyse({**table(*rows), "broken": {0: NAN, 7: NAN}, "never": {}}, "c")
    assert analysis.notes == ("broken: no scores at all", "never: no scores at all")
    assert analysis.contrasts == analyse(table(*rows), "c").contrasts
    assert math.isnan(analysis.means["broken"]) and analysis.seeds["never"] == 0


def test_a_control_without_scores_leaves_nothing_to_compare() -> None:
    analysis = analyse({"c": {}, "d": {0: 1.0, 1: 2.0}}, "c")
    assert analysis.contrasts == ()
    assert "the control has no scores: nothing can be compared with it" in analysis.notes
    assert analyse({"c": {}, "d": {}}, "c").contrasts == ()


def test_one_seed_gives_differences_but_no_intervals() -> None:
    analysis = analyse(table([1.0], [3.0]), "c")
    (contrast,) = analysis.contrasts
    assert contrast.delta == pytest.approx(2.0) and not contrast.has_interval
    assert all(map(math.isnan, (contrast.lower, contrast.upper, contrast.p_adjusted)))
    assert "one seed" in contrast.note and "one seed in all" in analysis.notes[0]


def test_designs_that_share_no_seed_have_no_difference() -> None:
    scores = {"c": {0: 1.0, 1: 2.0}, "d": {2: 1.0, 3: 2.0}, "e": {0: 2.0, 1: 2.5}}
    apart, together = analyse(scores, "c").contrasts
    assert math.isnan(apart.delta) and apart.note == "d and c share no seed"
    assert together.has_interval
    assert together.critical == dunnett_critical(1, together.df, 0.05)  # only what is compared


@pytest.mark.parametrize("row", [[0.7, 0.7, 0.7], [0.1, 0.4, 0.5]])
def test_no_variation_gives_no_interval_rather_than_certainty(row: list[float]) -> None:
    (contrast,) = analyse(table(row, [value + 0.1 for value in row]), "c").contrasts
    assert contrast.delta == pytest.approx(0.1)
    assert not contrast.has_interval and "no variation" in contrast.note


@pytest.mark.parametrize("gap", [0.0, 0.1, 10.2])
def test_rounding_is_no_residual(gap: float) -> None:
    row = [40.1, 42.7, 41.3, 39.9]
    same = analyse(table(row, [value + gap for value in row], [value - gap for value in row]), "c")
    assert same.residual_sd == 0 and math.isnan(same.f) and math.isnan(same.f_p)
    assert fit(table([1e6, 1e6 + 1], [1e6, 1e6 + 1.001])).mse == pytest.approx(2.5e-7, rel=1e-3)


def test_looks_split_alpha_and_multiply_p() -> None:
    scores = table([0.50, 0.54, 0.52], [0.53, 0.58, 0.54])
    once, four = analyse(scores, "c"), analyse(scores, "c", looks=4)
    assert four.alpha == 0.0125
    assert four.contrasts[0].critical == pytest.approx(dunnett_critical(1, 2, 0.0125))
    assert four.contrasts[0].p_adjusted == pytest.approx(4 * once.contrasts[0].p_adjusted)
    assert "alpha 0.05 split over 4 declared looks: 98.75 % intervals" in four.notes


def test_an_unknown_control_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'split_bert'"):
        analyse({"split_bert": {0: 1.0}}, "split_bret")
    with pytest.raises(ValueError, match="looks"):
        analyse({"c": {0: 1.0}}, "c", looks=0)


@given(TABLES, st.lists(st.floats(-10, 10), min_size=4, max_size=4))
@settings(max_examples=25, deadline=None)
def test_what_a_seed_does_to_all_designs_drops_out(
    scores_DS: np.ndarray, shift: list[float]
) -> None:
    plain, shifted = (
        figures(analyse(table(*t.tolist()), "c")) for t in (scores_DS, scores_DS + shift)
    )
    np.testing.assert_allclose(shifted, plain, atol=1e-9)


@given(TABLES, st.floats(1e-3, 1e3))
@settings(max_examples=25, deadline=None)
def test_intervals_scale_with_the_scores(scores_DS: np.ndarray, factor: float) -> None:
    plain, scaled = (
        figures(analyse(table(*t.tolist()), "c")) for t in (scores_DS, scores_DS * factor)
    )
    np.testing.assert_allclose(scaled, plain * factor, rtol=1e-6, atol=1e-9 * factor)


@given(TABLES, st.permutations([0, 1, 2, 3]), st.permutations(["c", "d", "e"]))
@settings(max_examples=25, deadline=None)
def test_order_of_designs_and_names_of_seeds_do_not_matter(
    scores_DS: np.ndarray, seeds: list[int], names: list[str]
) -> None:
    scores = table(*scores_DS.tolist())
    renamed = {name: {10 + seeds[s]: v for s, v in scores[name].items()} for name in names}
    plain, other = (
        {c.design: (c.delta, c.se, c.p_adjusted) for c in analyse(t, "c").contrasts}
        for t in (scores, renamed)
    )
    assert plain.keys() == other.keys()
    for name in plain:
        assert other[name] == pytest.approx(plain[name], rel=1e-6, abs=1e-9)


@given(TABLES)
@settings(max_examples=25, deadline=None)
def test_interval_and_p_agree_and_signs_flip(scores_DS: np.ndarray) -> None:
    analysis = analyse(table(*scores_DS.tolist()), "c", looks=2)
    mirrored = analyse(table(*(-scores_DS).tolist()), "c", looks=2)
    for contrast, mirror in zip(analysis.contrasts, mirrored.contrasts, strict=True):
        outside = contrast.lower > 0 or contrast.upper < 0
        assert outside == (contrast.p_adjusted < 0.05)
        assert (mirror.lower, mirror.upper) == pytest.approx((-contrast.upper, -contrast.lower))


def false_positive_share(tables: int, rng: np.random.Generator, missing: float = 0.0) -> float:
    """Share of null tables, 4 designs x 3 seeds, with any contrast's interval beside zero."""
    wrong = 0
    for _ in range(tables):
        scores_DS = rng.normal(size=(4, 3)) + 3 * rng.normal(size=3)
        scores_DS[rng.random((4, 3)) < missing] = NAN
        model = fit(table(*scores_DS.tolist()))
        if "c" not in model.designs:
            continue
        found = [model.difference(name, "c") for name in model.designs if name != "c"]
        known = [d for d in found if math.isfinite(d.se)]
        reach = dunnett_critical(len(known), model.df, 0.05) if known else math.inf
        wrong += any(abs(d.delta) > reach * d.se for d in known)
    return wrong / tables


def test_false_positives_quickly() -> None:
    # 3.7 % expected; 1200 tables have a standard error of 0.5 %.
    assert 0.015 < false_positive_share(1200, np.random.default_rng(11)) < 0.055


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_false_positives(missing: float) -> None:
    assert 0.02 < false_positive_share(15_000, np.random.default_rng(12), missing) < 0.05
