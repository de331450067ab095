"""`fuselab compare` sets two runs, two variants or two studies beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import JsonValue

from harness.commands.options import OUTPUTS, Outputs, app, lab_of, note_read, plain_errors
from harness.words import visible

if TYPE_CHECKING:
    import pandas as pd

    from harness.results.tables import Results
    from reports.compare import Side

Name = Annotated[
    str,
    typer.Argument(help="A run (key, its beginning, or STUDY/CELL/SEED), STUDY:CELL, or a study."),
]


@dataclass(frozen=True)
class Place:
    """A place is what a name on the command line stands for."""

    kind: str
    """run, variant or study."""
    name: str
    study: str = ""
    cell: str = ""


@app.command()
def compare(
    first: Name,
    second: Name,
    every: Annotated[
        bool, typer.Option("--all", help="Every score and curve, not only what stands first.")
    ] = False,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Compare two runs, two variants (STUDY:CELL) or two studies: specs, scores, curves, verdict.

    Differences are the second less the first.
    """
    with plain_errors():
        from architectures.frozen import SettingError

        outputs = outputs.resolve()
        places = [place_of(outputs, name) for name in (first, second)]
        kinds = [place.kind for place in places]
        if kinds[0] != kinds[1]:
            raise SettingError(
                f"{first} is a {kinds[0]} and {second} a {kinds[1]}: compare two of a kind"
            )
        if kinds[0] == "study":
            _studies(outputs, places)
        elif kinds[0] == "variant":
            _variants(outputs, places, every)
        else:
            _runs(outputs, places, every)


def place_of(outputs: Path, name: str) -> Place:
    """Says what a name stands for. Raises SettingError with the nearest where it is nothing."""
    from architectures.frozen import SettingError, nearest
    from harness.outputs.copies import shown
    from harness.outputs.find import find_run
    from harness.outputs.folder import studies

    records = studies(outputs)
    if name in records:
        return Place("study", name, name)
    study, colon, cell = name.partition(":")
    if colon:
        if study not in records:
            raise nearest(
                study, records, f"study under {shown(outputs / 'studies')} (option --outputs)"
            )
        cells = dict.fromkeys(row.cell for row in records[study].rows)
        if cell not in cells:
            raise nearest(cell, cells, f"cell of study {study!r}")
        return Place("variant", name, study, cell)
    try:
        return Place("run", find_run(outputs, name).key)
    except SettingError as error:
        if "/" in name or "runs:" in str(error):
            raise
        raise nearest(name, records, f"study or run under {shown(outputs)}") from None


def _studies(outputs: Path, places: list[Place]) -> None:
    from reports.compare import spec_differences

    results = [lab_of(outputs, None).results(place.study) for place in places]
    specs = [dict(each.study.settings) for each in results]
    _show_specs(spec_differences(*specs), [place.name for place in places])
    for each in results:
        note_read(each)
    show_agreement(*results)


def _variants(outputs: Path, places: list[Place], every: bool) -> None:
    from reports.compare import side_of_cell, verdict_lines

    results = [lab_of(outputs, None).results(place.study) for place in places]
    sides = [
        side_of_cell(each, place.cell, _spec_of_cell(outputs, each, place.cell))
        for each, place in zip(results, places, strict=True)
    ]
    if places[0] == places[1]:
        lines = ["nothing to test: both are the same cell"]
    elif places[0].study == places[1].study:
        note_read(results[0])
        lines = verdict_lines(results[0], places[0].cell, places[1].cell)
    else:
        lines = ["descriptive: cells of two studies are not tested against each other"]
    endpoints = [endpoint.score for each in results for endpoint in each.study.judged]
    _show(sides, [place.name for place in places], lines, endpoints, every)


def _runs(outputs: Path, places: list[Place], every: bool) -> None:
    sides = [_side_of_run(outputs, place.name) for place in places]
    line = "descriptive: one run on each side shows no spread, so nothing is tested"
    _show(sides, [place.name for place in places], [line], [], every)


