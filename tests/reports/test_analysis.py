"""Analysis on records made by hand, against what can be worked out on paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from harness.results.tables import Results
from harness.statistics.intervals import proportion_lower_bound
from harness.statistics.power import smallest_detectable_effect
from reports.analysis import all_learned, answer, coloured_curves, learned, scored_runs
from tests.reports.conftest import asking, of_others, set_scores

SCORES = {"2+10": (52.0, 53.0, 51.0), "6+6": (50.0, 51.5, 49.0), "10+2": (50.2, 51.3, 49.1)}


@pytest.fixture
def known(make: Callable[..., Results]) -> Results:
    """Scores of `SCORES`, and a floor at 30."""
    made = make({"2+10": 2.0, "6+6": 6.0, "10+2": 10.0}, floor="floor", control="6+6")
    for cell, scores in SCORES.items():
        set_scores(made, cell, scores)
    set_scores(made, "floor", (29.0, 30.0, 31.0))
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
    assert answer(asking(known, looks=2)).analysis.alpha == 0.025


def test_undecided_costs_the_seconds_of_all_compared_cells(known: Results) -> None:
    known = asking(known, equal_within=0.4)
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
    lacking = dataclasses.replace(known, runs=known.runs.drop(columns="message"))
    with pytest.raises(ValueError, match=r"lacks the column\(s\) message; it has: cell, "):
        answer(lacking)


def test_a_primary_score_that_nobody_has_is_said_of_every_run(known: Results) -> None:
    found = answer(asking(known, primary="retrieval/mean_recal"))
    assert found.missing[0] == "2+10, seed 0: done, but without this score"
    assert len(found.missing) == 12 and not found.verdicts


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
    known = asking(known, axis="no such column")
    assert list(scored_runs(known, answer(known))["axis"]) == list(known.runs["cell"])


def test_learned_compares_the_bound_with_chance(make: Callable[..., Results]) -> None:
    made = make({"a": 1.0}, control="a")
    one, other, _ = made.runs["run"]
    level = {"task": "validation", "level": "itm_accuracy", "items": 512, "chance": 2 / 3}
    rows = [level | {"run": one, "successes": 360}, level | {"run": other, "successes": 355}]
    table = learned(dataclasses.replace(made, levels=pd.DataFrame(rows)))
    assert list(table["run"]) == [one, other]  # the third has no level
    assert list(table["lower_bound"]) == [proportion_lower_bound(n, 512) for n in (360, 355)]
    assert list(table["share"]) == [360 / 512, 355 / 512]
    assert list(table["ok"]) == [True, False]  # 355 of 512 is above 2/3, its bound is not


def test_a_level_without_items_is_not_counted(known: Results) -> None:
    levels, first = known.levels.copy(), known.runs["run"].iloc[0]
    levels.loc[(levels["run"] == first) & (levels["task"] == "retrieval"), "items"] = 0
    table = learned(dataclasses.replace(known, levels=levels))
    assert list(table.loc[table["run"] == first, "task"]) == ["validation"]


def test_all_learned_needs_every_compared_run(known: Results) -> None:
    def holds(**tables: pd.DataFrame) -> bool:
        changed = dataclasses.replace(known, **tables)
        return all_learned(changed, learned(changed))

    assert holds()
    runs, levels, first = known.runs, known.levels, known.runs["run"].iloc[0]

    unfinished = runs.copy()
    unfinished.loc[unfinished["run"] == first, "status"] = "failed"
    assert not holds(runs=unfinished)
    assert not holds(levels=of_others(levels, first))  # no level at all shows nothing

    def at_chance(keys: list[str]) -> pd.DataFrame:
        recall = levels["run"].isin(keys) & (levels["level"] == "r_at_1")
        return levels.assign(successes=levels["successes"].where(~recall, 1))

    assert not holds(levels=at_chance([first]))
    assert holds(levels=at_chance(list(runs.loc[runs["role"] == "floor", "run"])))
    assert not holds(runs=runs.iloc[:0])


def test_a_floor_that_cannot_have_the_score_lacks_nothing(results: Results) -> None:
    rows = tuple(
        row.model_copy(update={"not_applicable": {"itm": "it has no fusion"}})
        if row.role == "floor"
        else row
        for row in results.study.rows
    )
    study = results.study.model_copy(update={"rows": rows, "primary": "validation/itm_loss"})
    floors = {row.cell for row in rows if row.role == "floor"}
    answered = answer(dataclasses.replace(results, study=study))
    assert floors and not any(line.startswith(tuple(floors)) for line in answered.missing)
