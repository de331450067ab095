"""Tables beyond the verdicts, over studies made by hand."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from harness.outputs.folder import RunFolder
from harness.outputs.records import DamagedFile
from harness.outputs.tuning_records import TrialRecord
from harness.results.predictions import predictions_of
from harness.results.tables import Results
from reports import rows
from reports.analyses import TABLES, tables_of, where_the_best_lies
from reports.analysis import answer
from reports.factors import levels_of, places_of
from reports.rows import rankings_between, scores_of
from reports.second_opinions import (
    ITEM_DIFFERENCES,
    ITEMS,
    SECOND_OPINION,
    item_differences,
    items_of,
    second_opinions,
)
from tests.reports.conftest import asking, lost, set_scores

RECALL = "retrieval/mean_recall"
TWO = (RECALL, "retrieval/mean_recall_itc")


def crossed(make: Callable[..., Results]) -> Results:
    """Three splits with and without ITC: the split helps with ITC alone."""
    cells = {f"{k}{itc}": float(k) for k in (2, 6, 10) for itc in ("", " no ITC")}
    results = make(cells, control="6")
    alone = results.runs["cell"].str.endswith("no ITC")
    results.runs["config.text_layers"] = results.runs["text_layers"]
    results.runs["config.pooler"] = False
    results.runs["set.objectives.itc.weight"] = np.where(alone, 0.0, np.nan)
    rng = np.random.default_rng(0)
    for cell, layers in cells.items():
        set_scores(results, cell, 40 + rng.normal(size=3) + ("no" not in cell) * 3 * layers)
    settings = {**results.study.settings, "objectives": {"itc": {"weight": 1.0}}}
    return asking(results, settings=settings)


@pytest.fixture
def twelve(make: Callable[..., Results]) -> Results:
    return make({f"{k}+{12 - k}": float(k) for k in (0, 2, 4, 6, 8, 10, 12)}, control="6+6")


# -- all of them


def test_a_lost_run_moves_no_cell_in_the_order(make: Callable[..., Results]) -> None:
    """6 is one point ahead of 2 in every seed, and lacks the seed that is easy for both."""
    results = make({"2": 2.0, "6": 6.0, "10": 10.0}, control="2")
    easy = np.array([0.0, 5.0, 10.3])
    for cell, ahead in (("2", [0, 0.1, 0]), ("6", [1, 1, 1]), ("10", [-1, -1, -1.1])):
        set_scores(results, cell, 40 + easy + ahead)
    whole = tables_of(results, TWO)
    parts = tables_of(lost(results, [5]), TWO)
    for name, column in (("best", "mean"), ("pareto", "score")):
        before, after = (t[name][t[name]["endpoint"] == RECALL] for t in (whole, parts))
        assert after[column].to_numpy() == pytest.approx(before[column].to_numpy(), abs=0.1), name
    assert after["on_front"].tolist() == before["on_front"].tolist()
    goodness = rows.goodness_of(lost(results, [5]), RECALL)
    assert sorted(goodness, key=lambda cell: goodness[cell]) == ["10", "2", "6"]


def test_every_column_is_described_and_there(make: Callable[..., Results], twelve: Results) -> None:
    trials = [
        TrialRecord(cell="6", number=n, values={}, run="0", status="done", score=s, seconds=1.0)
        for n, s in enumerate((3.0, 1.0, 2.0))
    ]
    tables = tables_of(twelve, TWO, trials=trials) | tables_of(crossed(make), TWO)
    assert set(tables) | {"best_of_k"} == set(TABLES)
    for name, table in (tables_of(twelve, TWO, trials=trials) | tables).items():
        assert list(table.columns) == list(TABLES[name]) and len(table), name
        assert table.drop(columns=["estimate"], errors="ignore").notna().all().any(), name


def test_what_does_not_apply_says_why(results: Results) -> None:
    left_out = tables_of(results, [RECALL])["left_out"]
    assert set(left_out["table"]) == {"effects", "effect_means"}
    assert left_out["why"].unique().tolist() == ["two or three factors make a crossing, and 0 vary"]
    nothing = asking(results, axis="cell")
    why = tables_of(nothing, [RECALL])["left_out"].set_index("table")["why"]
    assert why["trend"] == "cells have no number on the axis cell"


def test_a_score_that_no_run_has_leaves_everything_out(results: Results) -> None:
    tables = tables_of(results, ["retrieval/nothing"])
    assert set(tables) <= {"left_out", "rankings"}
    assert "control" in tables["left_out"].set_index("table").loc["improvement", "why"]


def test_too_many_cells_make_too_many_pairs(
    twelve: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MOST_CELLS", 6)
    tables = tables_of(twelve, [RECALL])
    assert not {"all_pairs", "best"} & set(tables)
    assert "7 cells make 21 pairs" in tables["left_out"]["why"].iloc[0]


def test_floors_and_lost_runs_are_not_compared(results: Results) -> None:
    assert {cell: len(own) for cell, own in scores_of(results, RECALL).items()} == {
        "2+10": 3, "6+6": 3, "10+2": 2,
    }  # fmt: skip
    assert list(scores_of(results, RECALL, role="floor")) == ["dual encoder"]


# -- one by one


def test_pairs_with_the_control_are_wider_than_the_answers(results: Results) -> None:
    pairs = tables_of(results, [RECALL])["all_pairs"].set_index(["cell", "other"])
    for contrast in answer(results).analysis.contrasts:
        names = (contrast.design, "6+6")
        sign = 1 if names in pairs.index else -1
        pair = pairs.loc[names if sign == 1 else names[::-1]]
        assert pair["delta"] == pytest.approx(sign * contrast.delta)
        assert pair["upper"] - pair["lower"] > contrast.upper - contrast.lower
    assert (pairs["level"] == 0.95).all()


def test_the_interaction_shows(make: Callable[..., Results]) -> None:
    tables = tables_of(crossed(make), [RECALL])
    effects = tables["effects"].set_index("term")
    assert list(effects.index) == [
        "text_layers", "objectives.itc.weight", "text_layers × objectives.itc.weight",
    ]  # fmt: skip
    assert (effects["p_adjusted"] >= effects["p"]).all() and effects["p_adjusted"].max() < 1e-3
    means = tables["effect_means"]
    both = means[means["by"] == "objectives.itc.weight"].set_index(["level", "by_level"])["mean"]
    assert both["10", "1"] - both["2", "1"] > 20 > 3 > abs(both["10", "0"] - both["2", "0"])


def test_levels_of_other_designs_carry_their_cells_names(make: Callable[..., Results]) -> None:
    results = crossed(make)
    results.runs.loc[results.runs["cell"].str.startswith("10"), "design"] = "other"
    results.runs.loc[results.runs["cell"].str.startswith("10"), "config.text_layers"] = np.nan
    levels = levels_of(results, results.runs["cell"].unique())
    assert levels["10 no ITC"] == {"design": "10", "objectives.itc.weight": "0"}
    assert {own["design"] for own in levels.values()} == {"2", "6", "10"}


def test_the_trend_of_a_hill(twelve: Results) -> None:
    tables = tables_of(twelve, TWO)
    trend = tables["trend"].set_index(["endpoint", "test"])
    assert trend.loc[(RECALL, "bend"), "estimate"] == pytest.approx(-0.3, abs=0.1)
    assert trend.loc[(RECALL, "bend"), "p_adjusted"] < 1e-3 < trend.loc[(RECALL, "slope"), "p"]
    assert trend.loc[TWO[1], "p"].min() > 0.001  # noise alone
    curve = tables["trend_curve"].query("endpoint == @RECALL")
    top = curve["axis"].iloc[curve["fitted"].argmax()]
    assert 5 < top < 7 and (curve["lower"] < curve["fitted"]).all()
    best = tables["best"].query("endpoint == @RECALL").set_index("cell")
    assert best.loc["6+6", "may_be_best"] and not best.loc["0+12", "may_be_best"]
    assert best["axis"].tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert best["share_best"].sum() == pytest.approx(1)


def test_where_the_best_lies_in_words() -> None:
    def sentence(may_be_best: list[bool], axis: list[float]) -> str:
        best = pd.DataFrame({"cell": ["a", "b", "c"], "axis": axis, "may_be_best": may_be_best})
        return where_the_best_lies(
            best.assign(share_best=[0.25, 0.7, 0.05], level=0.95), "text_layers"
        )

    shown = " (with 95% confidence; descriptive: b in 70% of draws)."
    places = [8.0, 4.0, 6.0]
    assert sentence([True, True, True], places) == "Any cell may be the best" + shown
    assert (
        sentence([False, True, True], places)
        == "The best place in text layers lies between 4 and 6" + shown
    )
    assert sentence([True, True, False], places) == "The best cell is among b, a" + shown
    assert sentence([True, True, False], [math.nan] * 3) == "The best cell is among a, b" + shown
    assert sentence([False, True, False], places) == "The best cell is b" + shown
    assert where_the_best_lies(pd.DataFrame(), "text_layers") == ""


def test_only_the_controls_design_is_on_the_axis(twelve: Results) -> None:
    runs = twelve.runs
    runs.loc[runs["cell"] == "12+0", "design"] = "another"
    places = places_of(twelve, runs["cell"].unique())
    assert "12+0" not in places and places["2+10"] == 2


def test_lower_is_better_turns_what_it_must(results: Results) -> None:
    before = tables_of(results, TWO)
    scores = results.scores.assign(value=-results.scores["value"], higher_is_better=False)
    after = tables_of(dataclasses.replace(results, scores=scores), TWO)
    for name, column in (
        ("best", "may_be_best"),
        ("best", "share_best"),
        ("pareto", "on_front"),
        ("rankings", "coefficient"),
        ("improvement", "chance"),
    ):
        pd.testing.assert_series_equal(before[name][column], after[name][column])


def test_the_front_holds_floors_too(results: Results) -> None:
    pareto = tables_of(results, [RECALL])["pareto"]
    assert pareto["cost_name"].unique().tolist() == list(rows.COSTS)
    compute = pareto[pareto["cost_name"] == "forward FLOPs"].set_index("cell")
    assert compute.loc["dual encoder", "on_front"]  # the cheapest
    beaten = compute[~compute["on_front"]]
    assert (beaten["dominated_by"] != "").all()


def test_rankings_over_endpoints_and_studies(results: Results, twelve: Results) -> None:
    three = [*TWO, "retrieval/mean_recall_reranked"]
    rankings = tables_of(results, three)["rankings"]
    assert rankings["first"].tolist()[-1] == "all endpoints" and len(rankings) == 4
    alike = rankings[rankings["second"] == three[2]]
    assert alike["coefficient"].iloc[0] == pytest.approx(1)  # the score and its re-ranked form
    (shared,) = rankings_between(results, twelve, [RECALL])
    assert shared["cells"] == 3 and shared["first"] == f"by_hand: {RECALL}"


def test_the_best_of_k_trials_falls() -> None:
    trials = [
        TrialRecord(cell=c, number=n, values={}, run="0", status="done", score=s, seconds=1.0)
        for c, scores in {"a": (3.0, 1.0, 2.0), "b": (None, None)}.items()
        for n, s in enumerate(scores)
    ]
    table = pd.DataFrame(rows.best_of_k_rows(trials))
    assert table["cell"].tolist() == ["a"] * 3
    assert table["score"].tolist() == pytest.approx([2, 4 / 3, 1])


# -- item by item, and earlier studies


def answers(run: str, task: str) -> Mapping[str, npt.NDArray[np.float64]]:
    """Forty items; the control's runs, 01..., have every second one right, others every fourth."""
    step = 2 if run.startswith("01") else 4
    right = (np.arange(40) % step == 0).astype(float)
    return {"right": right, "margin": right - 0.25} if task == "pairs" else {}


