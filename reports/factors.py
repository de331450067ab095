"""A study's cells differ in factors, and some have a place on its axis."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from pydantic import JsonValue

from harness.results.tables import Results
from reports.analysis import need


def levels_of(results: Results, cells: Collection[str]) -> dict[str, dict[str, str]]:
    """Gives cell -> factor -> level, of everything that varies between these cells.

    A cell that does not change a setting has the study's own. Where designs differ, so do the
    fields of their configs: design and config are one factor then, whose levels are named after
    the first cell that has them.
    """
    rows = _one_row_a_cell(results, cells)
    config = [name for name in map(str, rows) if name.startswith("config.")]
    settings = [name for name in map(str, rows) if name.startswith("set.")]
    texts = rows[[*config, *settings]].astype(object).where(lambda table: table.notna(), None)
    texts = texts.map(_text).rename(columns=lambda name: str(name).partition(".")[2])
    for column in settings:
        path = column.removeprefix("set.")
        texts[path] = texts[path].where(rows[column].notna(), _text(_at(results, path)))
    if rows["design"].nunique() > 1:
        fields = ["design", *(name.partition(".")[2] for name in config)]
        keys = texts.assign(design=rows["design"])[fields].agg("|".join, axis=1)
        texts = texts.drop(columns=fields[1:])
        first = dict(zip(reversed(list(keys)), reversed(list(rows.index)), strict=True))
        texts.insert(0, "design", keys.map(first))
    varying = texts.loc[:, texts.nunique() > 1]
    return {str(cell): dict(own) for cell, own in varying.to_dict("index").items()}  # type: ignore[arg-type]


def places_of(results: Results, cells: Collection[str]) -> dict[str, float]:
    """Gives cell -> its number on the study's axis, of the cells that have the control's design.

    Another design at the same place differs in more than its place. Empty where the axis is no
    column of numbers.
    """
    axis, rows = results.study.axis, _one_row_a_cell(results, cells)
    if axis not in rows or results.study.control not in rows.index:
        return {}
    alike = rows[rows["design"] == rows.loc[results.study.control, "design"]]
    numbers = pd.to_numeric(alike[axis], errors="coerce")
    return {str(cell): float(x) for cell, x in numbers.items() if np.isfinite(x)}


def _one_row_a_cell(results: Results, cells: Collection[str]) -> pd.DataFrame:
    """What the first run that knows says of each cell, in the study's order."""
    need(results.runs, ("cell", "design"), "the runs table")
    return results.runs[results.runs["cell"].isin(cells)].groupby("cell", sort=False).first()


def _at(results: Results, path: str) -> JsonValue:
    """What the study itself sets at a dotted path."""
    value: JsonValue = results.study.settings
    for name in path.split("."):
        value = value.get(name, "as the study") if isinstance(value, dict) else "as the study"
    return value


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {own}" for name, own in value.items())
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole and isinstance(value, float) else value)
