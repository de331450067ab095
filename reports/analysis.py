"""From the results table to the answer: verdicts, floors, what is missing, what was learned.

Works on records: no file is read and nothing is drawn here. Scores are in the study's own units.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from harness.statistics.blocked import Analysis, analyse
from harness.statistics.intervals import proportion_lower_bound
from harness.statistics.power import smallest_detectable_effect
from harness.statistics.verdicts import Verdict, verdict
from reports.drawing import colours, markers

if TYPE_CHECKING:
    from harness.results.tables import Results


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a study's runs say about its primary score."""

    primary: str
    region: float
    """Half-width of the region of practical equivalence."""
    analysis: Analysis
    verdicts: dict[str, Verdict]
    """One for each compared cell that has a contrast, in the study's order."""
    floors: dict[str, float]
    """Mean score of each floor; no test."""
    detectable: float
    """Smallest difference found with 80 % chance at these seeds; nan where it cannot be known."""
    missing: tuple[str, ...]
    """Runs without a score: cell, seed, status and message."""
    higher_is_better: bool = True
    """Direction of the primary score."""

    @property
    def means(self) -> dict[str, float]:
        """Cell -> its mean score, floors too, of cells that have one."""
        both = {**self.analysis.means, **self.floors}
        return {cell: value for cell, value in both.items() if math.isfinite(value)}

    @property
    def lines(self) -> tuple[str, ...]:
        """The verdicts in words, one line per compared cell."""
        control = self.analysis.control
        return tuple(f"{cell} against {control}: {v.text}" for cell, v in self.verdicts.items())


def answer(results: Results) -> Answer:
    """The blocked analysis of the primary score among compared cells, with its verdicts.

    Only runs that are done count; one without the primary score is among the missing. Raises
    ValueError where a column that this needs is not in the runs table.
    """
    study, primary = results.study, results.study.primary
    need(results.runs, ("cell", "role", "seed", "status", "message"), "the runs table")
    runs = results.runs.assign(score=results.values(primary))
    scored = runs[(runs["status"] == "done") & runs["score"].map(math.isfinite)]
    compared = runs[runs["role"] == "compared"]
    scores: dict[str, dict[int, float]] = {cell: {} for cell in compared["cell"].unique()}
    for run in scored[scored["role"] == "compared"].to_dict("records"):
        scores[run["cell"]][int(run["seed"])] = float(run["score"])
    analysis = analyse(scores, study.control, alpha=study.alpha, looks=study.looks)
    verdict_of = functools.partial(
        verdict,
        analysis,
        region=study.equal_within,
        seconds_per_run=_seconds_per_run(scored, analysis),
        higher_is_better=results.higher_is_better(primary),
    )
    floors = runs.loc[runs["role"] == "floor", "cell"].unique()
    return Answer(
        primary=primary,
        region=study.equal_within,
        analysis=analysis,
        verdicts={contrast.design: verdict_of(contrast.design) for contrast in analysis.contrasts},
        floors={cell: float(scored.loc[scored["cell"] == cell, "score"].mean()) for cell in floors},
        detectable=_detectable(analysis),
        missing=tuple(_missing(runs.drop(scored.index), _cannot_have(results, primary))),
        higher_is_better=results.higher_is_better(primary),
    )


def need(table: pd.DataFrame, columns: tuple[str, ...], what: str) -> None:
    """Raise ValueError naming the columns that a table lacks."""
    if lacking := [name for name in columns if name not in table.columns]:
        have = ", ".join(map(str, table.columns)) or "none"
        raise ValueError(f"{what} lacks the column(s) {', '.join(lacking)}; it has: {have}")


def _seconds_per_run(scored: pd.DataFrame, analysis: Analysis) -> dict[str, float] | None:
    """Mean device-seconds of a run of each cell; None where any compared cell has no time."""
    if "ledger.device_seconds" not in scored:
        return None
    seconds = scored.groupby("cell")["ledger.device_seconds"].mean().dropna().to_dict()
    cells = {analysis.control, *(contrast.design for contrast in analysis.contrasts)}
    return {str(cell): seconds[cell] for cell in cells} if cells <= seconds.keys() else None


def _detectable(analysis: Analysis) -> float:
    seeds = [contrast.seeds for contrast in analysis.contrasts if contrast.has_interval]
    if not seeds:
        return math.nan
    effect = smallest_detectable_effect(analysis.designs_compared, min(seeds), alpha=analysis.alpha)
    return effect * math.sqrt(analysis.mse)


