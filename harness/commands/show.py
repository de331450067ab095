"""Prints what the command line shows, as tables a person can read. Nothing is computed here."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from harness.commands.terminal import console, say, table
from harness.commands.terminal import pairs as pairs
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


def plan(
    planned: Plan, estimates: list[Estimate], corpora: Mapping[str, Corpus], outputs: Path
) -> None:
    """Prints the runs with their cost, the data, what is not applicable, and what could be
    detected. `corpora`: cell -> its data."""
    from harness.outputs.folder import RunFolder
    from harness.planning import endpoints

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
    for line in endpoints.in_words(study):
        console.print(line)


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
    from harness.outputs.files import RETRIED

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
        how = "with --retry-failed" if failed or set(ended.values()) & RETRIED else "to go on"
        console.print(f"See {command}; again {how}.", soft_wrap=True)


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
        words=("state", "message"),
    )


def _silent(status: Status) -> str:
    seconds = status.silence()
    return f"silent for {duration(seconds)}: its process is stopped, or hangs" if seconds else ""


def watch(outputs: Path, study: str, every: float) -> None:
    """Shows how far a study is, every so many seconds, until all its runs have ended or Ctrl-C:
    bars on a terminal, elsewhere a line for every change."""
    from rich.console import Console

    from harness.scheduling.progress import Screen
    from harness.scheduling.watching import Watch

    here = Console()
    watched, before, told = Watch(outputs, study), "", dict[str, str]()
    with contextlib.suppress(KeyboardInterrupt), Screen(here) as screen:
        while True:
            view = watched.look()
            for run, why in view.troubles.items():
                if told.get(run) != why:
                    screen.say(visible(f"{run}: {why}"))
            told = dict(view.troubles)
            if view.in_words() != before and (view.ended or not here.is_terminal):
                before = view.in_words()
                screen.say(visible(before))
            if view.ended:
                break
            screen.show(view.counts, view.lines, view.seconds_left)
            time.sleep(every)


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
    console.print(Text(visible(made.sentence), "bold"))
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
    if len(made.answers) > 1:
        table(made.verdicts.columns, made.verdicts.itertuples(index=False))
        console.print()
    for place, (sentence, answered) in enumerate(zip(made.sentences, made.answers, strict=True)):
        if place:  # the first stands on top
            console.print()
            say(visible(sentence), style="bold")
        for line in answered.lines:
            say(visible(line), indent="  ", at_most=console.width)
    if made.answer.undeclared:
        say(visible(made.answer.undeclared), style="yellow")
    if missing := made.answer.missing:
        more = f"; and {len(missing) - 1} more: see the page" if len(missing) > 1 else ""
        say(visible(f"Left out: {missing[0]}{more}"), style="yellow")
    for line in made.not_drawn:
        console.print(Text(visible(line), "red"))
    if levels:
        _levels(made.levels)
    if not made.pairing_ok:
        console.print(Text("The runs are not paired as they should be: see the page.", "red"))
    if not made.learned_ok:
        console.print(Text("A run is not shown to be above chance: see the page.", "red"))
    console.print(f"Report: {made.page}", soft_wrap=True)
