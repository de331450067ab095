"""The page of all studies, and where runs stand in MLflow's page."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.commands import options
from harness.commands.main import app
from harness.outputs.folder import study_file
from harness.results.links import links
from harness.results.tables import Results
from reports import index as indexing
from reports.index import Entry, entry, index
from tests.reports.conftest import asking


def test_an_entry_says_question_answer_cost_and_date(results: Results) -> None:
    asked = asking(results, question="Is 1 < 2?")
    text = index([entry(asked, date="2026-11-27", link="by_hand/page.html")])
    assert '<a href="by_hand/page.html">Is 1 &lt; 2?</a>' in text
    for words in ("are worse than 6+6 (−", "11 of 12 runs done", "2026-11-27", "Not tuned"):
        assert words in text
    assert text.count('class="plot"') == 1


def test_the_newest_study_comes_first() -> None:
    days = {"old": "2026-01-02", "new": "2026-11-02", "torn": ""}
    text = index([Entry(name=name, date=day, link="") for name, day in days.items()])
    assert text.index("<h2>new") < text.index("<h2>old") < text.index("<h2>torn")


def test_a_figure_that_fails_takes_no_study_with_it(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(*_: object) -> None:
        raise RuntimeError("a figure of a user's own")

    monkeypatch.setattr(indexing, "figure", raising)
    assert entry(results, date="", link="").picture is None


def test_the_command_writes_every_study_and_opens_the_page(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[str] = []
    monkeypatch.setattr(options.webbrowser, "open", lambda page: pages.append(page) or True)
    results.study.write(study_file(tmp_path, "by_hand"))
    trials = results.study.model_copy(update={"name": "by_hand-tuning"})
    trials.write(study_file(tmp_path, "by_hand-tuning"))
    torn = study_file(tmp_path, "torn")
    torn.parent.mkdir()
    torn.write_text("{")
    done = CliRunner().invoke(app, ["index", "--open", "--outputs", str(tmp_path)])
    assert done.exit_code == 0 and "2 studies: " in done.output
    page = tmp_path / "reports" / "index.html"
    assert pages == [page.as_uri()]
    text = page.read_text()
    assert "Does the split of layers matter?" in text and "by_hand-tuning" not in text
    assert "No verdict on " in text and "fuselab report by_hand" in text
    assert "torn" in text and "is damaged" in text and "run the study again" in text


def test_no_study_no_page(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["index", "--outputs", str(tmp_path)])
    assert done.exit_code == 2 and not (tmp_path / "reports").exists()


def test_runs_have_their_address_in_mlflows_page(tmp_path: Path) -> None:
    assert links(tmp_path, "demo") == {}
    (tmp_path / "mlflow.db").write_text("no database")
    assert links(tmp_path, "demo") == {}
    (tmp_path / "mlflow.db").unlink()
    store = sqlite3.connect(tmp_path / "mlflow.db")
    store.executescript("""
        CREATE TABLE experiments (experiment_id, name);
        CREATE TABLE runs (run_uuid, experiment_id, lifecycle_stage);
        CREATE TABLE tags (key, value, run_uuid);
        INSERT INTO experiments VALUES (1, 'demo'), (2, 'other');
        INSERT INTO runs VALUES ('r1', 1, 'active'), ('r2', 2, 'active'), ('r3', 1, 'deleted');
        INSERT INTO tags VALUES ('fuselab.run', 'aa', 'r1'), ('fuselab.run', 'aa', 'r2'),
            ('fuselab.run', 'bb', 'r3'), ('fuselab.cell', '6+6', 'r1');
    """)
    store.close()
    assert links(tmp_path, "demo") == {"aa": "http://127.0.0.1:5000/#/experiments/1/runs/r1"}
