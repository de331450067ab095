"""Critical values and tails against published tables, Student's t and scipy's multivariate t."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multicomp import pairwise_tukeyhsd

from harness.statistics.dunnett import (
    dunnett_critical,
    dunnett_tail,
    one_sided_critical,
    tukey_critical,
    tukey_tail,
)

# Two-sided, alpha .05 and .01, correlation .5: Dunnett, Biometrics 1964, tables II and III.
PUBLISHED = {
    (0.05, 5): [2.57, 3.03, 3.29, 3.48, 3.62, 3.73, 3.82, 3.90, 3.97],
    (0.05, 10): [2.23, 2.57, 2.76, 2.89, 2.99, 3.07, 3.14, 3.19, 3.24],
    (0.05, 20): [2.09, 2.38, 2.54, 2.65, 2.73, 2.80, 2.86, 2.90, 2.95],
    (0.05, 100_000): [1.96, 2.21, 2.35, 2.44, 2.51, 2.57, 2.61, 2.65, 2.69],
    (0.01, 10): [3.17, 3.53, 3.74, 3.88],
}


@pytest.mark.parametrize("alpha, df", PUBLISHED)
def test_critical_values_are_the_published_ones(alpha: float, df: int) -> None:
    row = PUBLISHED[alpha, df]
    ours = [dunnett_critical(contrasts, df, alpha) for contrasts in range(1, len(row) + 1)]
    assert ours == pytest.approx(row, abs=0.0051)


@pytest.mark.parametrize("df", [1, 2, 7, 300])
@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.0125, 1e-4])
def test_one_contrast_is_students_t(df: int, alpha: float) -> None:
    assert dunnett_critical(1, df, alpha) == pytest.approx(stats.t.isf(alpha / 2, df), rel=1e-5)


@pytest.mark.parametrize("statistic, contrasts, df", [(2.0, 3, 6), (1.0, 2, 2), (4.0, 5, 20)])
def test_tail_is_multivariate_t(statistic: float, contrasts: int, df: int) -> None:
    law = stats.multivariate_t(
        shape=np.full((contrasts, contrasts), 0.5) + np.eye(contrasts) / 2, df=df
    )
    limit = np.full(contrasts, statistic)
    inside = law.cdf(
        limit, lower_limit=-limit, maxpts=200_000, random_state=np.random.default_rng(0)
    )
    assert dunnett_tail(statistic, contrasts, df) == pytest.approx(1 - inside, abs=2e-4)


def test_tail_at_its_ends() -> None:
    assert dunnett_tail(0.0, 3, 4) == pytest.approx(1.0)
    assert dunnett_tail(-2.5, 3, 4) == dunnett_tail(2.5, 3, 4)
    # Far out the contrasts exceed almost one at a time; Student's t gives the bound.
    far = dunnett_tail(1e4, 3, 3)
    assert 0 < far < 3 * 2 * stats.t.sf(1e4, 3)


@pytest.mark.parametrize(
    "contrasts, df, alpha", [(0, 3, 0.05), (2, 0, 0.05), (2, 3, 0.0), (2, 3, 1.0)]
)
def test_what_cannot_be_asked_is_refused(contrasts: int, df: int, alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha" if contrasts and df else "contrast"):
        if contrasts and df:
            dunnett_critical(contrasts, df, alpha)
        else:
            dunnett_tail(1.0, contrasts, df)


# One-sided, alpha .05, correlation .5: Dunnett, JASA 1955, table 1a.
ONE_SIDED = {
    5: [2.02, 2.44, 2.68, 2.85],
    10: [1.81, 2.15, 2.34, 2.47],
    20: [1.72, 2.03, 2.19, 2.30],
}


@pytest.mark.parametrize("df", ONE_SIDED)
def test_one_sided_critical_values_are_the_published_ones(df: int) -> None:
    ours = [one_sided_critical(contrasts, df, 0.05) for contrasts in range(1, 5)]
    assert ours == pytest.approx(ONE_SIDED[df], abs=0.0051)


def test_a_one_sided_value_is_scipys() -> None:
    critical = one_sided_critical(3, 12, 0.05)
    rows = np.array([[0.0, 1, 2, 3]] * 4) - 1.5  # four groups of four, variance 5/3
    rows[1:] += critical * np.sqrt(2 * (5 / 3) / 4)
    p = stats.dunnett(*rows[1:], control=rows[0], alternative="greater", random_state=0).pvalue
    assert p == pytest.approx([0.05] * 3, abs=5e-4)


@pytest.mark.parametrize("designs, df", [(2, 2), (3, 6), (6, 10), (13, 48), (40, 160)])
def test_all_pairs_are_the_studentized_range(designs: int, df: int) -> None:
    law = stats.studentized_range
    for statistic in (0.0, 1.0, 3.0, 8.0):
        expected = law.sf(np.sqrt(2) * statistic, designs, df)
        assert tukey_tail(-statistic, designs, df) == pytest.approx(expected, rel=1e-5, abs=1e-9)
    critical = law.isf(0.05, designs, df) / np.sqrt(2)
    assert tukey_critical(designs, df, 0.05) == pytest.approx(critical, rel=1e-5)


def test_all_pairs_are_scipys_and_statsmodels_test_where_seeds_are_no_blocks() -> None:
    rows = np.random.default_rng(0).normal([[0], [0.5], [1.5], [1]], 1, size=(4, 5))
    scipys = stats.tukey_hsd(*rows)
    others = pairwise_tukeyhsd(rows.ravel(), np.repeat(range(4), 5))
    se = np.sqrt(2 * rows.var(axis=1, ddof=1).mean() / 5)
    pairs = zip(*np.triu_indices(4, 1), strict=True)
    for (d, other), p in zip(pairs, others.pvalues, strict=True):
        ours = tukey_tail((rows[d].mean() - rows[other].mean()) / se, 4, 16)
        assert ours == pytest.approx(scipys.pvalue[d, other], rel=1e-4)
        assert ours == pytest.approx(p, abs=1e-3)


def test_pairs_need_two_designs() -> None:
    with pytest.raises(ValueError, match="two designs"):
        tukey_tail(1.0, 1, 5)
