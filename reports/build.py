"""Results in, a folder out: page, figures (PNG and SVG) and tables (CSV), whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.results.pairing import pairing
from harness.results.tables import Results
from reports import tables
from reports.analysis import Answer, all_learned, answer, coloured_curves, learned, scored_runs
from reports.diagrams import diagram
from reports.gallery import pictures, saved
from reports.page.page import page

PAGE = "page.html"


@dataclass(frozen=True, kw_only=True)
class Report:
    """A finished report."""

    page: Path
    files: tuple[Path, ...]
    """Every file of the report, the page among them."""
    verdicts: tuple[str, ...]
    """One line per compared cell."""
    pairing_ok: bool
    """Whether every finding of the pairing certificate holds."""
    learned_ok: bool
    """Whether every compared run is done and above chance in all that applies to it."""
    comparison: pd.DataFrame
    """The comparison table as text."""
    levels: pd.DataFrame
    """What every run got right, its lower bound and chance, as text."""

    @property
    def folder(self) -> Path:
        return self.page.parent


def build(results: Results, folder: Path, *, tuning: Mapping[str, Any] | None = None) -> Report:
    """Write the report into `folder`, replacing the report that is there.

    `tuning`: cell -> what its tuning did and chose (`harness.tuning.tune.choices`). The same
    results give the same bytes. Raises FileExistsError where the folder holds something that is no
    report.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / PAGE).is_file():
        raise FileExistsError(f"{folder} is not a report (no {PAGE} in it): give another folder")
    found = answer(results)
    findings = pairing(results)
    chosen = tables.tuning_choices(tuning) if tuning else None
    runs = scored_runs(results, found)
    inputs = {"runs": runs, "curves": coloured_curves(results, runs)}
    drawn, files = [], _tables(results, found, chosen)
    for picture in pictures():
        table = inputs[picture.table]
        figure = picture.drawn(table)
        svg = saved(figure, "svg")
        files |= {f"{picture.name}.svg": svg, f"{picture.name}.png": saved(figure, "png")}
        drawn.append({"title": picture.title, "caption": picture.caption(table), "svg": svg})
    designs = diagrams(results.graphs)
    files[PAGE] = page(results, found, drawn, findings, chosen, designs).encode()
    comparison = tables.comparison(results.runs, found)
    _replace(folder, files)
    return Report(
        page=folder / PAGE,
        files=tuple(folder / name for name in sorted(files)),
        verdicts=found.lines,
        pairing_ok=all(finding.ok for finding in findings),
        learned_ok=all_learned(results.runs),
        comparison=tables.shown(comparison),
        levels=tables.shown(learned(results.runs)),
    )


def diagrams(graphs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Cells, design and picture (SVG) of every graph; cells of one graph share a picture."""
    cells: dict[str, list[str]] = {}
    for cell, graph in graphs.items():
        if all("slot" in node for node in graph["nodes"]):  # of early versions none had
            cells.setdefault(diagram.shape(graph), []).append(cell)
    return [
        {
            "cells": names,
            "design": graphs[names[0]]["design"],
            "svg": diagram.drawn(graphs[names[0]], "svg", title=False),
        }
        for names in cells.values()
    ]


def _tables(results: Results, found: Answer, chosen: pd.DataFrame | None) -> dict[str, bytes]:
    files = {
        "runs.csv": results.runs,
        "curves.csv": results.curves,
        "comparison.csv": tables.comparison(results.runs, found),
        "scores.csv": tables.scores(results.runs),
        "ledger.csv": tables.ledger(results.runs),
        "learned.csv": learned(results.runs),
    }
    if chosen is not None:
        files["tuning.csv"] = chosen
    return {name: _csv(table) for name, table in files.items()}


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder with these files in place; a reader never finds some of them missing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        part.mkdir()
        for name, content in files.items():
            (part / name).write_bytes(content)
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
