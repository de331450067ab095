"""Levels of looks against the published ones and against peeking, simulated by the rule in use."""

from collections.abc import Iterator

import numpy as np
import pytest

from harness.statistics.blocked import analyse
from harness.statistics.dunnett import dunnett_critical, dunnett_tail
from harness.statistics.looks import (
    FloatArray,
    _tails,
    errors_of_reads,
    level_of_look,
    looks_taken,
    looks_with,
    p_over_looks,
    seeds_compared,
)

TWO, FOUR = (3, 5), (3, 5, 7, 9)


@pytest.mark.parametrize("designs", [2, 4])
@pytest.mark.parametrize("looks, low, high", [(TWO, 0.027, 0.031), (FOUR, 0.016, 0.018)])
def test_equal_boundaries_cost_less_than_bonferroni(
    looks: tuple[int, ...], low: float, high: float, designs: int
) -> None:
    level = level_of_look(0.05, looks, designs)
    assert level_of_look(0.05, len(looks), designs) == 0.05 / len(looks) < low < level < high


def test_one_look_has_all_of_alpha() -> None:
    assert level_of_look(0.03, 1, 4) == level_of_look(0.03, (5,), 4) == 0.03
    assert p_over_looks(0.03, 1, 4) == p_over_looks(0.03, (5,), 4) == 0.03


def test_a_p_at_the_level_becomes_alpha() -> None:
    level = level_of_look(0.05, TWO, 4)
    assert p_over_looks(level, TWO, 4) == pytest.approx(0.05, abs=1e-4)
    assert p_over_looks(1e-9, TWO, 4) == pytest.approx(2e-9), "beyond the simulation: Bonferroni"
    assert p_over_looks(1.0, TWO, 4) == p_over_looks(0.7, 2, 4) == 1


@pytest.mark.parametrize("looks, designs", [(TWO, 6), (FOUR, 4)])
def test_a_smaller_p_stays_the_smaller_and_agrees_with_every_level(
    looks: tuple[int, ...], designs: int
) -> None:
    p = np.geomspace(1e-5, 0.9, 400)
    over = np.array([p_over_looks(own, looks, designs) for own in p])
    assert (np.diff(over) >= 0).all()
    for alpha in (0.05, 0.0011, 0.001, 0.00084, 1e-4):  # the last: below what is simulated
        level = level_of_look(alpha, looks, designs)
        assert ((over < alpha) == (p < level)).all(), alpha


def test_an_analysis_at_declared_looks_has_wider_intervals() -> None:
    rows = np.random.default_rng(1).normal([[0], [2], [0]], size=(3, 5))
    scores = {name: dict(enumerate(row)) for name, row in zip("cde", rows, strict=True)}
    once, twice = analyse(scores, "c"), analyse(scores, "c", looks=TWO)
    level = level_of_look(0.05, TWO, 3)
    assert (twice.alpha, twice.family_alpha, twice.looks) == (level, 0.05, TWO)
    assert once.contrasts[0].critical < twice.contrasts[0].critical
    assert twice.contrasts[0].critical == pytest.approx(dunnett_critical(2, 8, level))
    p_once, p_twice = once.contrasts[0].p_adjusted, twice.contrasts[0].p_adjusted
    assert p_once < p_twice == p_over_looks(p_once, TWO, 3)
    assert "looks at 3, 5 seeds" in " ".join(twice.notes)


