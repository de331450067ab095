"""`fuselab noise` measures how far the scores of one cell vary between seeds, before a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from architectures.frozen import SettingError, nearest
from harness.commands.options import (
    OUTPUTS,
    Address,
    GpuShare,
    Local,
    Outputs,
    Set,
    Tracking,
    app,
    lab_of,
    plain_errors,
    study_of,
)
from harness.scheduling.progress import working

if TYPE_CHECKING:
    import pandas as pd

    from harness.results.tables import Results
    from harness.study import Study

FIRST_PILOT = 100
"""Pilot seeds begin here."""


@app.command()
def noise(
    cell: Annotated[
        str,
        typer.Argument(
            metavar="STUDY[:CELL]", help="A study, and one of its cells; without it the control."
        ),
    ],
    set_: Set = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=2, help="So many pilot seeds from 100 up; else the study's own."),
    ] = None,
    local: Local = False,
    address: Address = None,
    gpu_share: GpuShare = 1.0,
    tracking: Tracking = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Run one cell of a study over several seeds; print what varies, and what could be detected."""
    with plain_errors():
        name, _, chosen = cell.partition(":")
        study = study_of(name, set_)
        pilot = pilot_of(study, chosen or study.control, seeds)
        lab = lab_of(outputs, tracking)
        states = lab.run(pilot, local=local, address=address, gpu_share=gpu_share)
        with working("reading the runs"):
            results = lab.results(pilot.name)
        _show(results, study, outside=seeds is not None)
    if any(state != "done" for state in states.values()):
        raise typer.Exit(1)


def pilot_of(study: Study, cell: str, seeds: int | None) -> Study:
    """Returns a study of one cell. `seeds`: how many from 100 up, none of which the study reports
    or tunes by; None: the study's own, whose runs it then finds done. Raises SettingError for an
    unknown cell and for a single seed."""
    names = [each.name for each in study.cells]
    if cell not in names:
        raise nearest(cell, names, f"cell of study {study.name!r}")
    taken = {*study.seeds, study.tuning.seed}
    if study.warm_start:
        taken.add(study.warm_start.seed)
    free = (seed for seed in range(FIRST_PILOT, FIRST_PILOT + (seeds or 0) + len(taken)))
    pilot = tuple(seed for seed in free if seed not in taken)[:seeds] if seeds else study.seeds
    if len(pilot) < 2:
        raise SettingError(f"study {study.name!r} has one seed: give --seeds 3 or more")
    one = study.cells[names.index(cell)].model_copy(update={"role": "compared"})
    changed = {"cells": (one,), "control": cell, "seeds": pilot, "name": f"{study.name}_noise"}
    return study.model_copy(update={**changed, "question": f"How far do seeds of {cell} vary?"})


def _show(results: Results, study: Study, *, outside: bool) -> None:
    from harness.commands.terminal import console, say, table
    from harness.planning.endpoints import level_of_first
    from reports.noise import detectable, spreads

    spread = spreads(results)
    done = int((results.runs["status"] == "done").sum())
    console.print(
        f"{results.study.control}: {done} of {len(results.runs)} seeds done", style="bold"
    )
    if spread.empty:
        return
    table(spread.columns, _rounded(spread))
    compared = sum(cell.role == "compared" for cell in study.cells)
    first = study.judged[0].score
    of_first = spread.loc[spread["score"] == first, "SD"]
    sd = float(of_first.iloc[0]) if len(of_first) else None
    of = "SDs" if sd is None else first
    console.print(f"\nSmallest difference from a control found with 80 % chance, in {of}:")
    sizes = sorted({2, 3, 5, compared} - {0, 1})
    level = level_of_first(study)
    table(*_titled(detectable(sizes, (3, 4, 5, 7, 10), alpha=level, sd=sd)))
    console.print()
    say(
        f"The study compares {compared} designs at {len(study.seeds)} seeds. What a seed does to "
        "all designs alike drops out of their differences, so the spread that counts there is "
        "mostly smaller than this one. The SD of few seeds is hardly known: see its interval."
    )
    if not outside:
        say("These are the study's own seeds: it finds the runs done.")


def _rounded(table: pd.DataFrame) -> list[tuple[str, ...]]:
    return [
        tuple(value if isinstance(value, str) else f"{value:.3g}" for value in row)
        for row in table.itertuples(index=False)
    ]


def _titled(table: pd.DataFrame) -> tuple[list[str], list[tuple[str, ...]]]:
    columns = [str(name) if name == "designs" else f"{name} seeds" for name in table.columns]
    return columns, _rounded(table.astype({"designs": str}))
