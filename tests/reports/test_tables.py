"""Tables by records whose numbers are known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pandas as pd
import pytest

from harness.results.tables import CellChoice, Results
from reports import tables
from reports.analysis import answer, learned
from reports.page.sentences import scale
from tests.reports.conftest import set_scores


@pytest.fixture
def compared(results: Results) -> pd.DataFrame:
    return tables.comparison(results, answer(results)).set_index("cell")


def test_counts_failures_and_statuses(compared: pd.DataFrame) -> None:
    row = compared.loc["10+2"]
    assert (row["seeds_done"], row["seeds_asked"], row["not_done"]) == (2, 3, "1 diverged")
    assert compared.loc["6+6", "not_done"] == ""


def test_means_and_sds_over_finished_runs(results: Results, compared: pd.DataFrame) -> None:
    scores = results.values("retrieval/mean_recall")[results.runs["cell"] == "6+6"]
    assert compared.loc["6+6", "score"] == pytest.approx(scores.mean())
    assert compared.loc["6+6", "score_sd"] == pytest.approx(scores.std(ddof=1))
    assert compared.loc["6+6", "score_reranked"] == compared.loc["6+6", "score"]
    floor = compared.loc["dual encoder"]
    assert math.isnan(floor["score_reranked"]) and floor["score"] == floor["score_itc"]
    assert floor["protocol"] == "ITC alone"


def test_costs_are_ratios_to_the_control(compared: pd.DataFrame) -> None:
    assert compared.loc["6+6", "parameters_ratio"] == 1
    assert compared.loc["2+10", "parameters_ratio"] == pytest.approx(860 / 780)
    assert not any("second" in name for name in compared), "machine load is no cost of a design"


def test_verdicts_in_words(results: Results, compared: pd.DataFrame) -> None:
    assert compared.loc["6+6", "verdict"] == "control"
    assert compared.loc["dual encoder", "verdict"] == "floor, not tested"
    assert compared.loc["2+10", "verdict"] == "worse"
    results.runs.loc[results.runs["cell"] == "2+10", "status"] = "failed"
    again = tables.comparison(results, answer(results)).set_index("cell")
    assert again.loc["2+10", "verdict"] == "no score to compare"
    assert again.loc["2+10", "not_done"] == "3 failed"


def test_equal_but_not_zero_is_said(make: Callable[..., Results]) -> None:
    made = make({"a": 1.0, "b": 2.0}, seeds=5, control="b")
    set_scores(made, "b", [50.0, 51.0, 52.0, 53.0, 54.0])
    set_scores(made, "a", [50.5, 51.52, 52.49, 53.51, 54.5])
    table = tables.comparison(made, answer(made)).set_index("cell")
    assert table.loc["a", "verdict"] == "equal within 1, although not zero"


def test_ledger_means_and_sums(results: Results) -> None:
    results.runs["ledger.attempts"] = [1.0, 2, 3] * 4
    results.runs["ledger.tuning_trials"] = 8.0  # of the cell, on each of its three rows
    table = tables.ledger(results.runs).set_index("cell")
    assert table.loc["6+6", "train_seconds"] == 46
    assert table.loc["6+6", "attempts"] == 6
    assert table.loc["6+6", "tuning_trials"] == 8
    assert table.loc["10+2", "runs"] == 2


def test_scores_hold_every_task_score_once(results: Results) -> None:
    table = tables.scores(results)
    names = ("i2t_r_at_1", "mean_recall", "mean_recall_itc", "mean_recall_reranked")
    columns = [f"retrieval/{name}{end}" for name in names for end in ("", "_sd")]
    assert list(table) == ["cell", *columns]
    first = results.scores[results.scores["score"] == "i2t_r_at_1"]
    more = [first.assign(score=f"i2t_r_at_{k}", value=0.5) for k in (10, 5)]
    wider = dataclasses.replace(results, scores=pd.concat([results.scores, *more]))
    ranks = [c for c in tables.scores(wider) if "r_at" in c and "_sd" not in c]
    assert ranks == [f"retrieval/i2t_r_at_{k}" for k in (1, 5, 10)]


def test_shown_is_text_and_leaves_numbers_alone(results: Results) -> None:
    found = answer(results)
    numbers = tables.comparison(results, found)
    before = numbers.copy()
    text = tables.shown(numbers).set_index("cell")
    pd.testing.assert_frame_equal(numbers, before)
    assert text.map(lambda value: isinstance(value, str)).all(axis=None)
    assert text.loc["10+2", "seeds done"] == "2 of 3 (1 diverged)"
    assert text.loc["2+10", "parameters"] == "860 k (×1.10)"
    contrast = found.analysis.contrasts[0]
    interval = f"{contrast.delta:+.2f} [{contrast.lower:+.2f}, {contrast.upper:+.2f}]"
    assert text.loc["2+10", "difference to control"] == interval
    assert text.loc["6+6", "difference to control"] == "–"
    levels = tables.shown(learned(results))
    assert levels["share"].iloc[0] == "7.8%" and set(levels["above chance"]) == {"yes"}


def test_a_level_at_its_blind_floor_is_no_evidence_of_binding() -> None:
    table = pd.DataFrame(
        {
            "level": ["caption_blind_floor", "caption_blind_floor", "caption"],
            "ok": [False, True, False],
        }
    )
    said = tables.shown(table)["above chance"].tolist()
    assert said == ["NO: not evidence of binding", "yes", "NO"]


def test_one_seed_has_a_difference_without_an_interval(make: Callable[..., Results]) -> None:
    made = make({"a": 1.0, "b": 2.0}, seeds=1, control="b")
    row = tables.shown(tables.comparison(made, answer(made))).set_index("cell").loc["a"]
    assert "nan" not in " ".join(row) and "[" not in row["difference to control"]
    assert "share one seed" in row["verdict"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (250, "250"),
        (0.0123, "0.0123"),
        (1113.4, "1113"),
        (16_000, "16 k"),
        (3.456e8, "346 M"),
        (1e12, "1 T"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    table = pd.DataFrame({"steps": [value]})
    assert tables.shown(table).iloc[0, 0] == text


def test_tuning_choices() -> None:
    cost = {"trials": 8, "done": 7, "device_seconds": 90.0}
    choice = CellChoice(**cost, score=1.5, chosen={"optimizer.learning_rate": 1e-3})
    table = tables.tuning_choices({"6+6": choice})
    assert table.to_dict("records") == [
        {"cell": "6+6", **cost, "lowest_score": 1.5, "optimizer.learning_rate": 1e-3}
    ]


def test_the_whole_study_is_the_sum_of_its_runs(results: Results) -> None:
    runs = results.runs
    runs["ledger.tuning_seconds"] = 30.0  # of the cell, on each of its rows
    runs["ledger.finetuning_seconds"] = 1800.0
    runs.loc[runs["seed"] == 1, "status"] = "failed"
    twice = pd.concat([runs, runs.iloc[:1].assign(cell="6+6 again")])  # shares a run
    (row,) = tables.study_ledger(twice).to_dict("records")
    assert (row["runs_done"], row["runs_asked"]) == ((runs["status"] == "done").sum(), len(runs))
    assert row["flops"] == runs["ledger.flops"].sum()
    assert row["tuning_seconds"] == 30.0 * twice["cell"].nunique()
    assert row["finetuning_seconds"] == 1800.0 * len(runs) and "energy_joules" not in row
    hours = 0.5 * len(runs)
    assert f", and {hours:.2g} for fine-tuning, and 0.0" in scale(results)
