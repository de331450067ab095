"""Results in, a folder out: page, figures, tables and verdicts, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from harness.results.tables import CellChoice, Graph, Results
from reports import analyses, exports, tables
from reports.analysis import Answer, answers, coloured_curves, scored_runs
from reports.decision import decision
from reports.diagrams import diagram
from reports.drawing import NothingToDraw
from reports.endpoints import contrasts
from reports.examples import Arrays, examples
from reports.facts import Facts
from reports.gallery import Kind, Size, pictures, saved
from reports.page.page import Diagram, Drawing, page
from reports.page.sentences import sentences

PAGE, VERDICTS = "page.html", "verdicts.json"
KINDS: tuple[Kind, ...] = ("svg", "png", "pdf")
AS_TEXT = ("comparison", "verdicts", "all_scores", "ledger", "study_ledger", "learned", "tuning")
"""Tables that are shown rounded under headings; the others are lists of values."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A finished report."""

    page: Path
    sentences: tuple[str, ...]
    """What the study answers, a sentence for each endpoint."""
    files: tuple[Path, ...]
    """Every file of the report, the page among them."""
    answers: tuple[Answer, ...]
    """What the study's runs say about each endpoint, in order."""
    pairing_ok: bool
    """Whether every finding of the pairing certificate holds."""
    learned_ok: bool
    """Whether every compared run is done and above chance in all that applies to it."""
    comparison: pd.DataFrame
    """The comparison table of the first endpoint as text."""
    verdicts: pd.DataFrame
    """The verdicts as text: a row a cell, a column an endpoint."""
    levels: pd.DataFrame
    """What every run got right, its lower bound and chance, as text."""
    not_drawn: tuple[str, ...] = ()
    """Why figures are missing, a line each."""

    @property
    def answer(self) -> Answer:
        """The answer on the first endpoint."""
        return self.answers[0]

    @property
    def sentence(self) -> str:
        """What the study answers, first of all."""
        return self.sentences[0]

    @property
    def folder(self) -> Path:
        return self.page.parent


def build(
    results: Results,
    folder: Path,
    *,
    tuning: Mapping[str, CellChoice] | None = None,
    formats: Collection[str] = (),
    arrays: Arrays | None = None,
    links: Mapping[str, str] | None = None,
) -> Report:
    """Writes the report into `folder`, replacing the report that is there. The same results give
    the same bytes.

    tuning: cell -> what its tuning did and chose
    formats: of tables, beside CSV and parquet: "markdown", "latex"
    arrays: reads what tasks kept of their items, for examples; None: there are none
    links: train key -> address of the run in MLflow

    Raises FileExistsError where the folder holds something that is no report.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / PAGE).is_file():
        raise FileExistsError(f"{folder} is not a report (no {PAGE} in it): give another folder")
    facts = Facts.of(results, tuning)
    named = _tables(results, facts)
    files: dict[str, bytes | pd.DataFrame] = {f"{name}.csv": named[name] for name in named}
    files |= exports.written(named, AS_TEXT, formats)
    decided = decision(results, facts.answers)
    files[VERDICTS] = (json.dumps(decided, indent=1, allow_nan=False) + "\n").encode()
    drawn, images, not_drawn = _figures(_inputs(results, facts.answers, facts.analyses))
    files |= images
    try:
        shown = [] if arrays is None else examples(arrays, results)
    except Exception as error:  # what lies in a run's folder may be anything
        shown = []
        not_drawn += (f"examples are not drawn: {type(error).__name__}: {error}",)
    drawings = diagrams(results.graphs)
    files[PAGE] = page(
        results, facts, drawn, drawings, not_drawn, examples=shown, links=links
    ).encode()
    _replace(folder, files)
    return Report(
        page=folder / PAGE,
        sentences=tuple(sentences(answered)[0] for answered in facts.answers),
        files=tuple(folder / name for name in sorted(files)),
        answers=facts.answers,
        pairing_ok=all(finding.ok for finding in facts.findings),
        learned_ok=facts.learned_ok,
        comparison=tables.shown(facts.comparison),
        verdicts=facts.verdicts,
        levels=tables.shown(facts.learned),
        not_drawn=not_drawn,
    )


def figure(results: Results, name: str, size: Size = "page", **choices: object) -> Figure:
    """One figure of the report by the name of its file, as `allocation`, to be saved or changed.

    `size`: as wide as a "column" of a paper (3.3 inches) or a "page" (7); `choices`: what it takes
    besides, as `against="flops"` of curves. Raises ValueError for an unknown name, and
    NothingToDraw where the study has nothing that the figure could show.
    """
    named = {picture.name: picture for picture in pictures()}
    if name not in named:
        raise ValueError(f"unknown figure {name!r}; known: {', '.join(named)}")
    picture, answered = named[name], answers(results)
    drawn_from = {picture.table, *picture.beside}
    scores = [each.primary for each in answered] if drawn_from & set(analyses.TABLES) else []
    inputs = _inputs(results, answered, analyses.tables_of(results, scores) if scores else {})
    cells = list(inputs["runs"]["cell"].unique())
    return picture.drawn(inputs.get(picture.table), inputs, size=size, cells=cells, **choices)


def _inputs(
    results: Results, answered: Sequence[Answer], others: Mapping[str, pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """What figures are drawn from, by the name of the table; `others`: of the analyses."""
    runs = scored_runs(results, answered[0])
    return {
        "runs": runs,
        "curves": coloured_curves(results, runs),
        "contrasts": contrasts(results, answered),
        **{name: in_colour(x, runs) if "cell" in x else x for name, x in others.items()},
    }


def in_colour(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """A table of the analyses with the look of its cells: role, colour, marker, is_control."""
    names = ["role", "colour", "marker", "is_control"]
    looks = runs.drop_duplicates("cell").set_index("cell")[names]
    lacking = [name for name in names if name not in table]
    return table.assign(**{name: table["cell"].map(looks[name]) for name in lacking})


def _figures(
    inputs: Mapping[str, pd.DataFrame],
) -> tuple[list[Drawing], dict[str, bytes], tuple[str, ...]]:
    """Every figure for the page, its files by name, and why others are not drawn: one that fails
    takes nothing else with it."""
    cells = list(inputs["runs"]["cell"].unique())
    drawn, files, failures = [], dict[str, bytes](), []
    for picture in pictures():
        table = inputs.get(picture.table)
        try:
            sheet = picture.drawn(table, inputs, cells=cells)
            caption = picture.caption(inputs[picture.table])
            images = {kind: saved(sheet, kind) for kind in KINDS}
        except NothingToDraw:
            continue
        except Exception as error:  # a figure of a user's own may raise anything
            failures.append(picture.failure(error))
            continue
        files |= {f"{picture.name}.{kind}": image for kind, image in images.items()}
        drawn.append(Drawing(title=picture.title, caption=caption, svg=images["svg"]))
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


def _tables(results: Results, facts: Facts) -> dict[str, pd.DataFrame]:
    files = {
        "runs": results.runs,
        "scores": results.scores,
        "levels": results.levels,
        "curves": results.curves,
        "comparison": facts.comparison,
        "verdicts": facts.verdicts,
        "contrasts": facts.contrasts,
        "endpoints": facts.endpoints,
        **facts.analyses,
        "ways": facts.ways,
        "variance": facts.variance,
        "all_scores": facts.scores,
        "ledger": facts.ledger,
        "study_ledger": facts.study_ledger,
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
