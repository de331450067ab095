"""The report's folder: whole, the same every time, and made without torch."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from harness.results.tables import Results
from reports import build as building
from reports.build import Report, build


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_writes_page_figures_and_tables(report: Report) -> None:
    names = {path.name for path in report.files}
    assert report.page.name == "page.html" and report.page in report.files
    assert names == set(contents(report.page.parent))
    assert {"allocation.png", "curves.svg", "cost.png", "comparison.csv", "ledger.csv"} <= names
    assert len(report.answer.lines) == 2
    assert not report.learned_ok  # one run diverged
    table = pd.read_csv(report.page.with_name("comparison.csv")).set_index("cell")
    assert table.loc["2+10", "parameters"] == 860_000  # numbers, not text
    assert list(report.page.parent.parent.iterdir()) == [report.page.parent]


def test_the_same_results_give_the_same_bytes(
    report: Report, results: Results, tmp_path: Path
) -> None:
    build(results, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(report.page.parent)


@pytest.mark.usefixtures("without_figures")
def test_replaces_the_report_before_it(results: Results, tmp_path: Path) -> None:
    first = build(results, tmp_path / "r")
    (first.folder / "old.csv").write_text("of an earlier version")
    assert build(results, tmp_path / "r").page == first.page
    assert not (first.folder / "old.csv").exists()


@pytest.mark.usefixtures("without_figures")
def test_a_failure_leaves_the_old_report(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(results, tmp_path / "r")
    before = contents(tmp_path / "r")

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(building.Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        build(results, tmp_path / "r")
    monkeypatch.undo()
    assert contents(tmp_path / "r") == before
    assert list(tmp_path.iterdir()) == [tmp_path / "r"]


@pytest.mark.usefixtures("without_figures")
def test_never_replaces_a_folder_that_is_no_report(results: Results, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="is not a report"):
        build(results, tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_words_are_shown_as_written(
    make: Callable[..., Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dollars are no mathematics, brackets no markup, and `=` begins no formula."""
    drawn = [p for p in building.pictures() if p.name in ("allocation", "forest", "curves")]
    monkeypatch.setattr(building, "pictures", lambda: drawn)
    names = {"$5 vs $6": 2.0, "$\\frac{1}$": 6.0, "=1+1 [red]": 10.0}
    report = build(make(names, control="$5 vs $6"), tmp_path / "report")
    page = report.page.read_text()
    assert not report.not_drawn and all(name in page for name in names)
    rows = (report.folder / "runs.csv").read_text().splitlines()
    assert any("'=1+1 [red]" in row for row in rows)


@pytest.mark.usefixtures("without_figures")  # test_figures.py draws them
def test_a_study_that_only_waits_has_a_report(results: Results, tmp_path: Path) -> None:
    ledger = {c: float("nan") for c in results.runs if c.startswith("ledger.")}
    unknown = dict.fromkeys(("text_layers", "code", "commit", "libraries", "device"))
    names = ("scores", "levels", "curves", "digests")
    waits = dataclasses.replace(
        results,
        runs=results.runs.assign(status="waiting", **unknown, **ledger),
        **{name: getattr(results, name).iloc[:0] for name in names},
    )
    report = build(waits, tmp_path / "r")
    assert report.answer.lines == () and not report.learned_ok
    assert "12 runs gave no score" in report.page.read_text()


@pytest.mark.usefixtures("without_figures")
def test_cells_of_one_graph_share_a_picture(results: Results, tmp_path: Path) -> None:
    def drawing(layers: int, **changed: object) -> dict[str, object]:
        names = ["embeddings", *(f"layers.{j}" for j in range(layers))]
        nodes = [
            {"id": name, "kind": "layer" if "." in name else name, "phase": "text", "width": 64}
            | {"slot": name, "source": "fresh"}
            for name in names
        ]
        edges = [{"from": a, "to": b, "as": "input"} for a, b in itertools.pairwise(names)]
        return {"design": "own", "changed": changed, "nodes": nodes, "edges": edges}

    old = {"design": "old", "nodes": [{"id": "layers.0", "kind": "layer"}], "edges": []}
    graphs = {"2+10": drawing(2), "6+6": drawing(6), "10+2": drawing(2, rate=3), "floor": old}
    drawn = building.diagrams(graphs)
    assert [one.cells for one in drawn] == [("2+10", "10+2"), ("6+6",)]
    text = build(dataclasses.replace(results, graphs=graphs), tmp_path / "r").page.read_text()
    assert "<b>2+10, 10+2</b> (own)" in text and text.count(' as a diagram"') == 2
    assert 'label="2+10, 10+2 as a diagram"' in text
    assert ">Designs</h2>" not in build(results, tmp_path / "none").page.read_text()


def test_a_report_loads_neither_torch_nor_ray_nor_mlflow() -> None:
    heavy = ("torch", "ray", "mlflow", "matplotlib.pyplot", "transformers", "optuna")
    code = f"import sys, reports.build; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_figure_that_fails_is_said_and_takes_no_other_with_it(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = building.pictures()

    def draw(table: pd.DataFrame) -> Figure:
        return table["no such column"]

    lacking = dataclasses.replace(first, name="lacking", needs=("config.nothing",))
    raising = dataclasses.replace(
        first, name="raising", needs=(), beside=(), draw=draw, file=__file__
    )
    monkeypatch.setattr(building, "pictures", lambda: (lacking, raising, others[-1]))
    made = build(results, tmp_path / "r")
    lines = made.not_drawn
    assert len(lines) == 2 and "lacks the column(s) config.nothing; it has: " in lines[0]
    line = draw.__code__.co_firstlineno + 1
    assert f"figure 'raising' is not drawn: {__file__}:{line}: KeyError: 'no such" in lines[1]
    names = {path.name for path in made.files}
    assert f"{others[-1].name}.svg" in names and "lacking.svg" not in names
    assert "figure &#39;raising&#39; is not drawn" in made.page.read_text()
