"""These commands price a study, run it, tune it, show its state and write its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import (
    OUTPUTS,
    STUDIES,
    Address,
    GpuShare,
    Local,
    Outputs,
    Set,
    StudyName,
    Tracking,
    app,
    lab_of,
    name_of,
    plain_errors,
    study_of,
)
from harness.scheduling.progress import working

if TYPE_CHECKING:
    from harness.lab import Lab
    from harness.outputs.files import State
    from harness.planning.plan import Plan
    from harness.results.tables import Results
    from harness.study import Study
    from reports.analysis import Answer


@app.command()
def studies() -> None:
    """List the studies that come with fuselab."""
    from harness.commands import show
    from harness.planning.shelf import names

    show.pairs("study", "question", names(STUDIES))


@app.command()
def plan(
    study: StudyName,
    set_: Set = None,
    tuned: Annotated[bool, typer.Option("--tuned", help="With the tuned settings.")] = False,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Show what would run and what it would cost, before anything runs."""
    with plain_errors():
        from harness.commands import show

        lab = lab_of(outputs, None)
        planned = _planned(lab, study, set_, tuned)
        from harness.planning import budgets, checks, extension, threads
        from harness.planning.freeze_notes import freeze_notes
        from harness.planning.matching import match_notes
        from harness.planning.prepare import notes_of, prepared
        from harness.planning.price import estimates
        from harness.planning.start_notes import notes
        from harness.planning.task_notes import task_notes
        from harness.planning.width_notes import width_notes
        from harness.scheduling.progress import Screen

        screen = Screen()
        corpora = prepared(planned, lab.outputs, screen.note)
        costs = estimates(planned, corpora, screen.note)
        show.plan(planned, costs, corpora, lab.outputs)
        show.lines(
            [
                *notes_of(corpora),
                *notes(planned, corpora, lab.outputs),
                *task_notes(planned, corpora),
                *freeze_notes(planned, corpora),
                *width_notes(planned, corpora),
                *match_notes(planned.matched),
                *checks.final_weights(planned),
                *budgets.notes(planned, lab.outputs),
                *threads.notes(planned, lab.outputs),
                *extension.notes(planned.study, lab.outputs),
                *extension.progress(planned, lab.outputs),
                *checks.same_runs(planned),
                *checks.left_over(planned, lab.outputs),
            ]
        )


def _planned(lab: Lab, study: str, changes: list[str] | None, tuned: bool = False) -> Plan:
    """Plans a study, with something on the screen while torch is loaded and data are read."""
    with working(f"reading {study}"):
        return lab.plan(study_of(study, changes), tuned=tuned)


@app.command()
def run(
    study: StudyName,
    set_: Set = None,
    local: Local = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also start failed and diverged runs again.")
    ] = False,
    only: Annotated[str, typer.Option(help="Cells whose name fits a pattern, as `6+6`.")] = "",
    tuned: Annotated[bool, typer.Option("--tuned", help="With the settings tuning chose.")] = False,
    until_decided: Annotated[
        bool,
        typer.Option("--until-decided", help="Add seeds until every contrast is decided."),
    ] = False,
    at_most: Annotated[int, typer.Option(min=2, help="Seeds at which that ends.")] = 9,
    address: Address = None,
    gpu_share: GpuShare = 1.0,
    tracking: Tracking = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Run a study. The same command again skips what is done and goes on with the rest."""
    with plain_errors():
        from harness.commands import show
        from harness.commands.until import run_until_decided
        from harness.outputs.copies import place_of

        lab = lab_of(outputs, tracking)
        planned = _planned(lab, study, set_, tuned)

        def once(asked: Study) -> dict[str, State]:
            return lab.run(
                asked,
                tuned=tuned,
                only=only,
                local=local,
                retry_failed=retry_failed,
                address=address,
                gpu_share=gpu_share,
            )

        if until_decided:
            asked = study_of(study, set_)
            states = run_until_decided(lab, asked, planned.study, at_most, once, tuned=tuned)
        else:
            states = once(planned.study)
        failed = lab.failed_scores(states)
        again = [planned.study.name]  # which --set may have changed
        again += [] if outputs == OUTPUTS else ["--outputs", str(place_of(outputs))]
        kept = ["--tracking", tracking] if tracking else []
        show.states(states, again, kept, lab.notes(planned.study.name), failed)
        with working("publishing the answer"):
            from reports.analysis import answers

            results = lab.results(planned.study.name)
            log_answer(lab, results, answers(results))
    if failed or any(state != "done" for state in states.values()):
        raise typer.Exit(1)


def log_answer(
    lab: Lab, results: Results, answered: Sequence[Answer], folder: Path | None = None
) -> None:
    """Puts the answer on every endpoint, and the report where there is one, into the tracking
    store; a store that cannot be used costs a line."""
    from harness.outputs.files import TrackingError
    from harness.results.to_mlflow import Tracker

    verdicts = {a.primary: {cell: v.text for cell, v in a.verdicts.items()} for a in answered}
    try:
        tracker = Tracker(lab.outputs, lab.tracking)
        tracker.publish(results.study)
        means = {a.primary: a.means for a in answered}
        tracker.log_answer(results.study, verdicts, means, folder, seen=results.read_at)
    except TrackingError as error:
        typer.secho(f"tracking: {error}", fg=typer.colors.YELLOW, err=True)


@app.command()
def tune(
    study: StudyName,
    set_: Set = None,
    local: Local = False,
    address: Address = None,
    gpu_share: GpuShare = 1.0,
    tracking: Tracking = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Tune every cell equally: same trials, same draws; `run --tuned` uses the choice."""
    with plain_errors():
        from harness.commands import show

        lab = lab_of(outputs, tracking)
        planned = _planned(lab, study, set_)
        result = lab.tune(planned.study, local=local, address=address, gpu_share=gpu_share)
        show.tuning(result)


@app.command("warm-start")
def warm_start(
    study: StudyName,
    to: Annotated[
        Path | None, typer.Option("--to", help="Also copy them to this new folder.")
    ] = None,
    set_: Set = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Make what a study's runs start from: BERT, DistilBERT and ViT of its own training data, and
    the text stage of a design that has one.
    """
    with plain_errors():
        from harness.commands import show
        from harness.outputs.files import free

        if to:
            free(to)
        lab = lab_of(outputs, None)
        planned = _planned(lab, study, set_)
        from harness.warm_start.make import copied, refuse_copies

        if to:
            refuse_copies(planned.specs)
        folders = lab.warm_start(planned.study)
        for folder in folders:
            show.warm_start(folder)
            if to:
                typer.echo(copied(folder, to / folder.name if len(folders) > 1 else to))


@app.command()
def status(
    study: StudyName,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again until every run has ended.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds between two looks of --watch.")
    ] = 5.0,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Show how far every run of a study is."""
    with plain_errors():
        from harness.commands import show

        name = name_of(study)
        if watch:
            show.watch(outputs, name, every)
            return
        from harness.results.folders import states_of

        with working(f"reading the runs of {name}"):
            states = states_of(outputs, name)
        show.status(states)
