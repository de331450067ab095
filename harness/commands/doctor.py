"""This command examines an outputs folder, and mends in it what is safe to mend."""

from __future__ import annotations

from typing import Annotated

import typer

from architectures.frozen import path_named
from harness.commands.options import OUTPUTS, Outputs, Tracking, app, name_of, plain_errors
from harness.scheduling.progress import working


@app.command()
def doctor(
    study: Annotated[str, typer.Argument(help="A study's name or file; empty: all here.")] = "",
    rerun: Annotated[
        int,
        typer.Option(min=0, help="Do so many steps of a run again, and compare bit by bit."),
    ] = 0,
    mend: Annotated[
        bool, typer.Option("--mend", help="Mend what is safe; finished work is never touched.")
    ] = False,
    tracking: Tracking = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Check runs, digests, pairing, machine and store; exit 1 where anything is wrong."""
    with plain_errors():
        from harness.commands import show_doctor as show

        with working("loading"):
            from harness.checkup.checkup import done_again, examined, mended
        place, name = path_named(outputs).resolve(), name_of(study) if study else ""
        parts = []
        for part in examined(place, name, tracking):
            show.examined(part)
            parts.append(part)
        if mend and any(fault.cure for part in parts for fault in part.faults):
            show.mended(mended(fault for part in parts for fault in part.faults))
            parts = list(examined(place, name, tracking))
        if rerun:
            with working(f"doing {rerun} steps again"):
                again = done_again(place, name, rerun)
            show.examined(again)
            parts.append(again)
        show.end(parts)
    if any(part.faults for part in parts):
        raise typer.Exit(1)
