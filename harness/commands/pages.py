"""This command writes the page of all studies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from harness.commands.options import (
    OUTPUTS,
    Open,
    Outputs,
    app,
    lab_of,
    note_read,
    opened,
    plain_errors,
)
from harness.scheduling.progress import working

if TYPE_CHECKING:
    from harness.lab import Lab
    from reports.index import Entry

TRIALS = "-tuning"
"""How the name ends under which the trials of a study's tuning run."""


@app.command()
def index(open_: Open = False, outputs: Outputs = OUTPUTS) -> None:
    """Write a page of every study here: question, answer, figure, cost, date, and its report."""
    with plain_errors():
        from architectures.frozen import SettingError
        from harness.outputs.files import atomic_file

        lab = lab_of(outputs, None)
        files = sorted(lab.outputs.glob("studies/*/study.json"))
        names = [file.parent.name for file in files]
        if not names:
            raise SettingError(f"no study was run in {outputs} (option --outputs)")
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
        note_read(lab.outputs, results)
        return entry(results, date=date, link=link)
    except DamagedFile as error:
        return Entry(name=name, date="", link=link, sentence=f"Cannot be read: {error}.")
