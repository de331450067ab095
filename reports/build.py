"""Results in, a folder out: page, figures (PNG and SVG) and tables (CSV), whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from harness.results.tables import CellChoice, Graph, Results
from reports import tables
from reports.analysis import Answer, answer, coloured_curves, scored_runs
from reports.diagrams import diagram
from reports.facts import Facts
from reports.gallery import pictures, saved, with_words
from reports.page.page import Diagram, Drawing, page
from reports.page.sentences import sentences

PAGE = "page.html"


@dataclass(frozen=True, kw_only=True)
class Report:
    """A finished report."""

    page: Path
    sentence: str
    """What the study answers, first of all."""
    files: tuple[Path, ...]
    """Every file of the report, the page among them."""
    answer: Answer
    """What the study's runs say about its primary score."""
    pairing_ok: bool
    """Whether every finding of the pairing certificate holds."""
    learned_ok: bool
    """Whether every compared run is done and above chance in all that applies to it."""
    comparison: pd.DataFrame
    """The comparison table as text."""
    levels: pd.DataFrame
    """What every run got right, its lower bound and chance, as text."""
    not_drawn: tuple[str, ...] = ()
    """Why figures are missing, a line each."""

    @property
    def folder(self) -> Path:
        return self.page.parent


def build(
    results: Results,
    folder: Path,
    *,
    tuning: Mapping[str, CellChoice] | None = None,
    links: Mapping[str, str] | None = None,
) -> Report:
    """Writes the report into `folder`, replacing the report that is there.

    `tuning`: cell -> what its tuning did and chose; `links`: train key -> address of the run in
    MLflow. The same results give the same bytes. Raises
    FileExistsError where the folder holds something that is no report.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / PAGE).is_file():
        raise FileExistsError(f"{folder} is not a report (no {PAGE} in it): give another folder")
    facts = Facts.of(results, tuning)
    files: dict[str, bytes | pd.DataFrame] = {
        f"{name}.csv": table for name, table in _csv_tables(results, facts).items()
    }
    drawn, images, not_drawn = _figures(results, facts.answer)
    files |= images
    designs = diagrams(results.graphs)
    files[PAGE] = page(results, facts, drawn, designs, not_drawn, links=links).encode()
    _replace(folder, files)
    return Report(
        page=folder / PAGE,
        sentence=sentences(facts.answer)[0],
        files=tuple(folder / name for name in sorted(files)),
        answer=facts.answer,
        pairing_ok=all(finding.ok for finding in facts.findings),
        learned_ok=facts.learned_ok,
        comparison=tables.shown(facts.comparison),
        levels=tables.shown(facts.learned),
        not_drawn=not_drawn,
    )


def figure(results: Results, name: str) -> Figure:
    """One figure of the report by the name of its file, as `allocation`, to be saved or changed.

    Raises ValueError for an unknown name.
    """
    named = {picture.name: picture for picture in pictures()}
    if name not in named:
        raise ValueError(f"unknown figure {name!r}; known: {', '.join(named)}")
    return named[name].drawn(_tables_for(results, answer(results))[named[name].table])


def _tables_for(results: Results, answered: Answer) -> dict[str, pd.DataFrame]:
    """What figures are drawn from, by the name of the table."""
    runs = scored_runs(results, answered)
    return {"runs": runs, "curves": coloured_curves(results, runs)}


def _figures(
    results: Results, answered: Answer
) -> tuple[list[Drawing], dict[str, bytes], tuple[str, ...]]:
    """Every figure for the page, its files by name, and why others are not drawn: one that fails
    takes nothing else with it."""
    inputs = _tables_for(results, answered)
    drawn, files, failures = [], dict[str, bytes](), []
    for picture in pictures():
        table = inputs[picture.table]
        try:
            sheet, caption = picture.drawn(table), picture.caption(table)
            svg, png, readable = saved(sheet, "svg"), saved(sheet, "png"), with_words(sheet)
        except Exception as error:  # a figure of a user's own may raise anything
            failures.append(picture.failure(error))
            continue
        files |= {f"{picture.name}.svg": svg, f"{picture.name}.png": png}
        drawn.append(Drawing(title=picture.title, caption=caption, svg=readable))
    return drawn, files, tuple(failures)


def diagrams(graphs: Mapping[str, Graph]) -> list[Diagram]:
    """The picture of every graph; cells of one graph share one."""
    cells: dict[str, list[str]] = {}
    for cell, graph in graphs.items():
        if all("slot" in node for node in graph["nodes"]):  # of early versions none had
            cells.setdefault(diagram.shape(graph), []).append(cell)
    return [
        Diagram(
            cells=tuple(names),
            design=str(graphs[names[0]]["design"]),
            svg=diagram.drawn(graphs[names[0]], "svg", title=False),
        )
        for names in cells.values()
    ]


def _csv_tables(results: Results, facts: Facts) -> dict[str, pd.DataFrame]:
    files = {
        "runs": results.runs,
        "scores": results.scores,
        "levels": results.levels,
        "curves": results.curves,
        "comparison": facts.comparison,
        "all_scores": facts.scores,
        "ledger": facts.ledger,
        "learned": facts.learned,
    }
    return files if facts.tuning is None else files | {"tuning": facts.tuning}


def _write(path: Path, content: bytes | pd.DataFrame) -> None:
    """Writes bytes, or a table as CSV, without holding its text: curves may have millions of rows.
    Words that a spreadsheet would take for a formula get an apostrophe first."""
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    words = content.select_dtypes(exclude="number").columns
    shut = {name: content[name].map(_no_formula) for name in words}
    table = content.assign(**shut) if all(isinstance(name, str) for name in shut) else content
    table.to_csv(path, index=False)


def _no_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _replace(folder: Path, files: Mapping[str, bytes | pd.DataFrame]) -> None:
    """Put a folder with these files in place; a reader never finds some of them missing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        part.mkdir()
        for name, content in files.items():
            _write(part / name, content)
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
