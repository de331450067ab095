"""These commands write pages: the report of a study, and the index of all studies."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import (
    OUTPUTS,
    Open,
    Outputs,
    StudyName,
    Tracking,
    app,
    lab_of,
    name_of,
    note_read,
    opened,
    plain_errors,
)
from harness.commands.studies import log_answer
from harness.scheduling.progress import working

if TYPE_CHECKING:
    from harness.lab import Lab
    from harness.outputs.tuning_records import CellChoice
    from reports.index import Entry

TRIALS = "-tuning"
"""How the name ends under which the trials of a study's tuning run."""


def _tuning(lab: Lab, study: str) -> dict[str, CellChoice] | None:
    """Returns what tuning chose; None, and a line, where its record is damaged."""
    from harness.outputs.records import DamagedFile

    try:
        return lab.tuning(study)
    except DamagedFile as error:
        typer.secho(f"tuning is left out: {error}", fg=typer.colors.YELLOW, err=True)
        return None


def check_formats(formats: list[str]) -> None:
    """Raises SettingError, with the nearest, for a format that tables are not written in."""
    from architectures.frozen import nearest
    from reports.exports import FORMATS

    for name in formats:
        if name not in FORMATS:
            raise nearest(name, FORMATS, "format of --tables")


@app.command()
def report(
    study: StudyName,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 where runs are badly paired, or damaged.")
    ] = False,
    require_learned: Annotated[
        bool, typer.Option("--require-learned", help="Exit 1 where a fusion run is at chance.")
    ] = False,
    from_tracking: Annotated[
        bool, typer.Option("--from-tracking", help="Read the tracking store, not the run folders.")
    ] = False,
    formats: Annotated[
        list[str] | None,
        typer.Option("--tables", help="Tables also as `markdown` or `latex`; may be repeated."),
    ] = None,
    against: Annotated[
        str, typer.Option(metavar="STUDY", help="Also compare the cells that another study has.")
    ] = "",
    open_: Open = False,
    tracking: Tracking = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Write the report of a study: page, figures and tables; and print the answer."""
    with plain_errors():
        from harness.commands import show

        check_formats(formats or [])

        lab = lab_of(outputs, tracking)
        name = name_of(study)
        with working(f"reading the runs of {name}"):
            results = lab.results(name, from_tracking=from_tracking)
            other = lab.results(name_of(against), from_tracking=from_tracking) if against else None
        with working(f"writing the report of {name}"):
            from harness.outputs.copies import sent_folder, shown
            from harness.results.links import links
            from reports.build import build

            written = build(
                results,
                lab.outputs / "reports" / name,
                tuning=_tuning(lab, name),
                formats=formats or (),
                arrays=None if from_tracking else lab.predictions,
                links={} if tracking else links(lab.outputs, name),
            )
            sent_folder(written.folder)
        seeds = note_read(results, written.answers)
        results = dataclasses.replace(results, read_at=(*results.read_at, seeds))
        show.report(written, levels=require_learned)
        if (place := shown(written.folder)) != str(written.folder):
            typer.echo(f"All of it is also at {place}")
        if other:
            from harness.commands.compare import show_agreement

            note_read(other)
            show_agreement(results, other)
        with working("publishing the answer"):
            log_answer(lab, results, written.answers, written.folder)
    if open_:
        opened(written.page)
    whole = written.pairing_ok and "damaged" not in set(results.runs["status"])
    passed = (whole or not strict) and (written.learned_ok or not require_learned)
    if written.not_drawn or not passed:
        raise typer.Exit(1)


@app.command()
def index(open_: Open = False, outputs: Outputs = OUTPUTS) -> None:
    """Write a page of every study here: question, answer, figure, cost, date, and its report."""
    with plain_errors():
        from architectures.frozen import SettingError
        from harness.outputs.copies import refreshed, shown
        from harness.outputs.files import atomic_file

        lab = lab_of(outputs, None)
        refreshed(lab.outputs / "reports")
        files = sorted(lab.outputs.glob("studies/*/study.json"))
        names = [file.parent.name for file in files]
        if not names:
            raise SettingError(f"no study was run in {shown(outputs)} (option --outputs)")
        # Tuning is told in the report of the study that was tuned.
        told = [n for n in names if not (n.endswith(TRIALS) and n.removesuffix(TRIALS) in names)]
        entries = []
        for name in told:
            with working(f"reading the runs of {name}"):
                entries.append(_entry(lab, name))
        from reports.index import index as page_of

        page = lab.outputs / "reports" / "index.html"
        with atomic_file(page) as part:
            part.write_text(page_of(entries), encoding="utf-8")
        typer.echo(f"{len(entries)} {'study' if len(entries) == 1 else 'studies'}: {page}")
    if open_:
        opened(page)


def _entry(lab: Lab, name: str) -> Entry:
    """Returns what the index says of a study; of a damaged one, what is damaged."""
    from harness.outputs.records import DamagedFile
    from harness.results.folders import states_of
    from reports.index import Entry, entry

    report = f"{name}/page.html"
    link = report if (lab.outputs / "reports" / report).is_file() else ""
    try:
        newest = max((status.updated for _, status in states_of(lab.outputs, name)), default=0.0)
        date = time.strftime("%Y-%m-%d", time.gmtime(newest)) if newest else ""
        results = lab.results(name)
        note_read(results)
        return entry(results, date=date, link=link)
    except DamagedFile as error:
        return Entry(name=name, date="", link=link, sentence=f"Cannot be read: {error}.")
