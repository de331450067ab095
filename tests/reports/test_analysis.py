"""Analysis on records made by hand, against what can be worked out on paper."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from harness.results.tables import Results
from harness.statistics.intervals import proportion_lower_bound
from harness.statistics.power import smallest_detectable_effect
from reports.analysis import all_learned, answer, coloured_curves, learned, scored_runs

PRIMARY = "retrieval/mean_recall"
SCORES = {"2+10": (52.0, 53.0, 51.0), "6+6": (50.0, 51.5, 49.0), "10+2": (50.2, 51.3, 49.1)}


@pytest.fixture
def known(make: Callable[..., Results]) -> Results:
    """Scores of `SCORES`, and a floor at 30."""
    made = make({"2+10": 2.0, "6+6": 6.0, "10+2": 10.0}, floor="floor", control="6+6")
    for cell, scores in SCORES.items():
        made.runs.loc[made.runs["cell"] == cell, PRIMARY] = scores
    made.runs.loc[made.runs["role"] == "floor", PRIMARY] = (29.0, 30.0, 31.0)
    return made


def test_verdicts_means_and_floors(known: Results) -> None:
    found = answer(known)
    assert found.analysis.means == pytest.approx({"2+10": 52.0, "6+6": 150.5 / 3, "10+2": 50.2})
    assert {cell: v.kind for cell, v in found.verdicts.items()} == {
        "2+10": "better",
        "10+2": "equal",
    }
    assert found.floors == {"floor": 30.0}  # beside the contrasts, not among them
    assert found.missing == ()
    residual_sd = np.sqrt(found.analysis.mse)
    effect = smallest_detectable_effect(3, 3, alpha=0.05)
    assert found.detectable == pytest.approx(effect * residual_sd)
    assert found.lines[0].startswith("2+10 against 6+6: better")


def test_looks_split_alpha(known: Results) -> None:
    known.study["study"]["looks"] = 2
    assert answer(known).analysis.alpha == 0.025


def test_undecided_costs_the_seconds_of_all_compared_cells(known: Results) -> None:
    known.study["study"]["equal_within"] = 0.4
    known.runs["ledger.device_seconds"] = 1200.0
    verdict = answer(known).verdicts["10+2"]
    assert verdict.kind == "undecided" and verdict.needs
    assert verdict.hours == pytest.approx(verdict.needs * 3 * 1200 / 3600)
    known.runs.loc[known.runs["cell"] == "6+6", "ledger.device_seconds"] = np.nan
    assert answer(known).verdicts["10+2"].hours is None


def test_missing_runs_are_named(results: Results) -> None:
    found = answer(results)
    assert found.missing == ("10+2, seed 2: diverged (loss <nan> at step 120 & gone)",)
    assert found.analysis.seeds == {"2+10": 3, "6+6": 3, "10+2": 2}


def test_a_failed_run_counts_for_nothing_even_with_a_score(known: Results) -> None:
    known.runs.loc[known.runs["cell"] == "10+2", "status"] = "failed"
    found = answer(known)
    assert list(found.verdicts) == ["2+10"]
    assert len(found.missing) == 3


def test_a_missing_column_is_named(known: Results) -> None:
    known.study["study"]["primary"] = "retrieval/mean_recal"
    with pytest.raises(ValueError, match=r"lacks the column\(s\) retrieval/mean_recal;"):
        answer(known)


def test_scored_runs_carry_the_contrast_and_one_colour_per_cell(known: Results) -> None:
    table = scored_runs(known, answer(known))
    assert (table.groupby("cell")["colour"].nunique() == 1).all()
    assert table["colour"].nunique() == 4
    ours = table[table["cell"] == "2+10"].iloc[0]
    assert ours["delta"] == pytest.approx(52 - 150.5 / 3)
    assert ours["verdict"] == "better" and ours["axis"] == 2 and not ours["is_control"]
    assert table.loc[table["cell"].isin(["6+6", "floor"]), "delta"].isna().all()
    curves = coloured_curves(known, table)
    assert len(curves) == len(known.curves)
    both = curves.merge(table, on=["cell", "seed"])
    assert (both["colour_x"] == both["colour_y"]).all()


def test_a_cell_knows_its_place_from_any_run(known: Results) -> None:
    known.runs.loc[known.runs["seed"] == 0, "text_layers"] = np.nan  # never started
    table = scored_runs(known, answer(known))
    assert list(table.loc[table["cell"] == "10+2", "axis"]) == [10, 10, 10]
    known.study["study"]["axis"] = "no such column"
    assert list(scored_runs(known, answer(known))["axis"]) == list(known.runs["cell"])


def test_learned_compares_the_bound_with_chance() -> None:
    levels = {"cell": "a", "role": "compared", "seed": 0, "run": "r0", "status": "done"}
    stem = "level.validation.itm_accuracy."
    just = {f"{stem}successes": 360, f"{stem}items": 512, f"{stem}chance": 2 / 3}
    short = levels | just | {"run": "r1", "seed": 1, f"{stem}successes": 355}
    absent = levels | {"run": "r2", "seed": 2}
    table = learned(pd.DataFrame([levels | just, short, absent]))
    assert list(table["run"]) == ["r0", "r1"]
    assert list(table["lower_bound"]) == [proportion_lower_bound(n, 512) for n in (360, 355)]
    assert list(table["ok"]) == [True, False]  # 355 of 512 is above 2/3, its bound is not


def test_all_learned_needs_every_compared_run(known: Results) -> None:
    assert all_learned(known.runs)
    first, columns = known.runs["run"] == known.runs["run"].iloc[0], known.runs.columns

    unfinished = known.runs.copy()
    unfinished.loc[first, "status"] = "failed"
    assert not all_learned(unfinished)

    unshown = known.runs.copy()
    unshown.loc[first, [c for c in columns if c.startswith("level.")]] = np.nan
    assert not all_learned(unshown)  # no level at all shows nothing

    at_chance = known.runs.copy()
    at_chance.loc[first, "level.retrieval.r_at_1.successes"] = 1
    assert not all_learned(at_chance)
    floor_at_chance = known.runs.copy()
    floor = floor_at_chance["role"] == "floor"
    floor_at_chance.loc[floor, "level.retrieval.r_at_1.successes"] = 1
    assert all_learned(floor_at_chance)
    assert not all_learned(known.runs.iloc[:0])
