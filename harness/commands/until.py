"""Runs a study look by look: seeds are added until every contrast is decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from harness.commands.options import note_read

if TYPE_CHECKING:
    from harness.lab import Lab
    from harness.outputs.files import State
    from harness.study import Study


def run_until_decided(
    lab: Lab,
    asked: Study,
    study: Study,
    at_most: int,
    run: Callable[[Study], dict[str, State]],
    *,
    tuned: bool,
) -> dict[str, State]:
    """Runs a study at each of its looks, until one decides all contrasts, a run does not end well,
    or it has `at_most` seeds; returns the states of its runs.

    asked: the study as its file says it; study: the same with what was added to it
    run: brings the runs of a study to an end

    Raises SettingError where the study declares fewer looks than that may take.
    """
    from harness.planning.extension import looks_of, seeds_of
    from reports.analysis import answers

    states: dict[str, State] = {}
    for seeds in looks_of(asked, at_most):
        if seeds < len(study.seeds):
            continue  # looked at before
        if more := seeds - len(study.seeds):
            study = lab.extend(study, seeds=seeds_of(study, f"+{more}"), tuned=tuned).study
        states = run(study)
        if any(state != "done" for state in states.values()):
            return states
        results = lab.results(study.name)
        answered = answers(results)
        note_read(lab.outputs, results)
        open_cells = (
            cell for each in answered for cell, kind in each.kinds.items() if kind == "undecided"
        )
        undecided = list(dict.fromkeys(open_cells))
        what = f"{', '.join(undecided)} undecided" if undecided else "every contrast is decided"
        typer.echo(f"{seeds} seeds: {what}")
        if not undecided:
            break
    return states or run(study)