@pytest.mark.parametrize("looks", [(), (1, 3), (5, 3), (3, 3)])
def test_looks_that_are_none_are_refused(looks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending numbers of at least two seeds"):
        level_of_look(0.05, looks, 4)


@pytest.mark.parametrize("df", [2, 6, 40])
def test_tails_of_many_are_those_of_one(df: int) -> None:
    statistics = np.array([0.0, 0.7, 2.3, 3.1, 4.4, 5.9])
    exact = [dunnett_tail(t, 3, df) for t in statistics]
    assert _tails(statistics, 3, df) == pytest.approx(exact, rel=0.004)


@pytest.mark.parametrize(
    "declared, read_at, seeds, looks, undeclared",
    [
        (1, (), 3, 1, ()),
        (1, (3, 3), 3, 1, ()),  # the same data again
        (1, (), 1, 1, ()),
        (1, (1,), 3, 1, ()),  # one seed has no verdict
        (1, (3,), 5, (3, 5), (3, 5)),
        (1, (5, 3), 9, (3, 5, 9), (3, 5, 9)),
        (2, (3,), 5, 2, ()),
        (2, (3, 4), 5, (3, 4, 5), (3, 4, 5)),
        ((3, 5), (), 3, (3, 5), ()),
        ((3, 5), (3,), 5, (3, 5), ()),
        ((3, 5), (), 4, (3, 4, 5), (4,)),
        ((3, 5), (3, 5), 7, (3, 5, 7), (3, 5, 7)),
    ],
)
def test_every_number_of_seeds_that_was_read_is_a_look(
    declared: int | tuple[int, ...],
    read_at: tuple[int, ...],
    seeds: int,
    looks: int | tuple[int, ...],
    undeclared: tuple[int, ...],
) -> None:
    taken = looks_taken(declared, read_at, seeds)
    assert (taken.looks, taken.undeclared) == (looks, undeclared)


def test_what_was_not_declared_is_said_with_its_price() -> None:
    assert looks_taken(1, (), 3).note(0.05, 0.05, 4) == ""
    text = looks_taken(1, (3,), 5).note(0.05, 0.0284, 4)
    assert text.startswith("read at 3 seeds, now 5: not a declared look, so verdicts stand at")
    assert "level 0.028" in text and "in up to 6.8% of such studies, not 5.0%" in text
    assert "read at 4 seeds: not" in looks_taken((3, 5), (), 4).note(0.05, 0.02, 4)


def test_looks_that_were_declared_are_not_counted_as_peeking() -> None:
    late = looks_taken(TWO, (3, 5), 7).note(0.05, 0.02, 4)
    assert "in up to 6.1%" in late, "with two designs, by the rule in use: 5.8 %, not 7.8 %"
    assert "err" not in looks_taken(TWO, (4,), 5).note(0.05, 0.02, 4), "3.7 %: less than declared"
    assert errors_of_reads(0.05, (3, 4), 4, 2) == pytest.approx(0.041, abs=0.002)


def test_the_looks_that_more_seeds_would_need() -> None:
    assert looks_with(1, 3, 5) == looks_with((3, 5), 3, 5) == (3, 5)
    assert looks_with((3, 5), 3, 9) == (3, 5, 9)
    assert looks_with(2, 3, 9) == 2, "Bonferroni's level holds for any two"


def test_a_read_is_of_the_contrast_with_most_seeds() -> None:
    scores = {"c": {0: 1.0, 1: 1.0, 2: 1.0}, "d": {0: 1.0}, "e": {1: 1.0, 2: 1.0, 7: 1.0}}
    assert seeds_compared(scores, "c") == 2
    assert seeds_compared(scores, "no such cell") == seeds_compared({"c": {0: 1.0}}, "c") == 0


# -- the promise, by the rule in use


def largest_statistics(scores_NDS: FloatArray, looks: tuple[int, ...]) -> Iterator[FloatArray]:
    """Max|T| (N,) of the rule in use over all contrasts with the first design, look by look."""
    designs = scores_NDS.shape[1]
    paired_NCS = scores_NDS[:, 1:] - scores_NDS[:, :1]
    centred_NDS = scores_NDS - scores_NDS.mean(1, keepdims=True)
    for seeds in looks:
        paired, centred = paired_NCS[..., :seeds], centred_NDS[..., :seeds]
        squares_N = ((centred - centred.mean(2, keepdims=True)) ** 2).sum((1, 2))
        pooled_N1 = 2 * squares_N[:, None] / ((designs - 1) * (seeds - 1))
        variance_NC = np.maximum(paired.var(2, ddof=1), pooled_N1)
        yield np.abs(paired.mean(2) / np.sqrt(variance_NC / seeds)).max(1)


def errors(designs: int, looks: tuple[int, ...], levels: list[float], studies: int) -> float:
    """Share of studies without any effect that err at one of the looks."""
    rng, wrong, chunk = np.random.default_rng(11), 0, 10_000
    for _ in range(studies // chunk):
        scores_NDS = rng.standard_normal((chunk, designs, looks[-1]))
        statistics = largest_statistics(scores_NDS, looks)
        wrong_N = np.zeros(chunk, dtype=bool)
        for seeds, level, t_N in zip(looks, levels, statistics, strict=True):
            df = (designs - 1) * (seeds - 1)
            wrong_N |= t_N > dunnett_critical(designs - 1, df, level)
        wrong += int(wrong_N.sum())
    return wrong / studies


@pytest.mark.slow
@pytest.mark.parametrize("designs", [2, 4, 6])
@pytest.mark.parametrize("looks, unadjusted", [(TWO, (0.080, 0.092)), (FOUR, (0.125, 0.14))])
def test_peeking_with_these_levels_errs_as_declared(
    looks: tuple[int, ...], unadjusted: tuple[float, float], designs: int
) -> None:
    studies, error = 100_000, 3 * (0.05 * 0.95 / 100_000) ** 0.5  # three standard errors
    level = level_of_look(0.05, looks, designs)
    adjusted = errors(designs, looks, [level] * len(looks), studies)
    peeked = errors(designs, looks, [0.05] * len(looks), studies)
    print(f"{designs} designs, {looks}: {level:.4f}, {adjusted:.4f}, unadjusted {peeked:.4f}")
    assert adjusted < 0.05 + error + 0.001  # the level itself is simulated
    if designs == 2:  # with one contrast its own variance is the pooled one
        assert adjusted > 0.05 - error - 0.001
        assert unadjusted[0] < peeked < unadjusted[1]
    else:  # the rule in use keeps something back
        assert 0.055 < peeked < unadjusted[1]


@pytest.mark.slow
def test_a_read_that_was_not_declared_costs_what_the_report_says() -> None:
    level = level_of_look(0.05, TWO, 2)
    extended = errors(2, TWO, [0.05, level], 100_000)
    assert extended == pytest.approx(errors_of_reads(0.05, TWO, 2), abs=0.004)
    assert 0.064 < extended < 0.072
