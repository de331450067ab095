"""Two runs, two variants or two studies beside each other: specs, curves, scores, verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from scipy import stats

from harness.results.tables import Results
from harness.statistics.families import all_pairs
from reports.analysis import Answer, answers
from reports.tables import in_thousandths

ABSENT = "–"
AT = 4
"""Common steps at which curves are compared, the last among them."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A side is a run, or a variant with all its seeds."""

    name: str
    spec: Mapping[str, object]
    """Settings, nested."""
    scores: pd.DataFrame
    """seed, name, value; of a single run any seed, the same on both sides."""
    curves: pd.DataFrame
    """seed, name, step, value."""


def side_of_cell(results: Results, cell: str, spec: Mapping[str, object]) -> Side:
    """Gives a variant of a study as a side: its runs that are done."""
    runs = results.runs[(results.runs["cell"] == cell) & (results.runs["status"] == "done")]
    scores = runs[["seed", "run"]].merge(results.scores, on="run")
    scores["name"] = scores["task"].astype(str) + "/" + scores["score"].astype(str)
    curves = results.curves[(results.curves["cell"] == cell)]
    curves = curves[curves["seed"].isin(runs["seed"])]
    return Side(
        name=cell,
        spec=spec,
        scores=scores[["seed", "name", "value"]],
        curves=curves[["seed", "name", "step", "value"]].astype({"name": str}),
    )


# -- specs


def spec_differences(first: Mapping[str, object], second: Mapping[str, object]) -> pd.DataFrame:
    """One row per field that differs, by its dotted path: field, first, second. Lists of records
    are matched by label or name; a record that one side alone has is one row."""
    rows = [
        {"field": path, "first": _words(values[0]), "second": _words(values[1])}
        for path, values in _differing(first, second)
    ]
    return pd.DataFrame(rows, columns=["field", "first", "second"])


def _differing(
    first: object, second: object, path: str = ""
) -> Iterator[tuple[str, tuple[object, object]]]:
    first, second = _by_title(first), _by_title(second)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for name in dict.fromkeys([*first, *second]):
            below = f"{path}.{name}" if path else str(name)
            yield from _differing(first.get(name, ABSENT), second.get(name, ABSENT), below)
    elif first != second:
        yield path, (first, second)


def _by_title(value: object) -> object:
    """Gives a list of records as title -> record, and all else as it is."""
    if isinstance(value, list | tuple) and all(isinstance(x, Mapping) for x in value):
        return {_title(record): record for record in value}
    return list(value) if isinstance(value, tuple) else value


def _flat(value: object, path: str = "") -> Iterator[str]:
    """Gives `path=value` of every field within."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else str(name))
    else:
        yield f"{path}={_words(value)}"


def _title(record: Mapping[str, object]) -> str:
    """Gives what tells a record of a list from the others: a task's title, or a cell's name."""
    title = record.get("label") or record.get("name")
    return str(title or ", ".join(each for each in _flat(record) if not each.startswith("label=")))


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        fields = (each for each in _flat(value) if not each.startswith(("label=", "role=compared")))
        return ", ".join(fields) or "{}"
    return value if isinstance(value, str) and value else json.dumps(value, default=str)


# -- scores and curves


def score_differences(first: Side, second: Side) -> pd.DataFrame:
    """One row per score that both have: score, seeds, first, second, difference (second less
    first). Means over the seeds that both have; over each side's own where they share none, with 0
    seeds. What was timed is left out."""
    both = first.scores.merge(second.scores, on=["seed", "name"], suffixes=("_a", "_b"))
    names = [name for name in first.scores["name"].unique() if name in set(second.scores["name"])]
    rows = []
    for name in names:
        if "/seconds_" in name:
            continue
        own = both[both["name"] == name]
        sides = (own["value_a"], own["value_b"])
        if own.empty:
            sides = tuple(s.scores.loc[s.scores["name"] == name, "value"] for s in (first, second))
        values = [float(side.mean()) for side in sides]
        rows.append(_row({"score": name, "seeds": len(own)}, *values))
    return pd.DataFrame(rows, columns=["score", "seeds", "first", "second", "difference"])


def curve_differences(first: Side, second: Side) -> pd.DataFrame:
    """One row per curve and step: curve, step, first, second, difference. At a few steps that every
    run of both sides measured, and, where a side went on, at its own last one ("last")."""
    rows = []
    names = [name for name in first.curves["name"].unique() if name in set(second.curves["name"])]
    for name in names:
        means = [_mean_curve(side.curves[side.curves["name"] == name]) for side in (first, second)]
        common = sorted(set(means[0].index) & set(means[1].index))
        places = sorted({math.ceil(len(common) * k / AT) - 1 for k in range(1, AT + 1)})
        for step in (common[place] for place in places if common):
            rows.append(_row({"curve": name, "step": f"{step:,}"}, *(m[step] for m in means)))
        lasts = [int(mean.index[-1]) if len(mean) else 0 for mean in means]
        if lasts[0] != lasts[1] and all(len(mean) for mean in means):
            where = f"last ({lasts[0]:,} / {lasts[1]:,})"
            rows.append(_row({"curve": name, "step": where}, *(m.iloc[-1] for m in means)))
    return pd.DataFrame(rows, columns=["curve", "step", "first", "second", "difference"])


def _mean_curve(curve: pd.DataFrame) -> pd.Series:
    """Gives step -> mean over seeds, where every seed measured."""
    table = curve.pivot_table(index="step", columns="seed", values="value", aggfunc="last")
    return table.dropna().mean(axis=1)


def _row(place: dict[str, str | int], first: float, second: float) -> dict[str, str | int | float]:
    return {**place, "first": first, "second": second, "difference": second - first}


# -- verdicts


def scores_of(results: Results, name: str) -> dict[str, dict[int, float]]:
    """Gives compared cell -> seed -> score, of runs that are done."""
    runs = results.runs.assign(value=results.values(name))
    runs = runs[(runs["role"] == "compared") & (runs["status"] == "done") & runs["value"].notna()]
    return {
        str(cell): {int(seed): float(x) for seed, x in zip(own["seed"], own["value"], strict=True)}
        for cell, own in runs.groupby("cell", sort=False)
    }


def verdict_lines(results: Results, first: str, second: str) -> list[str]:
    """Says of two cells of one study what its runs decide: by the study's contrast where one is the
    control, else by Tukey's intervals over all pairs, which are descriptive."""
    lines = []
    for answered in answers(results):
        control = answered.analysis.control
        other = second if first == control else first
        if control in (first, second) and other in answered.verdicts:
            text = answered.verdicts[other].text
            lines.append(f"{answered.primary}: {other} against {control}: {text}")
        else:
            lines.append(f"{answered.primary}: {_tukey(results, answered, first, second)}")
    return lines


