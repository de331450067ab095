"""Shares of one error rate over a night's questions."""

import numpy as np
import pytest

from harness.statistics.alpha_shares import alpha_share
from harness.statistics.blocked import analyse


def test_shares_sum_to_the_whole() -> None:
    assert sum(alpha_share(k, 0.05) for k in range(1, 20_000)) == pytest.approx(0.05, rel=1e-4)
    assert [alpha_share(k, 0.05, 2) for k in (1, 2, 3)] == [0.025, 0.025, 0.0]
    levels = [alpha_share(k, 0.05) for k in range(1, 50)]
    assert levels == sorted(levels, reverse=True) and levels[-1] > 0


@pytest.mark.parametrize("wrong", [(0, 0.05, None), (1, 0.0, None), (1, 1.0, 3), (1, 0.05, 0)])
def test_what_is_out_of_range_is_refused(wrong: tuple[int, float, int | None]) -> None:
    with pytest.raises(ValueError, match="alpha lies in"):
        alpha_share(*wrong)


@pytest.mark.slow
@pytest.mark.parametrize("questions", [None, 12])
def test_five_nights_of_a_hundred_without_differences_show_one_at_most(
    questions: int | None,
) -> None:
    """Twelve questions a night, three designs at three seeds, no design differs. The control's runs
    are those of the question before wherever that one came near to a difference: what was seen
    decides what is asked next."""
    rng, nights, wrong = np.random.default_rng(0), 800, 0
    for _ in range(nights):
        control_S = rng.normal(size=3)
        for place in range(1, 13):
            seed_S = rng.normal(size=3)
            scores = {
                "control": dict(enumerate(control_S + seed_S)),
                **{name: dict(enumerate(rng.normal(size=3) + seed_S)) for name in "ab"},
            }
            level = alpha_share(place, 0.05, questions)
            analysis = analyse(scores, "control", alpha=level)
            smallest = min(contrast.p_adjusted for contrast in analysis.contrasts)
            if smallest < level:
                wrong += 1
                break
            if smallest > 0.3:
                control_S = rng.normal(size=3)
    rate = wrong / nights
    assert 0.01 < rate < 0.05 + 2 * (0.05 * 0.95 / nights) ** 0.5