def _cannot_have(results: Results, primary: str) -> set[str]:
    """Returns the cells whose design cannot have the primary score: they say so elsewhere, and lack
    nothing."""
    task, _, score = primary.partition("/")
    return {
        row.cell
        for row in results.study.rows
        if task in row.not_applicable or score.partition("_")[0] in row.not_applicable
    }


def _missing(runs: pd.DataFrame, cannot_have: Collection[str]) -> list[str]:
    lines = []
    for run in runs.to_dict("records"):
        if run["status"] == "done" and run["cell"] in cannot_have:
            continue
        why = run["status"] if run["status"] != "done" else "done, but without this score"
        message = run["message"] if isinstance(run["message"], str) else ""
        reason = f" ({message})" if message else ""
        lines.append(f"{run['cell']}, seed {run['seed']}: {why}{reason}")
    return lines


def scored_runs(results: Results, answered: Answer) -> pd.DataFrame:
    """The runs table with what figures need beside it: one row per cell and seed.

    Adds `score` (nan unless done), `score_name`, `axis` and `axis_name`, `colour`, `marker`,
    `is_control`, and for compared cells `delta`, `lower`, `upper`, `verdict` against the control,
    and `region`.
    """
    study = results.study
    axis, contrasts = study.axis, {c.design: c for c in answered.analysis.contrasts}
    table = results.runs.copy()
    table["score"] = results.values(answered.primary).where(table["status"] == "done")
    table["score_name"] = answered.primary
    # A run that never started does not know its place; without that column cells stand side by
    # side under their names.
    table["axis"] = table.groupby("cell")[axis if axis in table else "cell"].transform("first")
    table["axis_name"] = axis if axis in table else "cell"
    table["colour"] = table["cell"].map(colours(table))
    table["marker"] = table["cell"].map(markers(table))
    table["is_control"] = table["cell"] == study.control
    for name in ("delta", "lower", "upper"):
        by_cell = {cell: getattr(contrast, name) for cell, contrast in contrasts.items()}
        table[name] = table["cell"].map(by_cell).astype(float)
    kinds = {cell: verdict.kind for cell, verdict in answered.verdicts.items()}
    table["verdict"] = [kinds.get(cell, "") for cell in table["cell"]]
    table["region"] = answered.region
    return table


def coloured_curves(results: Results, scored: pd.DataFrame) -> pd.DataFrame:
    """The curves with each run's status, its cell's colour and marker, whether that is the control,
    and `flops`: what training to this point took, nan where no run of the cell has counted it.
    """
    curves, words = results.curves, ["status", "colour", "marker"]
    price = scored.groupby("cell")["ledger.flops_per_sample"].mean()
    beside = scored[["cell", "seed", *words, "is_control"]].astype(
        {"cell": curves["cell"].dtype, **dict.fromkeys(words, "category")}
    )
    rows = curves[["cell", "seed"]].merge(
        beside, on=["cell", "seed"], how="left", validate="many_to_one"
    )
    flops = curves["samples"] * curves["cell"].map(price).astype(float)
    return curves.assign(**{name: rows[name] for name in (*words, "is_control")}, flops=flops)


def learned(results: Results) -> pd.DataFrame:
    """Per finished run and level: share of items right, its lower 95 % bound, chance, and ok.

    ok is True where the one-sided exact bound lies above the chance or majority level. Shares are
    in [0, 1]. A level that does not apply to a run (no items) has no row.
    """
    runs = results.runs[results.runs["status"] == "done"]
    counted = runs[["cell", "role", "seed", "run"]].merge(results.levels, on="run")
    table = counted[counted["items"] > 0].reset_index(drop=True)
    pairs = zip(table["successes"].astype(int), table["items"].astype(int), strict=True)
    table["share"] = table["successes"] / table["items"]
    table["lower_bound"] = [proportion_lower_bound(right, items) for right, items in pairs]
    table["ok"] = table["lower_bound"] > table["chance"]
    columns = ("cell", "role", "seed", "run", "task", "level", "items", "share")
    return table[[*columns, "lower_bound", "chance", "ok"]]


def all_learned(results: Results, table: pd.DataFrame) -> bool:
    """Whether every run of a compared cell is done, has levels, and beats chance in all of them.

    `table`: what `learned` gives.
    """
    compared = results.runs[results.runs["role"] == "compared"]
    rows = table[table["role"] == "compared"]
    return bool(
        len(compared)
        and (compared["status"] == "done").all()
        and set(compared["run"]) == set(rows["run"])
        and rows["ok"].all()
    )
