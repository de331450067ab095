"""Prints what the command line shows, as tables a person can read. Nothing is computed here."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.words import count, duration, visible

if TYPE_CHECKING:
    import pandas as pd

    from harness.outputs.files import State
    from harness.outputs.records import Status, StudyRow
    from harness.planning.plan import Plan
    from harness.planning.price import Estimate
    from harness.training.data.corpus import Corpus
    from harness.tuning.choice import TuningResult
    from reports.build import Report

COLOURS = {"done": "green", "running": "cyan", "waiting": "dim", "interrupted": "yellow"}
PIPED_COLUMNS = 1000
"""Where nobody's terminal limits the width: every row of a table is one line."""


NARROWEST = 30
"""Columns below which no words fold."""


def _columns() -> int | None:
    """Counts the columns to print in: the terminal's, or, in a pipe, as many as a table needs."""
    if os.environ.get("COLUMNS", "").isdigit():
        return int(os.environ["COLUMNS"])
    return None if sys.stdout.isatty() else PIPED_COLUMNS


console = Console(
    highlight=False, markup=False, width=_columns(), height=None if sys.stdout.isatty() else 50
)


def table(
    columns: Iterable[str], rows: Iterable[Iterable[object]], *, words: Container[str] = ()
) -> None:
    """Prints a table; the first column and those named in `words` stand left, numbers right. Where
    it is wider than the terminal, each row becomes a few lines: no word is broken."""
    names = list(columns)
    cells = [[_cell(cell) for cell in row] for row in rows]
    needed = [max([len(name), *(_width(row[i]) for row in cells)]) for i, name in enumerate(names)]
    room = console.width - 2 * len(needed) - sum(needed[:-1])
    folds = names[-1] in words and room >= NARROWEST  # the last column may, between words
    if needed[-1] > room and not folds:
        _stacked(names, cells)
        return
    grid = Table(header_style="bold", box=None, padding=(0, 1))
    for i, name in enumerate(names):
        side: Literal["left", "right"] = "left" if i == 0 or name in words else "right"
        grid.add_column(Text(name), justify=side, no_wrap=not (folds and i == len(names) - 1))
    for row in cells:
        grid.add_row(*row)
    console.print(grid)


def _width(cell: Text) -> int:
    """Counts the columns of the longest line of a cell."""
    return max((line.cell_len for line in cell.split()), default=0)


def _stacked(names: list[str], rows: list[list[Text]]) -> None:
    """Writes a row as its first cell and, below it, what it says under each other column."""
    longest = max(map(len, names[1:]), default=0)
    for row in rows:
        console.print(Text.assemble((row[0].plain, "bold")))
        for name, cell in zip(names[1:], row[1:], strict=True):
            if cell.plain:
                line = Text.assemble(f"  {name:<{longest}}  ", cell)
                console.print(line, overflow="fold")


def _cell(value: object) -> Text:
    """Shows a cell as written."""
    return value if isinstance(value, Text) else Text(visible(str(value)))


def pairs(left: str, right: str, values: Mapping[str, str]) -> None:
    """Prints two columns of words; the second folds between words."""
    grid = Table(header_style="bold", box=None)
    grid.add_column(left, no_wrap=True)
    grid.add_column(right)
    for key, value in values.items():
        grid.add_row(_cell(key), _cell(value))
    console.print(grid)


def plan(
    planned: Plan, estimates: list[Estimate], corpora: Mapping[str, Corpus], outputs: Path
) -> None:
    """Prints the runs with their cost, the data, what is not applicable, and what could be
    detected. `corpora`: cell -> its data."""
    from harness.outputs.folder import RunFolder
    from harness.statistics.power import smallest_detectable_effect

    study = planned.study
    console.print(Text.assemble((study.name, "bold"), f": {visible(study.question)}\n"))
    seeds, rows, left = len(study.seeds), [], 0.0
    for estimate in estimates:
        runs = [row for row in planned.rows if row.cell.name == estimate.cell]
        keys = [row.spec.train_key() for row in runs]
        states = [RunFolder(outputs, key).recovered_status().state for key in keys]
        to_do = sum(state != "done" for state in states)
        left += estimate.seconds * to_do
        train = runs[0].spec.train
        rows.append(
            (
                *(estimate.cell, runs[0].cell.role, f"{seeds - to_do}/{seeds}"),
                *(f"{estimate.steps} x {train.batch_size}", count(estimate.parameters)),
                *(count(estimate.flops_per_sample), duration(estimate.seconds)),
                f"{estimate.disk_mib * seeds:.1f}",
            )
        )
    columns = (
        "cell", "role", "done", "steps x batch", "parameters", "FLOPs/sample", "time a run",
        "disk MiB",
    )  # fmt: skip
    table(columns, rows)
    for sizes in dict.fromkeys(_sizes(corpus) for corpus in corpora.values()):
        console.print(f"\nPictures: {sizes}.")
    console.print(
        f"{len(planned.specs)} runs, about {duration(left)} of training left one after another "
        "(from a measured step; start-up and scoring come on top), "
        f"{shutil.disk_usage(_existing(outputs)).free / 2**30:.0f} GiB free."
    )
    learning = {estimate.cell: count(estimate.finetuning_flops) for estimate in estimates}
    if any(estimate.finetuning_flops for estimate in estimates):
        counted = ", ".join(f"{cell} {flops}" for cell, flops in learning.items())
        console.print(f"FLOPs of learning tasks, a run: {visible(counted)}.")
    reasons = [
        f"{row.cell.name}: {what} not applicable, because {why}"
        for row in planned.rows
        for what, why in row.spec.asked.not_applicable.items()
    ]
    for reason in dict.fromkeys(reasons):
        console.print(visible(reason))
    compared = sum(cell.role == "compared" for cell in study.cells)
    effect = smallest_detectable_effect(compared, seeds, alpha=study.alpha / study.looks)
    margin = "declared" if study.equal_within is not None else "a default, not declared"
    console.print(
        f"Smallest difference from {study.control!r} that {seeds} seeds find with 80 % chance: "
        f"{effect:.2f} residual SDs of {study.primary}. Differences within "
        f"{study.margin:g} count as equal ({margin})."
    )


