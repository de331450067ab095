"""Answers, tables and sentences over several endpoints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from harness.results.tables import Endpoint, Results
from harness.statistics.blocked import analyse
from reports.analysis import answer, answers
from reports.build import build
from reports.endpoints import (
    CANNOT,
    CONTRASTS,
    LOOK,
    NO_SCORE,
    contrasts,
    endpoint_table,
    verdict_table,
)
from reports.page.sentences import all_sentences
from tests.reports.conftest import asking, set_scores

RECALL = Endpoint(score="retrieval/mean_recall", equal_within=1.0)
LOSS = Endpoint(score="validation/itm_loss", equal_within=0.05)
RECALLS = {"2+10": (72.0, 73.0, 71.0), "6+6": (50.0, 51.5, 49.0), "10+2": (50.2, 51.3, 49.1)}
LOSSES = {"2+10": (0.30, 0.31, 0.33), "6+6": (0.5, 0.52, 0.53), "10+2": (0.8, 0.83, 0.82)}


@pytest.fixture
def two(make: Callable[..., Results]) -> Results:
    """Recall and a loss of three cells; the floor, without fusion, cannot have the loss."""
    made = make({"2+10": 2.0, "6+6": 6.0, "10+2": 10.0}, floor="floor", control="6+6")
    for cell, scores in RECALLS.items():
        set_scores(made, cell, scores)
    runs = made.runs.set_index(["cell", "seed"])["run"]
    losses = [
        {"run": runs[cell, seed], "task": "validation", "score": "itm_loss", "protocol": "",
         "value": value, "higher_is_better": False, "unit": "nats"}
        for cell, values in LOSSES.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip
    made = dataclasses.replace(made, scores=pd.concat([made.scores, pd.DataFrame(losses)]))
    return asking(made, endpoints=(RECALL, LOSS))


def kinds(results: Results) -> list[dict[str, str]]:
    return [{cell: v.kind for cell, v in a.verdicts.items()} for a in answers(results)]


def test_every_endpoint_has_its_verdicts_at_a_shared_level(two: Results) -> None:
    assert kinds(two) == [
        {"2+10": "better", "10+2": "equal"},
        {"2+10": "better", "10+2": "worse"},  # of a loss less is better
    ]
    recall, loss = answers(two)
    assert answer(two) == recall
    assert (recall.unit, loss.unit) == ("percent", "nats")
    # On the loss all differ, so that recall has the whole error rate.
    assert (recall.analysis.alpha, loss.analysis.alpha) == (0.05, 0.025)
    assert loss.residual_sd == pytest.approx(math.sqrt(loss.analysis.mse))
    assert loss.missing == () and loss.cannot_have == {"floor"}


def test_one_endpoint_is_the_primary_score(two: Results) -> None:
    alone = answers(asking(two, endpoints=()))
    declared = answers(asking(two, endpoints=(RECALL,)))
    scores = {cell: dict(enumerate(values)) for cell, values in RECALLS.items()}
    assert alone[0].analysis == declared[0].analysis == analyse(scores, "6+6")
    assert len(alone) == 1 and alone[0].verdicts == declared[0].verdicts


def test_an_order_leaves_what_comes_later_unjudged(two: Results) -> None:
    ordered = asking(two, endpoint_order="ordered")
    assert kinds(ordered) == [
        {"2+10": "better", "10+2": "equal"},
        {"2+10": "better", "10+2": "undecided"},
    ]
    short = answers(ordered)[1].verdicts["10+2"].short
    assert short == "not judged: retrieval mean recall comes first and shows no difference"


def test_a_cell_that_cannot_have_an_endpoint_lacks_nothing(two: Results) -> None:
    why = {"itm": "it has no fusion"}
    rows = tuple(
        row.model_copy(update={"not_applicable": why}) if row.cell == "10+2" else row
        for row in two.study.rows
    )
    gone = two.scores["run"].isin(two.runs.loc[two.runs["cell"] == "10+2", "run"])
    gone &= two.scores["score"] == "itm_loss"
    lacking = asking(dataclasses.replace(two, scores=two.scores[~gone]), rows=rows)
    _, loss = answers(lacking)
    assert loss.missing == () and list(loss.verdicts) == ["2+10"]
    table = contrasts(lacking, answers(lacking)).set_index(["endpoint", "cell"])
    assert table.loc[(LOSS.score, "10+2"), "short"] == CANNOT
    assert math.isnan(table.loc[(LOSS.score, "10+2"), "delta"])
    lost = asking(dataclasses.replace(two, scores=two.scores[~gone]))
    assert contrasts(lost, answers(lost))["short"].iloc[-1] == NO_SCORE
    assert len(answers(lost)[1].missing) == 3


def test_the_contrasts_are_a_row_for_each_endpoint_and_cell(two: Results) -> None:
    answered = answers(two)
    table = contrasts(two, answered)
    assert set(CONTRASTS) - set(LOOK) <= set(table) <= set(CONTRASTS)
    places = zip(table["endpoint"], table["order"], table["cell"], strict=True)
    assert list(places) == [
        (RECALL.score, 0, "2+10"), (RECALL.score, 0, "10+2"), (LOSS.score, 1, "2+10"),
        (LOSS.score, 1, "10+2"),
    ]  # fmt: skip
    last, contrast = table.iloc[-1], answered[1].analysis.contrasts[-1]
    for name in ("delta", "se", "lower", "upper", "p_adjusted", "seeds"):
        assert last[name] == getattr(contrast, name)
    assert (last["level"], last["region"], last["verdict"]) == (0.975, 0.05, "worse")
    assert (last["higher_is_better"], last["unit"], last["role"]) == (False, "nats", "compared")
    assert table.groupby("cell")["colour"].nunique().eq(1).all()
    wide = verdict_table(table)
    assert list(wide) == ["cell", RECALL.score, LOSS.score]
    assert wide.loc[1, LOSS.score].startswith("worse +0.300 [+0.2")


def test_the_endpoints_say_what_they_could_see(two: Results) -> None:
    table = endpoint_table(answers(two)).set_index("endpoint")
    assert list(table["better"]) == ["higher", "lower"]
    assert list(table["level"]) == [0.95, 0.975]
    assert (table["f_p"] < 0.001).all() and (table["detectable"] > table["residual_sd"]).all()


@pytest.mark.usefixtures("without_figures")
def test_the_report_says_every_endpoint(two: Results, tmp_path: Path) -> None:
    first, *others = all_sentences(answers(two))
    assert first.startswith("On retrieval mean recall, 2+10 is better than 6+6 (")
    assert "; 10+2 is equal to 6+6 within 1 (" in first
    (second,) = [line for line in others if line.startswith("On ")]
    assert second.startswith("On validation itm loss (lower is better), 2+10 is better than 6+6 (−")
    assert "; 10+2 is worse than 6+6 (+" in second
    made = build(two, tmp_path / "r")
    assert second in made.page.read_text() and len(made.answers) == 2
    assert list(made.verdicts["cell"]) == ["2+10", "10+2"]
    assert list(pd.read_csv(tmp_path / "r" / "endpoints.csv")["endpoint"]) == [
        RECALL.score,
        LOSS.score,
    ]
    assert len(pd.read_csv(tmp_path / "r" / "contrasts.csv")) == 4
