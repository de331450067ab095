"""The page says what the verdicts say, safely and alone."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.outputs.records import TuningSpent
from harness.results.pairing import Finding
from harness.results.tables import CellChoice, Results
from reports.analysis import answer, answers
from reports.build import Report, build
from reports.facts import Facts
from reports.figures.allocation import caption
from reports.page import chapters
from reports.page.page import page
from reports.page.sentences import certainty, scale, sentences, tuned
from tests.reports.conftest import asking, set_scores

TUNED = CellChoice(
    trials=8, done=8, device_seconds=90.0, score=1.5, chosen={"optimizer.learning_rate": 0.00123}
)


@pytest.fixture
def text(report: Report) -> str:
    return report.page.read_text()


def test_says_the_question_the_verdicts_and_what_failed(text: str, results: Results) -> None:
    found = answer(results)
    for said in ("Does the split of layers matter?", *found.lines, *found.missing):
        assert html.escape(said) in text
    assert "2+10 and 10+2 are worse than 6+6 (−" in text
    assert "dual encoder: itm, because it has no fusion" in text
    assert "Not every compared run is done" in text


def test_what_a_reader_should_know_is_there(results: Results) -> None:
    study = results.study.model_copy(update={"notes": ("the final weights are <a mean>",)})
    noted = dataclasses.replace(results, study=study)
    assert "the final weights are &lt;a mean&gt;" in page(noted, Facts.of(noted), [])


def test_text_is_escaped(text: str) -> None:
    assert "loss &lt;nan&gt; at step 120 &amp; gone" in text
    assert "<nan>" not in text and text.count("<script") == 1


def test_names_nothing_outside_itself(text: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|<link", text)
    sources = re.findall(r"(?:src|href)=\"([^\"]*)|url\(([^)]*)", text)
    assert sources and all((one or other).startswith("#") for one, other in sources)
    assert "default-src 'none'" in text


def test_a_broken_pairing_is_loud(results: Results) -> None:
    fine, bad = Finding(ok=True, text="same data"), Finding(ok=False, text="seed 1 <differs>")
    facts = Facts.of(results)
    both = page(results, dataclasses.replace(facts, findings=(fine, bad)), [])
    assert "Holds: same data" in both and "Broken: seed 1 &lt;differs&gt;" in both
    assert "pairing certificate is broken" in both
    assert "pairing certificate is broken" not in page(
        results, dataclasses.replace(facts, findings=(fine,)), []
    )


@pytest.mark.usefixtures("without_figures")
def test_tuning_is_shown_where_there_is_some(results: Results, tmp_path: Path) -> None:
    written = build(results, tmp_path / "tuned", tuning={"6+6": TUNED})
    assert "<h2>Tuning</h2>" in written.page.read_text()
    assert "<h2>Tuning</h2>" not in build(results, tmp_path / "not", tuning={}).page.read_text()
    assert "0.00123" in (tmp_path / "tuned" / "tuning.csv").read_text()


def test_sentences_are_no_stronger_than_the_verdicts(make: Callable[..., Results]) -> None:
    made = make({"a": 1.0, "b": 2.0, "c": 3.0}, control="b")
    for cell, scores in {"a": (50, 52, 51), "b": (51, 50, 52), "c": (50.0, 52, 51)}.items():
        set_scores(made, cell, scores)
    first, second = sentences(answer(made))
    assert first == "On retrieval mean recall, no cell is shown to differ from b."
    assert second.startswith("Undecided: a and c (")
    assert "80% chance of being found" in certainty(answer(made))
    made.runs.loc[made.runs["cell"] != "b", "status"] = "failed"
    none = "the control is b, and no other cell has a score to compare."
    assert sentences(answer(made)) == [f"No verdict on retrieval mean recall: {none}"]
    made.runs["status"] = "failed"
    assert "and it has no score to compare" in sentences(answer(made))[0]
    assert certainty(answer(made)).startswith("Not at all")


def test_of_many_designs_some_are_named_with_a_range(make: Callable[..., Results]) -> None:
    made = make({f"k={k}": float(k) for k in range(9)}, seeds=5, control="k=4")
    for k in range(9):
        set_scores(made, f"k={k}", [50 - 9 * (k > 4) - k + s / (9 + k) for s in range(5)])
    first, *others = sentences(answer(made))
    assert "k=5, k=6, k=7 and k=8 are worse than k=4 (by −1" in first
    assert len(first) < 200 and not others
    for k in (0, 1, 2, 3):
        set_scores(made, f"k={k}", [49 - k / 3 + 3 * (-1) ** s for s in range(5)])
    (undecided,) = sentences(answer(made))[1:]
    assert undecided.startswith("Undecided: k=0, k=1, k=2 and k=3; ")
    assert "more seeds would probably decide" in undecided


def test_says_whether_designs_were_tuned_and_what_it_cost(results: Results) -> None:
    assert tuned(results).startswith("Not tuned")

    def with_trials(cells: set[str]) -> Results:
        rows = [
            row.model_copy(update={"tuning": TuningSpent(trials=8 * (row.cell in cells))})
            for row in results.study.rows
        ]
        return asking(results, rows=tuple(rows))

    assert tuned(with_trials({"2+10", "6+6", "10+2"})) == (
        "Tuned: every design tried 8 settings and runs with its best."
    )
    assert "favours them" in tuned(with_trials({"6+6"}))
    results.runs["ledger.tuning_seconds"] = 3600.0
    assert scale(results).endswith("device-hours, and 4 for tuning.")


@pytest.mark.usefixtures("without_figures")
def test_pairing_reaches_the_report(results: Results, tmp_path: Path) -> None:
    assert build(results, tmp_path / "r").pairing_ok
    results.digests.loc[0, "digest"] = "other batches"
    broken = build(results, tmp_path / "r")
    assert not broken.pairing_ok
    assert "Broken: seed 0: batches differ from step 250 on" in broken.page.read_text()


def test_no_text_says_that_more_is_better_where_less_is(results: Results) -> None:
    scores = results.scores.assign(higher_is_better=False)
    answered = answers(dataclasses.replace(results, scores=scores))
    text = " ".join([*chapters.method(answered, results.study), caption(results.runs[:0])])
    assert "above zero better" not in text and "on the side of zero that is better" in text
