"""Two tables: the ways out of undecided, and what the residual variance is made of.

Reads results and answers; nothing is computed here that `harness.statistics` could.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.statistics import variance
from harness.statistics.variance import Growth, Part
from harness.statistics.ways import Means, Way
from harness.statistics.ways import ways as ways_of

if TYPE_CHECKING:
    from harness.results.tables import Results
    from reports.analysis import Answer

FloatArray = npt.NDArray[np.float64]
Items = Mapping[str, FloatArray]
"""Endpoint -> what every design's run of every seed got for every item (D, S, N), in the units of
the score, as `harness.results.items.item_answers` reads it."""

LATE = 5
"""How many of the last measurements of a curve count as late."""


def ways(results: Results, answers: Sequence[Answer], items: Items | None = None) -> pd.DataFrame:
    """What would decide what is undecided: a row for each way, of each contrast the recommended one
    first, then by price.

    Columns: endpoint, cell, way, what, device_hours, chance (in [0, 1]; nan: nobody can know), note
    and recommended. `items` makes the part of items exact; counts of right answers bound it.
    """
    rows = [
        {"endpoint": answer.primary, **dataclasses.asdict(way)}
        for answer in answers
        for way in ways_of(answer.analysis, answer.region, _means(results, answer, items or {}))
    ]
    columns = ["endpoint", *(field.name for field in dataclasses.fields(Way))]
    return pd.DataFrame(rows, columns=columns)


def variance_parts(
    results: Results, answers: Sequence[Answer], items: Items | None = None
) -> pd.DataFrame:
    """What the residual variance of every endpoint is made of: a row for each part.

    Columns: endpoint, part (items, late checkpoints, design x seed), share (in [0, 1], of an
    endpoint they sum to 1), sd (in the units of the score) and note.
    """
    rows = [
        {"endpoint": answer.primary, **dataclasses.asdict(part)}
        for answer in answers
        for part in _parts(results, answer, items or {})
    ]
    columns = ["endpoint", *(field.name for field in dataclasses.fields(Part))]
    return pd.DataFrame(rows, columns=columns)


def _parts(results: Results, answer: Answer, items: Items) -> tuple[Part, ...]:
    endpoint, late = answer.primary, math.nan
    # The curve of a task is of other items than its score: their noise would be taken for late.
    if endpoint.startswith("validation/") and (curve := _curve(results, answer)):
        late = variance.late_variance(curve[0][:, :, -LATE:])
    single = variance.item_variance(items[endpoint]) if endpoint in items else math.nan
    counted = math.isnan(single)
    if counted:
        single = (
            variance.counted_variance(_counts(results, endpoint)) * _unit(results, endpoint) ** 2
        )
    return variance.variance_parts(answer.analysis.mse, items=single, late=late, counted=counted)


def _means(results: Results, answer: Answer, items: Items) -> Means:
    parts = {part.part: part.share for part in _parts(results, answer, items)}
    done = _done(results)
    task, _, _ = answer.primary.partition("/")
    counts = [number for _, number in _counts(results, answer.primary)]
    if answer.primary in items:
        counts = [items[answer.primary].shape[2]]
    run_seconds = (
        done.groupby("cell")["ledger.device_seconds"].mean().dropna().to_dict()
        if "ledger.device_seconds" in done
        else {}
    )
    return Means(
        run_seconds={str(cell): float(value) for cell, value in run_seconds.items()},
        scoring_seconds=_scoring_seconds(results, task),
        items=max(counts, default=0),
        item_share=parts.get(variance.ITEMS, 0.0),
        counted=answer.primary not in items,
        late_share=parts.get(variance.LATE, 0.0),
        growth=_growth(results, answer),
    )


def _scoring_seconds(results: Results, task: str) -> float:
    """Of one run: as the task timed itself, else all that its device did beside training."""
    scores, done = results.scores, _done(results)
    timed = scores[(scores["task"] == task) & (scores["unit"] == "seconds")]
    if len(timed):
        return float(timed.groupby("run")["value"].sum().mean())
    if {"ledger.device_seconds", "ledger.train_seconds"} <= set(done):
        return float((done["ledger.device_seconds"] - done["ledger.train_seconds"]).mean())
    return math.nan


def _growth(results: Results, answer: Answer) -> dict[str, Growth]:
    """How the difference from the control changes over the last half of training, of every cell."""
    curve = _curve(results, answer)
    if curve is None:
        return {}
    values_DST, samples_T, cells = curve
    late = samples_T >= samples_T[-1] / 2
    if answer.analysis.control not in cells or late.sum() < 3:
        return {}
    control_ST = values_DST[cells.index(answer.analysis.control)]
    return {
        cell: variance.growth((values_ST - control_ST)[:, late], samples_T[late])
        for cell, values_ST in zip(cells, values_DST, strict=True)
        if cell != answer.analysis.control
    }


def _curve(results: Results, answer: Answer) -> tuple[FloatArray, FloatArray, list[str]] | None:
    """The curve of the endpoint itself (D, S, T) in its units, the samples (T,), and the cells.

    Of the control and cells with a contrast, of seeds that all of them have, and where all were
    measured; None where nothing is left.
    """
    compared = {answer.analysis.control, *(c.design for c in answer.analysis.contrasts)}
    task, _, score = answer.primary.partition("/")
    names = (f"val/{score}" if task == "validation" else answer.primary,)
    curves = results.curves[results.curves["name"].isin(names)]
    done = set(_done(results)["run"])
    curves = curves[curves["run"].isin(done) & curves["cell"].isin(compared)]
    if curves.empty:
        return None
    table = curves.assign(cell=curves["cell"].astype(str)).pivot_table(
        index=["cell", "seed"], columns="samples", values="value", observed=True
    )
    table = table.drop(columns=0, errors="ignore").dropna(axis=1)
    seeds_of = {
        cell: set(rows.index.get_level_values("seed")) for cell, rows in table.groupby("cell")
    }
    seeds = sorted(set.intersection(*seeds_of.values()))
    if len(seeds_of) < 2 or len(seeds) < 2 or table.shape[1] < 2:
        return None
    cells = [str(cell) for cell in seeds_of]
    values = np.array([[table.loc[(cell, seed)] for seed in seeds] for cell in cells], dtype=float)
    return values * _unit(results, answer.primary), table.columns.to_numpy(dtype=float), cells


def _counts(results: Results, endpoint: str) -> list[tuple[int, int]]:
    """Right answers and items of every run, where the endpoint is the share of them."""
    task, _, score = endpoint.partition("/")
    levels = results.levels
    own = levels[(levels["task"] == task) & (levels["level"] == score)]
    own = own[own["run"].isin(set(_done(results)["run"]))]
    return [(int(n), int(of)) for n, of in zip(own["successes"], own["items"], strict=True) if of]


def _unit(results: Results, endpoint: str) -> float:
    """What a share, as curves and counts are, has to be multiplied by to be the score."""
    task, _, score = endpoint.partition("/")
    scores = results.scores
    own = scores[(scores["task"] == task) & (scores["score"] == score)]
    return 100.0 if (own["unit"] == "percent").any() else 1.0


def _done(results: Results) -> pd.DataFrame:
    runs = results.runs
    return runs[(runs["status"] == "done") & (runs["role"] == "compared")]