def test_items_are_compared_within_each_seed(results: Results) -> None:
    table = items_of(results, "pairs", answers)
    assert list(table.columns) == list(ITEMS) and set(table["measure"]) == {"right"}
    assert list(zip(table["cell"], table["seed"], strict=True)) == [
        *itertools.product(["2+10"], range(3)), *itertools.product(["10+2"], range(2)),
    ]  # fmt: skip
    assert (table["only_cell"] == 0).all() and (table["only_control"] == 10).all()
    assert table["p"].tolist() == pytest.approx([2 / 2**10] * 5)
    assert items_of(results, "words", answers).empty


def test_items_and_seeds_are_drawn_again(results: Results) -> None:
    table = item_differences(results, "pairs", answers).set_index(["cell", "measure"])
    assert [table.index.names, *table.columns] == [["cell", "measure"], *(
        name for name in ITEM_DIFFERENCES if name not in ("cell", "measure")
    )]  # fmt: skip
    row = table.loc["10+2", "margin"]
    assert (row["difference"], row["seeds"], row["items"]) == (-0.25, 2, 40)
    assert row["lower"] < -0.25 < row["upper"] < 0


def test_predictions_come_from_the_run_folder(tmp_path: Path) -> None:
    file = RunFolder(tmp_path, "0" * 16).score_file("pairs").with_suffix(".npz")
    assert predictions_of(tmp_path, "0" * 16, "pairs") == {}
    file.parent.mkdir(parents=True)
    np.savez_compressed(file, right=np.ones(3, "f4"), logits=np.ones((3, 2)), label=np.ones(3, int))
    kept = predictions_of(tmp_path, "0" * 16, "pairs")
    assert kept.keys() == {"right"} and kept["right"].dtype == float
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DamagedFile, match=r"pairs\.npz is damaged"):
        predictions_of(tmp_path, "0" * 16, "pairs")


def test_earlier_studies_give_a_second_opinion(
    results: Results, make: Callable[..., Results]
) -> None:
    earlier = []
    for number, spread in enumerate((0.5, 1.0, 3.0, 1.5)):
        study = make({"a": 2.0, "b": 6.0}, control="a", seeds=4)
        for cell in "ab":
            noise = np.random.default_rng([number, ord(cell)]).normal(size=4)
            set_scores(study, cell, 30 + spread * noise)
        earlier.append(study)
    table = second_opinions(results, earlier, RECALL)
    assert list(table.columns) == list(SECOND_OPINION) and table["cell"].tolist() == [
        "2+10", "10+2",
    ]  # fmt: skip
    assert 0.3 < table["prior_sd"].iloc[0] < 3 and math.isfinite(table["p_adjusted"].iloc[0])
    with pytest.raises(ValueError, match="three earlier studies"):
        second_opinions(results, earlier[:2], RECALL)
