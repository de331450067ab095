"""This command adds seeds and cells to a study that was planned or run before."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.commands.options import (
    OUTPUTS,
    Outputs,
    Set,
    StudyName,
    app,
    changes_of,
    lab_of,
    plain_errors,
    study_of,
)
from harness.scheduling.progress import working


@app.command()
def extend(
    study: StudyName,
    seeds: Annotated[
        str, typer.Option(help="How many more seeds, as `+2`, or which, as `5,7`.")
    ] = "",
    variants: Annotated[
        list[str] | None,
        typer.Option(help="A design to add, as `bridge` or `'split_bert text_layers=4'`."),
    ] = None,
    set_: Set = None,
    tuned: Annotated[bool, typer.Option("--tuned", help="With the tuned settings.")] = False,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Add seeds or designs to a study, paired with what is there; then: fuselab run."""
    with plain_errors():
        from architectures.frozen import SettingError
        from harness.commands import show
        from harness.planning import extension
        from harness.study import Cell, Variant

        if not seeds and not variants:
            raise SettingError("name --seeds, as +2, or --variants, as bridge")
        lab = lab_of(outputs, None)
        cells = []
        for text in variants or []:
            design, *fields = text.split() or [""]
            cells.append(Cell(variant=Variant(design, fields=dict(changes_of(fields)))))
        with working(f"reading {study}"):
            asked = extension.extended(study_of(study, set_), lab.outputs)
            more = extension.seeds_of(asked, seeds) if seeds else ()
            planned = lab.extend(asked, seeds=more, cells=cells, tuned=tuned)
        lines = [*extension.notes(planned.study, lab.outputs)][-1:]
        show.lines([*lines, *extension.progress(planned, lab.outputs)])