def _sizes(corpus: Corpus) -> str:
    splits = (corpus.train, corpus.val, corpus.test)
    return ", ".join(f"{len(split):,} {split.name}" for split in splits)


def lines(texts: Iterable[str]) -> None:
    """Prints plain lines, each with a capital first."""
    for text in texts:
        console.print(f"{text[0].upper()}{text[1:]}.")


def warm_start(folder: Path) -> None:
    """Prints where warm-started weights are, what they cost and what they learnt."""
    from harness.warm_start.keys import learnt, line

    for name, told in learnt(folder).items():
        console.print(line(name, told), soft_wrap=True)
    console.print(str(folder), soft_wrap=True)


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())


def states(
    ended: Mapping[str, State],
    study: Sequence[str],
    store: Sequence[str],
    notes: Iterable[str],
    failed: Mapping[str, Mapping[str, str]],
) -> None:
    """Prints how the runs ended, what is to be known of the data, and what to do next.

    `study`, `store`: words of the command that name the study with its folder, and the tracking
    store; `failed`: run -> task -> why it could not be scored.
    """
    for note in notes:
        console.print(f"Note: {note}")
    for run, tasks in failed.items():
        for task, why in tasks.items():
            console.print(f"{run}: {task} not scored: {why}")
    counts = Counter(ended.values())
    console.print(", ".join(f"{n} {state.replace('_', ' ')}" for state, n in counts.items()))
    if set(ended.values()) == {"done"} and not failed:
        command = shlex.join(["fuselab", "report", *study, *store])
        console.print(f"Next: {command}", soft_wrap=True)
    else:
        command = shlex.join(["fuselab", "status", *study])
        console.print(f"See {command}; again with --retry-failed.", soft_wrap=True)


def status(rows: Iterable[tuple[StudyRow, Status]]) -> None:
    """Prints every run of a study: state, step, message."""
    table(
        ("cell", "seed", "state", "step", "run", "message"),
        [
            (
                Text(row.cell),
                row.seed,
                Text(found.state, COLOURS.get(found.state, "red")),
                f"{found.step}/{found.steps}" if found.steps else "",
                row.run,
                Text(_silent(found) or found.message),
            )
            for row, found in rows
        ],
    )


def _silent(status: Status) -> str:
    seconds = status.silence()
    return f"silent for {duration(seconds)}: its process is stopped, or hangs" if seconds else ""


def tuning(result: TuningResult) -> None:
    """Prints every trial, and what was chosen."""
    table(result.columns, result.rows)


COMPARED = {
    "cell": "cell",
    "own protocol": "own protocol",
    "score": "score",
    "difference to control": "against control",
    "adjusted p": "p",
    "verdict": "verdict",
}
"""Columns of the comparison that a terminal has room for -> what they are called there; the page
has all."""


def _levels(levels: pd.DataFrame) -> None:
    """Prints the levels that are not above chance, with how many there are in all."""
    at_chance = levels[levels["above chance"] != "yes"]
    console.print()
    if len(at_chance):
        table(levels.columns, at_chance.itertuples(index=False))
    above = len(levels) - len(at_chance)
    console.print(f"{above} of {len(levels)} levels are above chance; the page has all.")


def report(made: Report, *, levels: bool) -> None:
    """Prints the comparison, the verdicts and where the page is.

    `levels`: also what runs got right that is not shown to be above chance, or that all of it is.
    """
    console.print(Text(visible(made.sentence), "bold"), soft_wrap=True)
    console.print()
    short = made.comparison[[name for name in COMPARED if name in made.comparison]]
    kinds = {cell: verdict.kind for cell, verdict in made.answer.verdicts.items()}
    verdicts = zip(short["cell"], short["verdict"], strict=True)
    short = short.assign(verdict=[kinds.get(cell, text.split(",")[0]) for cell, text in verdicts])
    table(
        [COMPARED[name] for name in short.columns],
        short.itertuples(index=False),
        words=("verdict",),
    )
    console.print()
    for line in made.answer.lines:
        console.print(visible(line), soft_wrap=True)
    for line in made.not_drawn:
        console.print(Text(visible(line), "red"), soft_wrap=True)
    if levels:
        _levels(made.levels)
    if not made.pairing_ok:
        console.print(Text("The runs are not paired as they should be: see the page.", "red"))
    if not made.learned_ok:
        console.print(Text("A run is not shown to be above chance: see the page.", "red"))
    console.print(f"Report: {made.page}", soft_wrap=True)
