"""`fuselab verdict` says what a study decides, to a person, a script or an agent."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import (
    OUTPUTS,
    Outputs,
    StudyName,
    Tracking,
    app,
    lab_of,
    name_of,
    note_read,
    plain_errors,
)
from harness.scheduling.progress import working
from harness.words import visible

if TYPE_CHECKING:
    from harness.results.alpha_ledger import Share
    from harness.results.tables import Results
    from reports.decision import Decision, EndpointLines


@app.command()
def verdict(
    study: StudyName,
    as_json: Annotated[
        bool, typer.Option("--json", help="As JSON, with the fields of verdicts.json.")
    ] = False,
    ledger: Annotated[
        Path | None,
        typer.Option(help="A file that keeps account of a night's questions, made where missing."),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Error rate of a new ledger over all its questions: 0.05.")
    ] = None,
    questions: Annotated[
        int | None, typer.Option(help="How many a new ledger will be asked, with equal shares.")
    ] = None,
    from_tracking: Annotated[
        bool, typer.Option("--from-tracking", help="Read the tracking store, not the run folders.")
    ] = False,
    tracking: Tracking = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Say what a study decides. Exit 0: every contrast of every endpoint is decided; 3: one is not;
    1: broken (a run is missing or failed, or the pairing); 2: a mistake in the command.
    """
    with plain_errors():
        from architectures.frozen import SettingError

        if ledger is None and (alpha is not None or questions is not None):
            raise SettingError("--alpha and --questions are the rule of a --ledger: name it too")
        lab, name = lab_of(outputs, tracking), name_of(study)
        with working(f"reading the runs of {name}"):
            results = lab.results(name, from_tracking=from_tracking)
        with working(f"judging {name}"):
            from reports.decision import EXITS, decision

            decided, share = decision(results), None
            if ledger:
                decided, share = _shared(results, decided, ledger, alpha, questions)
            if decided["endpoints"]:
                note_read(lab.outputs, results)
        if as_json:
            typer.echo(json.dumps({**decided, "ledger": _fields(share)}, indent=1, allow_nan=False))
        else:
            _show(decided, share, ledger)
    raise typer.Exit(EXITS[decided["state"]])


def _shared(
    results: Results, decided: Decision, ledger: Path, alpha: float | None, questions: int | None
) -> tuple[Decision, Share | None]:
    """Judges a study again at the share of a ledger, which pays for every look: with seeds added it
    is a new question. A broken one costs nothing and shows nothing: it is asked when its runs are
    there."""
    from harness.results.alpha_ledger import ask, question_of
    from reports.decision import decision

    if decided["state"] == "broken":
        return {**decided, "endpoints": []}, None
    scores = [each["endpoint"] for each in decided["endpoints"]]
    data = question_of(results, scores)
    share = ask(ledger, results.study.name, data, alpha, questions)
    level = min(share.level, results.study.alpha)
    study = results.study.model_copy(update={"alpha": level})
    return decision(dataclasses.replace(results, study=study, read_at=())), share


def _fields(share: Share | None) -> dict[str, float | int | bool | str] | None:
    if share is None:
        return None
    return {
        "question": share.place,
        "level": share.level,
        "alpha": share.rule.alpha,
        "left": share.left,
        "repeated": share.repeated,
        "rule": share.rule.words,
    }


def _show(decided: Decision, share: Share | None, ledger: Path | None) -> None:
    from harness.commands.terminal import console, say

    console.print(visible(f"{decided['study']}: {decided['state']}"), style="bold")
    for problem in decided["problems"]:
        say(visible(problem), lead="  ")
    for endpoint in decided["endpoints"]:
        _show_endpoint(endpoint, decided["control"])
    if share:
        again = "asked before, so it costs nothing" if share.repeated else "entered now"
        say(
            f"{ledger}: question {share.place} at level {share.level:.3g}, {again} "
            f"({share.rule.words}); {share.left:.3g} of {share.rule.alpha:g} is left."
        )
    elif ledger:
        say(f"{ledger}: nothing is entered, and nothing shown, until the study is whole.")


def _show_endpoint(endpoint: EndpointLines, control: str) -> None:
    from harness.commands.terminal import console, say, table

    better = "higher" if endpoint["higher_is_better"] else "lower"
    console.print()
    if not endpoint["contrasts"]:
        say(visible(f"{endpoint['endpoint']}: nothing to compare"))
        return
    say(
        f"{visible(endpoint['endpoint'])}: {better} is better, equal within "
        f"{endpoint['equal_within']:g} {endpoint['unit']}; intervals at "
        f"{100 * endpoint['level']:.4g} % together"
    )
    rows = [
        (
            *(
                line["cell"],
                line["verdict"],
                _interval(line["delta"], line["lower"], line["upper"]),
            ),
            *(_p(line["p_adjusted"]), line["seeds"]),
            "" if line["seeds_needed"] is None else f"+{line['seeds_needed']}",
        )
        for line in endpoint["contrasts"]
    ]
    columns = ("cell", "verdict", f"against {control}", "p", "seeds", "needs")
    table(columns, rows, words=("verdict",))


def _p(value: float | None) -> str:
    from reports.tables import in_thousandths

    return "–" if value is None else in_thousandths(value)


def _interval(delta: float | None, lower: float | None, upper: float | None) -> str:
    """Writes a difference as page and report do."""
    from reports.tables import with_interval

    if delta is None:
        return "–"
    ends = (math.nan if end is None else end for end in (lower, upper))
    return with_interval(delta, *ends)