def _tukey(results: Results, answered: Answer, first: str, second: str) -> str:
    scores = scores_of(results, answered.primary)
    if lacking := [cell for cell in (first, second) if cell not in scores]:
        return f"{', '.join(lacking)} cannot be tested: a floor, or without this score"
    pairs = all_pairs(scores, alpha=answered.analysis.alpha)
    pair = next(each for each in pairs if {each.design, each.control} == {first, second})
    if not pair.has_interval:
        return pair.note
    sign = 1 if pair.design == second else -1
    lower, upper = sorted((sign * pair.lower, sign * pair.upper))
    shown = "a" if lower > 0 or upper < 0 else "no"
    return (
        f"{second} less {first} {sign * pair.delta:+.3g} [{lower:+.3g}, {upper:+.3g}], "
        f"p {in_thousandths(pair.p_adjusted)}: {shown} difference is shown (descriptive: all pairs "
        f"of {len(scores)} cells, Tukey, {pair.seeds} shared seeds)"
    )


# -- studies


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """An agreement says how two studies order and judge the cells that both have, on one score."""

    endpoint: str
    cells: pd.DataFrame
    """cell, and of each study mean score and verdict: first, second, first_verdict,
    second_verdict."""
    ordered: int
    """Cells that both compare, the control among them."""
    tau: float
    """Kendall's tau-b of the two orders of compared cells, from -1 to 1; nan below two cells."""
    same_verdicts: int
    judged: int
    """Cells that both studies judge against the same control."""


def agreements(first: Results, second: Results) -> list[Agreement]:
    """Compares two studies on every endpoint that both have, over cells of the same name."""
    others = {answered.primary: answered for answered in answers(second)}
    return [
        _agreement(answered, others[answered.primary])
        for answered in answers(first)
        if answered.primary in others
    ]


def _agreement(first: Answer, second: Answer) -> Agreement:
    sides = (first, second)
    cells = [cell for cell in first.means if cell in second.means]
    table = pd.DataFrame(
        {
            "cell": cells,
            "first": [first.means[cell] for cell in cells],
            "second": [second.means[cell] for cell in cells],
            "first_verdict": [_kind(first, cell) for cell in cells],
            "second_verdict": [_kind(second, cell) for cell in cells],
        }
    )
    tested = table[_where(table, *(side.analysis.means for side in sides))]
    tau = math.nan
    if len(tested) > 1:
        tau = float(stats.kendalltau(tested["first"], tested["second"]).statistic)
    judged = table[_where(table, *(side.verdicts for side in sides))]
    if first.analysis.control != second.analysis.control:
        judged = judged.iloc[:0]
    same = int((judged["first_verdict"] == judged["second_verdict"]).sum())
    return Agreement(
        endpoint=first.primary,
        cells=table,
        ordered=len(tested),
        tau=tau,
        same_verdicts=same,
        judged=len(judged),
    )


def _where(table: pd.DataFrame, *sides: Container[str]) -> pd.Series:
    """Says which rows have a cell that both sides have."""
    return pd.Series([all(cell in side for side in sides) for cell in table["cell"]], dtype=bool)


def _kind(answered: Answer, cell: str) -> str:
    if cell == answered.analysis.control:
        return "control"
    return answered.verdicts[cell].kind if cell in answered.verdicts else "floor"


def agreement_lines(names: Sequence[str], agreement: Agreement) -> list[str]:
    """Says an agreement in words."""
    lines = []
    if math.isfinite(agreement.tau):
        lines.append(
            f"{agreement.endpoint}: {names[0]} and {names[1]} order their "
            f"{agreement.ordered} shared cells with Kendall's tau {agreement.tau:+.2f} "
            "(1: alike, -1: the other way round)"
        )
    if agreement.judged:
        lines.append(
            f"{agreement.endpoint}: {agreement.same_verdicts} of {agreement.judged} verdicts agree"
        )
    elif len(agreement.cells):
        lines.append(f"{agreement.endpoint}: no cell is judged by both against the same control")
    return lines or [f"{agreement.endpoint}: no cell of one name has scores in both"]
