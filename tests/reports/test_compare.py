"""Runs, variants and studies beside each other."""

import dataclasses
import math
from collections.abc import Callable

import pandas as pd
import pytest

from harness.results.tables import Results
from reports.compare import (
    agreement_lines,
    agreements,
    curve_differences,
    score_differences,
    side_of_cell,
    spec_differences,
    verdict_lines,
)
from tests.reports.conftest import asking, set_scores

LAYERS = {"6+6": 6.0, "2+10": 2.0, "10+2": 10.0}


def test_only_fields_that_differ_are_named_by_their_path() -> None:
    first = {
        "optimizer": {"learning_rate": 0.1, "betas": [0.9, 0.95]},
        "warm_start": None,
        "tasks": [{"name": "pairs", "count": 300}, {"name": "vqa", "label": "mine", "form": "a"}],
        "reasons": {},
    }
    second = {
        "optimizer": {"learning_rate": 0.2, "betas": (0.9, 0.95)},
        "warm_start": {"seed": 3},
        "tasks": [{"name": "vqa", "label": "mine", "form": "b"}],
        "reasons": {"itm": "no fusion"},
    }
    table = spec_differences(first, second).set_index("field")
    assert table["first"].to_dict() == {
        "optimizer.learning_rate": "0.1",
        "warm_start": "null",
        "tasks.pairs": "name=pairs, count=300",
        "tasks.mine.form": "a",
        "reasons.itm": "–",
    }
    assert table["second"].tolist() == ["0.2", "seed=3", "–", "b", "no fusion"]
    assert spec_differences(first, first).empty


def test_scores_are_paired_over_the_seeds_that_both_have(results: Results) -> None:
    sides = [side_of_cell(results, cell, {}) for cell in ("6+6", "10+2")]
    row = score_differences(*sides).set_index("score").loc["retrieval/mean_recall"]
    own = results.values("retrieval/mean_recall").groupby(results.runs["cell"]).apply(list)
    expected = sum(own["10+2"][:2]) / 2 - sum(own["6+6"][:2]) / 2
    assert row["seeds"] == 2 and row["difference"] == pytest.approx(expected)


def test_curves_are_read_at_common_steps_and_at_the_end_of_each(
    make: Callable[..., Results],
) -> None:
    results = make(LAYERS, control="6+6")
    short = (results.curves["cell"] == "6+6") & (results.curves["step"] > 200)
    results = dataclasses.replace(results, curves=results.curves[~short])
    sides = [side_of_cell(results, cell, {}) for cell in ("6+6", "2+10")]
    loss = curve_differences(*sides).set_index("curve").loc["val/itc_loss"]
    assert loss["step"].tolist() == ["50", "100", "150", "200", "last (200 / 250)"]
    own = results.curves[results.curves["name"] == "val/itc_loss"]
    means = own.groupby(["cell", "step"])["value"].mean()
    assert loss["difference"].tolist()[3] == pytest.approx(means["2+10", 200] - means["6+6", 200])
    assert loss["second"].tolist()[4] == pytest.approx(means["2+10", 250])


def test_two_cells_are_judged_by_the_contrast_or_by_tukey(make: Callable[..., Results]) -> None:
    results = make(LAYERS, floor="dual encoder", control="6+6")
    set_scores(results, "6+6", (50.0, 51.0, 52.2))
    set_scores(results, "2+10", (60.1, 61.0, 61.9))
    set_scores(results, "10+2", (40.1, 41.0, 41.9))
    for pair in (("6+6", "2+10"), ("2+10", "6+6")):
        (line,) = verdict_lines(results, *pair)
        assert line.startswith("retrieval/mean_recall: 2+10 against 6+6: better: +9.93")
    (up,), (down,) = (verdict_lines(results, *p) for p in (("10+2", "2+10"), ("2+10", "10+2")))
    assert "2+10 less 10+2 +20 [+19" in up and "a difference is shown" in up
    assert "10+2 less 2+10 -20 [-20" in down and "all pairs of 3 cells, Tukey" in down
    (floor,) = verdict_lines(results, "2+10", "dual encoder")
    assert "dual encoder cannot be tested" in floor


def test_studies_are_compared_on_the_cells_that_both_have(make: Callable[..., Results]) -> None:
    first, second = make(LAYERS, control="6+6"), make({**LAYERS, "4+8": 4.0}, control="6+6")
    for results, order in ((first, (1, 2, 3)), (second, (1, 3, 2))):
        for cell, place in zip(LAYERS, order, strict=True):
            set_scores(results, cell, [10 * place, 10 * place + 1.0, 10 * place + 2.1])
    (agreement,) = agreements(first, second)
    assert agreement.cells["cell"].tolist() == list(LAYERS) and agreement.ordered == 3
    assert agreement.tau == pytest.approx(1 / 3)  # one of three pairs is turned round
    lines = agreement_lines(("a", "b"), agreement)
    assert "their 3 shared cells with Kendall's tau +0.33" in lines[0]
    assert lines[1].endswith(f"{agreement.same_verdicts} of 2 verdicts agree")
    (other,) = agreements(first, asking(second, control="2+10"))
    assert other.judged == 0 and "same control" in agreement_lines(("a", "b"), other)[1]
    assert agreements(first, asking(second, primary="retrieval/i2t_r_at_1")) == []
    (none,) = agreements(first, make({"x": 1.0, "y": 2.0}, control="x"))
    assert math.isnan(none.tau) and isinstance(none.cells, pd.DataFrame) and none.cells.empty
    assert agreement_lines(("a", "b"), none)[0].endswith("no cell of one name has scores in both")
