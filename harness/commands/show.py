"""What the command line prints: tables a person can read. Nothing is computed here."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.words import clock, count

if TYPE_CHECKING:
    from harness.outputs.files import State
    from harness.outputs.folder import RunFolder
    from harness.planning.plan import Plan
    from harness.planning.price import Estimate
    from harness.results.tables import Results
    from harness.tuning.choice import TuningResult
    from reports.build import Report

console = Console()
COLOURS = {"done": "green", "running": "cyan", "waiting": "dim", "interrupted": "yellow"}


def table(
    columns: Iterable[str], rows: Iterable[Iterable[object]], *, words: Container[str] = ()
) -> None:
    """Print a table; the first column and those named are words, numbers stand right."""
    made = Table(header_style="bold", box=None)
    for i, column in enumerate(columns):
        first = i == 0  # names stay whole; what is right of them may fold
        side: Literal["left", "right"] = "left" if first or column in words else "right"
        made.add_column(column, justify=side, overflow="fold", no_wrap=first)
    for row in rows:
        made.add_row(*map(str, row))
    console.print(made)


def pairs(left: str, right: str, values: Mapping[str, str]) -> None:
    """Two columns of words."""
    made = Table(header_style="bold", box=None)
    made.add_column(left, no_wrap=True)
    made.add_column(right)
    for key, value in values.items():
        made.add_row(key, value)
    console.print(made)


def plan(planned: Plan, estimates: list[Estimate], outputs: Path) -> None:
    """Runs with their cost, what is not applicable, and what could be detected."""
    from harness.outputs.folder import RunFolder
    from harness.statistics.power import smallest_detectable_effect

    study = planned.study
    console.print(f"[bold]{study.name}[/]: {escape(study.question)}\n")
    seeds, rows, left = len(study.seeds), [], 0.0
    for found in estimates:
        runs = [row for row in planned.rows if row.cell.name == found.cell]
        states = [RunFolder(outputs, row.spec.train_key()).status().state for row in runs]
        to_do = sum(state != "done" for state in states)
        left += found.seconds * to_do
        rows.append(
            (found.cell, runs[0].cell.role, f"{seeds - to_do}/{seeds}", count(found.parameters),
             count(found.flops_per_sample), clock(found.seconds), f"{found.disk_mib * seeds:.1f}")
        )  # fmt: skip
    columns = (
        "cell", "role", "done", "parameters", "FLOPs/sample", "time a run", "disk MiB",
    )  # fmt: skip
    table(columns, rows)
    console.print(
        f"\n{len(planned.specs)} runs, about {clock(left)} of training left one after another "
        "(from a measured step; start-up and scoring come on top), "
        f"{shutil.disk_usage(_existing(outputs)).free / 2**30:.0f} GiB free."
    )
    reasons = [
        f"{row.cell.name}: {what} not applicable, because {why}"
        for row in planned.rows
        for what, why in row.spec.asked.not_applicable.items()
    ]
    for reason in dict.fromkeys(reasons):
        console.print(reason, highlight=False)
    compared = sum(cell.role == "compared" for cell in study.cells)
    effect = smallest_detectable_effect(compared, seeds, alpha=study.alpha / study.looks)
    console.print(
        f"Smallest difference from {study.control!r} that {seeds} seeds find with 80 % chance: "
        f"{effect:.2f} residual SDs of {study.primary}."
    )


def lines(texts: Iterable[str]) -> None:
    """Plain lines, a capital first."""
    for text in texts:
        console.print(f"{text[0].upper()}{text[1:]}.", highlight=False, markup=False)


def warm_start(folder: Path) -> None:
    """Where warm-started weights are, what they cost and what they learnt."""
    from harness.warm_start.keys import learnt, line

    for name, told in learnt(folder).items():
        console.print(line(name, told), highlight=False, soft_wrap=True)
    console.print(str(folder), highlight=False, soft_wrap=True)


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())


def states(found: Mapping[str, State], argument: str, notes: Iterable[str]) -> None:
    """How the runs ended, what is to be known of the data, and what to do next."""
    for note in notes:
        console.print(f"Data: {note}", highlight=False, markup=False)
    counts = Counter(found.values())
    console.print(", ".join(f"{n} {state.replace('_', ' ')}" for state, n in counts.items()))
    if set(found.values()) == {"done"}:
        console.print(f"Next: fuselab report {argument}", highlight=False)
    else:
        console.print(f"See fuselab status {argument}; again with --retry-failed.", highlight=False)


def status(results: Results, outputs: Path) -> None:
    """Every run of a study: state, step, message."""
    from harness.outputs.folder import RunFolder

    rows = []
    for run in results.runs.to_dict("records"):
        colour = COLOURS.get(str(run["status"]), "red")
        state = f"[{colour}]{run['status']}[/]"
        step = _step(RunFolder(outputs, run["run"]))
        rows.append(
            (run["cell"], run["seed"], state, step, run["run"], escape(run["message"] or ""))
        )
    table(("cell", "seed", "state", "step", "run", "message"), rows)


def _step(folder: RunFolder) -> str:
    """How far a run is, as `40/160`; empty where nobody knows."""
    from harness.outputs.records import DamagedFile

    try:
        status = folder.written_status()
    except DamagedFile:
        return ""
    return f"{status.step}/{status.steps}" if status.steps else ""


def tuning(result: TuningResult) -> None:
    """Every trial, and what was chosen."""
    table(result.columns, result.rows)


COMPARED = ("cell", "own protocol", "difference to control", "adjusted p", "verdict")
"""Columns of the comparison that a terminal has room for; the page has all."""


def report(made: Report, *, levels: bool) -> None:
    """The comparison, the verdicts and where the page is.

    `levels`: also what every run got right, beside chance.
    """
    if levels:
        table(made.levels.columns, made.levels.itertuples(index=False))
        console.print()
    short = made.comparison[[name for name in COMPARED if name in made.comparison]]
    short = short.assign(verdict=[text.partition(":")[0] for text in short["verdict"]])
    table(short.columns, short.itertuples(index=False), words=("verdict",))
    console.print()
    for line in made.verdicts:
        console.print(line, highlight=False, soft_wrap=True)
    if not made.pairing_ok:
        console.print("[red]The runs are not paired as they should be: see the page.[/]")
    if not made.learned_ok:
        console.print("[red]A run is not shown to be above chance: see the page.[/]")
    console.print(f"Report: {made.page}", highlight=False, soft_wrap=True)
