"""From the results table to the answer: verdicts, floors, what is missing, what was learned.

Works on records: no file is read and nothing is drawn here. Scores are in the study's own units.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from harness.statistics.blocked import Analysis
from harness.statistics.endpoints import analyse_all
from harness.statistics.intervals import proportion_lower_bound
from harness.statistics.looks import LooksTaken, level_of_look, looks_taken, seeds_compared
from harness.statistics.power import smallest_detectable_effect
from harness.statistics.verdicts import Verdict, verdict
from reports.drawing import colours, in_words, markers

if TYPE_CHECKING:
    from harness.results.tables import Endpoint, Results


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a study's runs say about one endpoint."""

    primary: str
    """The score, as `retrieval/mean_recall`."""
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
    """Direction of the score."""
    unit: str = ""
    """Of the score, the region and all differences; empty: no run has the score."""
    cannot_have: frozenset[str] = frozenset()
    """Cells whose design cannot have the score: they say so elsewhere, and lack nothing."""
    undeclared: str = ""
    """What was read that was no declared look, and at what level verdicts stand for it; empty: all
    is as declared."""

    @property
    def residual_sd(self) -> float:
        """SD of a score around its design and seed, in `unit`; nan where it cannot be known."""
        return self.analysis.residual_sd

    @property
    def means(self) -> dict[str, float]:
        """Cell -> its mean score, floors too, of cells that have one."""
        both = {**self.analysis.means, **self.floors}
        return {cell: value for cell, value in both.items() if math.isfinite(value)}

    @property
    def kinds(self) -> dict[str, str]:
        """Compared cell -> its verdict in a word."""
        return {cell: verdict.kind for cell, verdict in self.verdicts.items()}

    @property
    def seeds(self) -> int:
        """Counts the seeds that verdicts rest on, of the contrast that has most."""
        return max((contrast.seeds for contrast in self.analysis.contrasts), default=0)

    @property
    def lines(self) -> tuple[str, ...]:
        """The verdicts in words, one line per compared cell."""
        control = self.analysis.control
        return tuple(f"{cell} against {control}: {v.text}" for cell, v in self.verdicts.items())


def answer(results: Results) -> Answer:
    """The answer on the first endpoint, as `answers` gives it."""
    return answers(results)[0]


def note(results: Results, answered: Sequence[Answer]) -> None:
    """Notes where the results lie that their verdicts are seen: seeds added for them are another
    look. Raises OSError where that cannot be written."""
    if results.note_read is not None:
        seeds = max(one.seeds for one in answered)
        results.note_read(seeds, {one.primary: one.kinds for one in answered})


def answers(results: Results) -> tuple[Answer, ...]:
    """The blocked analysis of every endpoint among compared cells, with its verdicts: adjusted over
    endpoints and cells together.

    Only runs that are done count; one without the score is among the missing. Raises ValueError
    where a column that this needs is not in the runs table.
    """
    study = results.study
    need(results.runs, ("cell", "role", "seed", "status", "message"), "the runs table")
    compared = [_compared(results, endpoint.score) for endpoint in study.judged]
    taken = looks_taken(study.looks, results.read_at, seeds_compared(compared[0], study.control))
    analyses = analyse_all(
        compared,
        study.control,
        alpha=study.alpha,
        looks=taken.looks,
        order=study.endpoint_order,
        names=[in_words(endpoint.score) for endpoint in study.judged],
    )
    return tuple(
        _answer(results, endpoint, analysis, taken)
        for endpoint, analysis in zip(study.judged, analyses, strict=True)
    )


def _scored(results: Results, score: str) -> pd.DataFrame:
    """Returns the runs that are done and have the score, with it as a column."""
    runs = results.runs.assign(score=results.values(score))
    return runs[(runs["status"] == "done") & runs["score"].map(math.isfinite)]


def _compared(results: Results, score: str) -> dict[str, dict[int, float]]:
    """Returns compared cell -> seed -> score, of the cells that can have the score."""
    runs, cannot_have = results.runs, _cannot_have(results, score) - {results.study.control}
    cells = runs.loc[runs["role"] == "compared", "cell"].unique()
    scores: dict[str, dict[int, float]] = {c: {} for c in cells if c not in cannot_have}
    for run in _scored(results, score).to_dict("records"):
        if run["cell"] in scores:
            scores[run["cell"]][int(run["seed"])] = float(run["score"])
    return scores


def _answer(results: Results, endpoint: Endpoint, analysis: Analysis, taken: LooksTaken) -> Answer:
    runs, scored = results.runs, _scored(results, endpoint.score)
    cannot_have = _cannot_have(results, endpoint.score)
    higher_is_better = results.higher_is_better(endpoint.score)
    if endpoint.better:
        higher_is_better = endpoint.better == "higher"
    study, designs = results.study, analysis.designs_compared
    level = level_of_look(study.alpha, taken.looks, designs)
    verdict_of = functools.partial(
        verdict,
        analysis,
        region=endpoint.equal_within,
        seconds_per_run=_seconds_per_run(scored, analysis),
        higher_is_better=higher_is_better,
    )
    floors = runs.loc[runs["role"] == "floor", "cell"].unique()
    return Answer(
        primary=endpoint.score,
        region=endpoint.equal_within,
        analysis=analysis,
        verdicts={contrast.design: verdict_of(contrast.design) for contrast in analysis.contrasts},
        floors={cell: float(scored.loc[scored["cell"] == cell, "score"].mean()) for cell in floors},
        detectable=_detectable(analysis),
        missing=tuple(_missing(runs.drop(scored.index), cannot_have)),
        higher_is_better=higher_is_better,
        unit=results.unit(endpoint.score),
        cannot_have=frozenset(cannot_have),
        undeclared=taken.note(study.alpha, level, designs),
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
    effect = smallest_detectable_effect(
        analysis.designs_compared, min(seeds), alpha=analysis.dunnett_alpha
    )
    return effect * analysis.residual_sd


def _cannot_have(results: Results, name: str) -> set[str]:
    """Returns the cells whose design cannot have a score."""
    task, _, score = name.partition("/")
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
