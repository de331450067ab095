"""Tables of ways and of parts, from results made by hand."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from harness.results.tables import Results
from reports.analysis import Answer, answer
from reports.ways import variance_parts, ways
from tests.reports.conftest import asking

VALIDATION = "validation/itm_accuracy"


@pytest.fixture
def close(make: Callable[..., Results]) -> Results:
    """Three cells at three seeds whose validation scores lie close together."""
    results = make({"6+6": 6.0, "2+10": 2.0, "10+2": 10.0}, control="6+6")
    rng = np.random.default_rng(4)
    scores = pd.DataFrame(
        [
            {"run": run, "task": task, "score": name, "protocol": "", "value": value,
             "higher_is_better": True, "unit": unit}
            for run in results.runs["run"]
            for task, name, value, unit in (
                ("validation", "itm_accuracy", 94 + 2 * rng.normal(), "percent"),
                ("validation", "seconds_validation", 12.0, "seconds"),
            )
        ]
    )  # fmt: skip
    counts = {"task": "validation", "level": "itm_accuracy", "successes": 480, "items": 512}
    levels = pd.DataFrame([{"run": run, **counts, "chance": 0.5} for run in results.runs["run"]])
    made = dataclasses.replace(
        results, levels=levels, scores=pd.concat([results.scores, scores], ignore_index=True)
    )
    return asking(made, primary=VALIDATION, equal_within=0.5)


def test_parts_come_from_counts_and_from_the_validation_curve(close: Results) -> None:
    answered = answer(close)
    table = variance_parts(close, [answered]).set_index("part")
    assert list(table.columns) == ["endpoint", "share", "sd", "note"]
    assert table["share"].sum() == pytest.approx(1)
    p = 480 / 512
    binomial = 1e4 * p * (1 - p) / 512 / answered.analysis.mse
    late = table.loc["late checkpoints", "share"]
    assert table.loc["items", "share"] == pytest.approx(min(binomial, 1 - late), rel=0.6)
    assert late > 0 and "at most" in table.loc["items", "note"]


def test_answers_to_single_items_are_used_where_they_are_given(close: Results) -> None:
    rng = np.random.default_rng(0)
    items = {VALIDATION: 100 * (rng.uniform(size=(3, 3, 512)) < 0.94)}
    table = variance_parts(close, [answer(close)], items)
    assert "single items" in table["note"].iloc[0]


def test_another_task_has_no_late_part_and_an_unknown_one_is_said_so(close: Results) -> None:
    results = asking(close, primary="retrieval/mean_recall")
    table = variance_parts(results, [answer(results)]).set_index("part")
    assert table["share"].to_dict() == {"items": 0, "late checkpoints": 0, "design x seed": 1}
    assert table.loc["items", "note"].startswith("not known")


def test_every_endpoint_has_its_ways(close: Results) -> None:
    second = asking(close, primary="retrieval/mean_recall", equal_within=0.01)
    answers: list[Answer] = [answer(close), answer(second)]
    table = ways(close, answers)
    assert list(table.columns) == [
        "endpoint", "cell", "way", "what", "device_hours", "chance", "note", "recommended",
    ]  # fmt: skip
    own = table[(table["endpoint"] == VALIDATION) & (table["cell"] == "2+10")].set_index("way")
    assert {"more seeds", "more items", "late checkpoints", "longer training"} <= set(own.index)
    seconds = close.runs.groupby("cell")["ledger.device_seconds"].mean().sum()
    more = int(own.loc["more seeds", "what"].split()[0])
    assert own.loc["more seeds", "device_hours"] == pytest.approx(more * seconds / 3600)
    factor = int(own.loc["more items", "what"].split()[0])
    assert own.loc["more items", "device_hours"] == pytest.approx((factor - 1) * 9 * 12 / 3600)
    firsts = table.groupby(["endpoint", "cell"]).head(1)
    assert firsts["recommended"].all() and table["recommended"].sum() == len(firsts)


def test_where_nothing_is_undecided_the_table_is_empty(close: Results) -> None:
    wide = asking(close, equal_within=1000.0)
    assert ways(wide, [answer(wide)]).empty


def test_runs_without_times_curves_and_levels_still_have_ways(close: Results) -> None:
    bare = dataclasses.replace(
        close,
        runs=close.runs.drop(columns=[c for c in close.runs if c.startswith("ledger.")]),
        curves=close.curves.iloc[:0],
        levels=close.levels.iloc[:0],
        scores=close.scores[close.scores["unit"] != "seconds"],
    )
    table = ways(bare, [answer(bare)])
    assert set(table["way"]) <= {"more seeds", "fewer cells", "none"}
    assert table["device_hours"].isna().all()


def test_a_report_that_was_read_with_fewer_seeds_costs_alpha(close: Results) -> None:
    plain = answer(close)
    assert (plain.undeclared, plain.seeds) == ("", 3)
    again = answer(dataclasses.replace(close, read_at=(3,)))
    assert (again.analysis.alpha, again.undeclared) == (0.05, "")
    later = answer(dataclasses.replace(close, read_at=(2,)))
    assert later.analysis.looks == (2, 3) and later.analysis.alpha < 0.04
    assert later.undeclared.startswith("read at 2 seeds, now 3: not a declared look")
    declared = asking(dataclasses.replace(close, read_at=(2,)), looks=(2, 3))
    assert answer(declared).undeclared == ""
    assert math.isclose(answer(declared).analysis.alpha, later.analysis.alpha)
