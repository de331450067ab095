"""Critical values and tails against published tables, Student's t and scipy's multivariate t."""

import numpy as np
import pytest
from scipy import stats

from harness.statistics.dunnett import dunnett_critical, dunnett_tail

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
