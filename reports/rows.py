"""The rows of the tables of `analyses` are made here, one function a question."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from harness.results.tables import Results, TrialRecord
from harness.statistics.agreement import Agreement, kendall_tau, kendall_w
from harness.statistics.best import candidates
from harness.statistics.descriptive import probability_of_improvement
from harness.statistics.factors import crossing, effects
from harness.statistics.families import all_pairs, expected_best
from harness.statistics.linear import Combination, FTest, adjusted_means
from harness.statistics.pareto import dominated_by
from harness.statistics.trends import trend
from reports.analysis import need
from reports.factors import levels_of, places_of

Row = dict[str, object]
Rows = Iterator[tuple[str, Row]]
"""The name of a table, and a row of it."""
MOST_CELLS = 40
"""More cells make too many pairs to read."""
COSTS = {
    "parameters": "ledger.parameters",
    "forward FLOPs": "ledger.forward_flops",
    "training FLOPs": "ledger.flops",
    "device-seconds": "ledger.device_seconds",
}


def scores_of(results: Results, name: str, role: str = "compared") -> dict[str, dict[int, float]]:
    """Gives cell -> seed -> a final score, of runs that are done, for cells of a role."""
    need(results.runs, ("cell", "role", "seed", "status"), "the runs table")
    runs = results.runs.assign(score=results.values(name))
    runs = runs[(runs["role"] == role) & (runs["status"] == "done") & np.isfinite(runs["score"])]
    scores: dict[str, dict[int, float]] = {}
    for cell, seed, score in zip(runs["cell"], runs["seed"], runs["score"], strict=True):
        scores.setdefault(cell, {})[int(seed)] = float(score)
    return scores


def _few_enough(cells: int) -> None:
    if cells > MOST_CELLS:
        pairs = cells * (cells - 1) // 2
        raise ValueError(f"{cells} cells make {pairs} pairs: made for {MOST_CELLS} cells at most")


def _pairs(results: Results, endpoint: str, alpha: float) -> Rows:
    scores = scores_of(results, endpoint)
    _few_enough(len(scores))
    for pair in all_pairs(scores, alpha=alpha):
        numbers = {name: getattr(pair, name) for name in ("delta", "se", "lower", "upper")}
        names = {"cell": pair.design, "other": pair.control}
        yield "all_pairs", {**names, **numbers, "p_adjusted": pair.p_adjusted, "level": 1 - alpha}


def _best(results: Results, endpoint: str, alpha: float) -> Rows:
    scores = scores_of(results, endpoint)
    _few_enough(len(scores))
    places, means = places_of(results, scores), adjusted_means(scores)
    higher = results.higher_is_better(endpoint)
    for candidate in candidates(scores, higher_is_better=higher, alpha=alpha):
        cell = candidate.design
        yield (
            "best",
            {
                "cell": cell,
                "axis": places.get(cell, math.nan),
                "mean": means[cell],
                "level": 1 - alpha,
                **{
                    name: getattr(candidate, name)
                    for name in ("gap", "lower", "upper", "may_be_best", "share_best")
                },
            },
        )


def _effects(results: Results, endpoint: str, alpha: float) -> Rows:
    scores = scores_of(results, endpoint)
    crossed = crossing(levels_of(results, scores))
    tested, means = effects(scores, crossed)
    for effect in tested:
        yield "effects", {"term": " × ".join(effect.factors), **_test(effect.test)}
    for mean in means:
        (factor, level), (by, by_level) = [*mean.levels.items(), ("", "")][:2]
        lower, upper = mean.mean.interval(alpha)
        yield (
            "effect_means",
            {
                **{"factor": factor, "level": level, "by": by, "by_level": by_level},
                **{"mean": mean.mean.estimate, "lower": lower, "upper": upper},
                "note": "; ".join(crossed.notes),
            },
        )


def _trend(results: Results, endpoint: str, alpha: float) -> Rows:
    scores = scores_of(results, endpoint)
    places = places_of(results, scores)
    if not places:
        raise ValueError(f"cells have no number on the axis {results.study.axis}")
    along = trend(scores, places, alpha=alpha)
    name, curve = {"axis_name": results.study.axis}, along.curve
    yield "trend", {**name, "test": "any difference", **_test(along.any_difference)}
    for test, contrast in (("slope", along.slope), ("bend", along.bend)):
        yield "trend", {**name, "test": test, **_contrast(contrast)}
    if along.lack_of_fit:
        yield "trend", {**name, "test": "not on the curve", **_test(along.lack_of_fit)}
    for axis, fitted, lower, upper in zip(
        curve.axis, curve.fitted, curve.lower, curve.upper, strict=True
    ):
        point = {"axis": axis, "fitted": fitted, "lower": lower, "upper": upper}
        yield "trend_curve", {**name, "kind": curve.kind, **point}


def _test(test: FTest) -> Row:
    return {"f": test.f, "df": test.df, "df_error": test.df_error, "p": test.p}


def _contrast(contrast: Combination) -> Row:
    f = (contrast.estimate / contrast.se) ** 2
    own = {"estimate": contrast.estimate, "f": f, "df": 1}
    return {**own, "df_error": contrast.df, "p": contrast.p}


def _pareto(results: Results, endpoint: str, alpha: float) -> Rows:
    roles = results.runs["role"].unique()
    score = adjusted_means(
        {cell: own for role in roles for cell, own in scores_of(results, endpoint, role).items()}
    )
    done = results.runs[results.runs["status"] == "done"]
    means = done.groupby("cell", sort=False)
    for name, column in COSTS.items():
        if column not in done:
            continue
        cost = {str(cell): float(value) for cell, value in means[column].mean().items()}
        beaten_by = dominated_by(cost, score, higher_is_better=results.higher_is_better(endpoint))
        for cell, other in beaten_by.items():
            numbers = {"cost_name": name, "cost": cost[cell], "score": score[cell]}
            front = {"on_front": other is None, "dominated_by": other or ""}
            yield "pareto", {"cell": cell, **numbers, **front}


def _improvement(results: Results, endpoint: str, alpha: float) -> Rows:
    scores, control = scores_of(results, endpoint), results.study.control
    sign = 1 if results.higher_is_better(endpoint) else -1
    values = {cell: sign * np.array(list(own.values())) for cell, own in scores.items()}
    if control not in values:
        raise ValueError(f"the control {control} has no score")
    for cell, own in values.items():
        if cell != control:
            chance = probability_of_improvement(own, values[control], 1 - alpha)
            bounds = {"lower": chance.lower, "upper": chance.upper}
            yield (
                "improvement",
                {"cell": cell, "control": control, "chance": chance.estimate, **bounds},
            )


MAKERS: Mapping[tuple[str, ...], Callable[[Results, str, float], Rows]] = {
    ("all_pairs",): _pairs,
    ("best",): _best,
    ("effects", "effect_means"): _effects,
    ("trend", "trend_curve"): _trend,
    ("pareto",): _pareto,
    ("improvement",): _improvement,
}
"""Names of tables -> what makes their rows for an endpoint, or raises ValueError with the reason
why there are none."""


def ranking_rows(results: Results, endpoints: Sequence[str]) -> Iterator[Row]:
    """How alike endpoints rank compared cells: each pair, and all where they are three or more."""
    goodness = {name: goodness_of(results, name) for name in endpoints}
    for first, second in itertools.combinations(endpoints, 2):
        tau = kendall_tau(goodness[first], goodness[second])
        yield {"first": first, "second": second, **_agreement(tau)}
    if len(endpoints) > 2:
        w = kendall_w(list(goodness.values()))
        yield {"first": "all endpoints", "second": "", **_agreement(w)}


def rankings_between(results: Results, other: Results, endpoints: Sequence[str]) -> list[Row]:
    """How alike two studies rank the cells that they share, a row of `rankings` an endpoint."""
    return [
        {
            "first": f"{results.study.name}: {name}",
            "second": f"{other.study.name}: {name}",
            **_agreement(kendall_tau(goodness_of(results, name), goodness_of(other, name))),
        }
        for name in endpoints
    ]


def goodness_of(results: Results, endpoint: str) -> dict[str, float]:
    """Gives compared cell -> its mean score, with its sign changed where lower is better."""
    sign = 1 if results.higher_is_better(endpoint) else -1
    means = adjusted_means(scores_of(results, endpoint))
    return {cell: sign * mean for cell, mean in means.items()}


def _agreement(agreement: Agreement) -> Row:
    numbers = {"coefficient": agreement.coefficient, "p": agreement.p}
    return {**numbers, "cells": agreement.designs}


def best_of_k_rows(trials: Sequence[TrialRecord]) -> Iterator[Row]:
    """What the lowest tuning score of k trials is expected to be, for every tuned cell."""
    for cell in dict.fromkeys(trial.cell for trial in trials):
        values = [-t.score for t in trials if t.cell == cell and t.score is not None]
        for k, best in enumerate(expected_best(values) if values else (), start=1):
            yield {"cell": cell, "k": k, "score": -best, "trials": len(values)}
