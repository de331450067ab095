"""The page says what the verdicts say, safely, alone, and at any width."""

from __future__ import annotations

import dataclasses
import html
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.results.pairing import Finding
from harness.results.tables import CellChoice, Results
from reports.analysis import answer
from reports.build import Report, build
from reports.facts import Facts
from reports.page.page import page
from reports.page.sentences import certainty, sentences
from tests.reports.conftest import set_scores

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
    assert "2+10 and 10+2 are worse than 6+6" in text
    assert "dual encoder: itm, because it has no fusion" in text
    assert "Not every compared run is done" in text


def test_what_a_reader_should_know_is_there(results: Results) -> None:
    study = results.study.model_copy(update={"notes": ("the final weights are <a mean>",)})
    noted = dataclasses.replace(results, study=study)
    assert "the final weights are &lt;a mean&gt;" in page(noted, Facts.of(noted), [])


def test_text_is_escaped(text: str) -> None:
    assert "loss &lt;nan&gt; at step 120 &amp; gone" in text
    assert "<nan>" not in text and "<script" not in text


def test_names_nothing_outside_itself(text: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|<link", text)
    sources = re.findall(r"(?:src|href|url)\s*[=(]\s*\"?([^\s\"]{10})", text)
    assert sources and set(sources) == {"data:image"}


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
    tuned = build(results, tmp_path / "tuned", tuning={"6+6": TUNED})
    assert "<h2>Tuning</h2>" in tuned.page.read_text()
    assert "<h2>Tuning</h2>" not in build(results, tmp_path / "not", tuning={}).page.read_text()
    assert "0.00123" in (tmp_path / "tuned" / "tuning.csv").read_text()


def test_sentences_are_no_stronger_than_the_verdicts(make: Callable[..., Results]) -> None:
    made = make({"a": 1.0, "b": 2.0, "c": 3.0}, control="b")
    for cell, scores in {"a": (50, 52, 51), "b": (51, 50, 52), "c": (50.0, 52, 51)}.items():
        set_scores(made, cell, scores)
    first, second, third = sentences(answer(made), 3)
    assert first == "On retrieval mean recall, no cell is shown to differ from b."
    assert second.startswith("Undecided: a and c (") and "80% chance of being found" in third
    made.runs.loc[made.runs["cell"] != "b", "status"] = "failed"
    none = "No verdict: the control is b, and no other cell has a score to compare."
    assert sentences(answer(made), 3) == [none, "6 runs gave no score and are left out."]
    made.runs["status"] = "failed"
    assert "and it has no score to compare" in sentences(answer(made), 3)[0]


@pytest.mark.slow
def test_nothing_is_wider_than_a_phone(make: Callable[..., Results], tmp_path: Path) -> None:
    """Chromium lays the page out at 390 px; its widest element must fit, scroll boxes apart."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("no chromium on this machine to lay the page out")
    names = {f"split_bert text_layers={k}": float(k) for k in range(13)}
    made = make(names, seeds=5, floor="dual_encoder", control="split_bert text_layers=6")
    written = build(made, tmp_path / "wide").page
    # A frame, because a headless window is never narrower than 500 px.
    probe = "document.title = this.contentDocument.documentElement.scrollWidth"
    frame = f'<iframe src="{written.as_uri()}" width="390" height="800" onload="{probe}"></iframe>'
    (tmp_path / "frame.html").write_text(f"<!doctype html><title>none</title>{frame}")
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--hide-scrollbars", "--allow-file-access-from-files",
    ]  # fmt: skip
    shown = subprocess.run(
        [
            chromium,
            *flags,
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=5000",
            "--dump-dom",
            (tmp_path / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "<title>390</title>" in shown, re.findall("<title>.*?</title>", shown)


@pytest.mark.usefixtures("without_figures")
def test_pairing_reaches_the_report(results: Results, tmp_path: Path) -> None:
    assert build(results, tmp_path / "r").pairing_ok
    results.digests.loc[0, "digest"] = "other batches"
    broken = build(results, tmp_path / "r")
    assert not broken.pairing_ok
    assert "Broken: seed 0: batches differ from step 250 on" in broken.page.read_text()