def _side_of_run(outputs: Path, key: str) -> Side:
    import pandas as pd

    from harness.outputs.folder import RunFolder
    from harness.results.folders import record_of
    from reports.compare import Side

    record = record_of(RunFolder(outputs, key))
    scores = [
        (0, f"{task.task}/{score.name}", score.value)
        for task in record.scores
        for score in task.scores
    ]
    curves = record.curves.assign(seed=0)[["seed", "name", "step", "value"]]
    return Side(
        name=key,
        spec={**_spec(outputs, key), "status": record.status},
        scores=pd.DataFrame(scores, columns=["seed", "name", "value"]),
        curves=curves.astype({"name": str}),
    )


def _spec_of_cell(outputs: Path, results: Results, cell: str) -> Mapping[str, JsonValue]:
    """Returns the spec of a cell's first run that has one, without its seed; else what the study
    says of the cell."""
    rows = [row for row in results.study.rows if row.cell == cell]
    for row in rows:
        if spec := _spec(outputs, row.run):
            return {name: value for name, value in spec.items() if name != "seed"}
    first = rows[0]
    return {"design": first.design, "config": first.config, **first.settings}


def _spec(outputs: Path, key: str) -> dict[str, JsonValue]:
    """Returns a run's spec under the names that `--set` takes, the design's config in full where a
    study has it; empty where there is none or it is damaged."""
    from harness.outputs.folder import RunFolder, studies
    from harness.results.entries import json_or_empty

    spec = json_or_empty(RunFolder(outputs, key).spec)
    train, asked = spec.get("train"), spec.get("asked")
    if not isinstance(train, dict) or not isinstance(asked, dict):
        return {}
    rows = (row for record in studies(outputs).values() for row in record.rows)
    config = next((row.config for row in rows if row.run == key), train.get("config"))
    return {**train, "config": config, "data_digest": train.get("data"), **asked}


# -- printing


def _show(
    sides: list[Side], names: list[str], verdicts: list[str], endpoints: list[str], every: bool
) -> None:
    from harness.commands.terminal import console, say, table
    from reports.compare import curve_differences, score_differences, spec_differences

    _show_specs(spec_differences(sides[0].spec, sides[1].spec), names)
    console.print()
    for line in verdicts:
        say(visible(line), indent="  ", at_most=console.width)
    scores, curves = score_differences(*sides), curve_differences(*sides)
    left_out = 0
    if not every:
        first = scores["score"].isin(endpoints) | scores["score"].str.startswith("validation/")
        kept = scores[first] if first.any() else scores
        validation = curves["curve"].str.startswith("val/")
        left_out = len(scores) - len(kept) + curves.loc[~validation, "curve"].nunique()
        scores, curves = kept, curves[validation]
    for frame in (scores, curves):
        if len(frame):
            console.print()
            table(_columns(frame, names), _rows(frame), words=("step",))
    if left_out:
        console.print(f"\n{left_out} other scores and curves: --all")


def _columns(frame: pd.DataFrame, names: list[str]) -> list[str]:
    titles = {"first": names[0], "second": names[1]}
    return [titles.get(str(name), str(name)) for name in frame.columns]


def _rows(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    def text(name: str, value: object) -> str:
        if not isinstance(value, float):
            return str(value)
        return f"{value:+.4g}" if name == "difference" else f"{value:.4g}"

    names = [str(name) for name in frame.columns]
    return [tuple(map(text, names, row)) for row in frame.itertuples(index=False)]


def _show_specs(differences: pd.DataFrame, names: list[str]) -> None:
    from harness.commands.terminal import console, table

    if differences.empty:
        console.print("Their specs are the same.")
        return
    columns = _columns(differences, names)
    table(columns, differences.itertuples(index=False), words=columns)


def show_agreement(first: Results, second: Results) -> None:
    """Prints how two studies order and judge the cells that both have."""
    from harness.commands.terminal import console, say, table
    from reports.compare import agreement_lines, agreements

    names = [first.study.name, second.study.name]
    shared = agreements(first, second)
    if not shared:
        own = [", ".join(e.score for e in each.study.judged) for each in (first, second)]
        console.print()
        say(visible(f"Their endpoints differ: {own[0]}; {own[1]}."))
    for agreement in shared:
        console.print()
        columns = ("cell", *names, *(f"verdict in {name}" for name in names))
        table(columns, _rows(agreement.cells), words=columns[3:])
        console.print()
        for line in agreement_lines(names, agreement):
            say(visible(line), indent="  ", at_most=console.width)
