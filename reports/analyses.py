"""A study says more than its verdicts: tables of pairs, factors, trend, best, costs, rankings.

None of these gives a verdict, and each says of its figures whether they are adjusted. `TABLES` says
what every column means; a table that does not apply is left out, and `left_out` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from harness.results.tables import Results, TrialRecord
from harness.statistics.families import holm
from reports.drawing import in_words
from reports.rows import MAKERS, Row, best_of_k_rows, ranking_rows

TABLES: Mapping[str, Mapping[str, str]] = {
    "all_pairs": {
        "endpoint": "the score",
        "cell": "one of two compared cells",
        "other": "the other one",
        "delta": "cell minus other, in the units of the score",
        "se": "standard error of delta, as in the primary analysis",
        "lower": "simultaneous over all pairs (Tukey)",
        "upper": "simultaneous over all pairs (Tukey)",
        "p_adjusted": "adjusted for all pairs of this endpoint",
        "level": "of the intervals, in [0, 1]",
    },
    "best": {
        "endpoint": "the score",
        "cell": "a compared cell",
        "axis": "its place on the study's axis; nan without one",
        "mean": "its mean score; where runs are missing, that of all seeds by least squares",
        "gap": "its score minus the best of the others'",
        "lower": "simultaneous over all cells (Hsu)",
        "upper": "simultaneous over all cells (Hsu)",
        "may_be_best": "whether it is in the set that holds the truly best cell",
        "level": "of that set and of the intervals, in [0, 1]",
        "share_best": "descriptive: share of draws of the true means in which it is the best",
    },
    "effects": {
        "endpoint": "the score",
        "term": "a factor, or factors joined by ×: their interaction",
        "f": "F statistic in the seed-blocked model",
        "df": "degrees of freedom of the term",
        "df_error": "degrees of freedom of the error",
        "p": "of this test alone",
        "p_adjusted": "adjusted over all rows of this table (Holm)",
    },
    "effect_means": {
        "endpoint": "the score",
        "factor": "a factor",
        "level": "its level",
        "by": "a second factor; empty: averaged over all of it",
        "by_level": "its level",
        "mean": "adjusted mean: every combination counts alike",
        "lower": "without what seeds do to all cells alike; not adjusted for other means",
        "upper": "as lower",
        "note": "what the crossing left out or cannot tell apart",
    },
    "trend": {
        "endpoint": "the score",
        "axis_name": "the ordered factor",
        "test": "any difference, slope, bend, or not on the curve",
        "estimate": "of slope and bend: score for one unit, for one squared unit",
        "f": "F statistic in the seed-blocked model; of slope and bend t squared",
        "df": "degrees of freedom of the test",
        "df_error": "degrees of freedom of the error",
        "p": "of this test alone",
        "p_adjusted": "adjusted over all rows of this table (Holm)",
    },
    "trend_curve": {
        "endpoint": "the score",
        "axis_name": "the ordered factor",
        "kind": "form of the curve, which the number of places settles",
        "axis": "place on the axis",
        "fitted": "the curve, averaged over the seeds",
        "lower": "simultaneous band, without what seeds do to all cells alike",
        "upper": "as lower",
    },
    "best_of_k": {
        "cell": "a tuned cell",
        "k": "trials drawn from those that were done",
        "score": "expected lowest tuning score of k trials (unbiased)",
        "trials": "trials that were done",
    },
    "pareto": {
        "endpoint": "the score",
        "cell": "a cell, floors too",
        "cost_name": "parameters, forward FLOPs, training FLOPs or device-seconds",
        "cost": "mean over finished runs",
        "score": "mean; where runs are missing, that of all seeds by least squares",
        "on_front": "whether no other cell costs no more and scores no worse",
        "dominated_by": "the best-scoring cell that does; empty on the front",
    },
    "rankings": {
        "first": "a score, or a study and a score",
        "second": "the other; empty: all endpoints together",
        "coefficient": "Kendall's tau-b of two rankings of cells, W of all",
        "p": "not adjusted",
        "cells": "cells that all of them rank",
    },
    "improvement": {
        "endpoint": "the score",
        "cell": "a compared cell",
        "control": "the control",
        "chance": "descriptive: that a run of the cell is better than one of the control",
        "lower": "Newcombe's interval, not adjusted",
        "upper": "as lower",
    },
    "left_out": {"table": "a table above", "endpoint": "the score", "why": "why it is not there"},
}


def tables_of(
    results: Results,
    scores: Sequence[str],
    *,
    alpha: float | None = None,
    trials: Sequence[TrialRecord] = (),
) -> dict[str, pd.DataFrame]:
    """Every table of `TABLES` that applies to a study, for these scores as its endpoints.

    `alpha`: of intervals, for each endpoint by itself; None: the study's. `trials`: of the study's
    tuning. Raises ValueError where the runs table lacks a column.
    """
    level = results.study.alpha if alpha is None else alpha
    rows: dict[str, list[Row]] = {name: [] for name in TABLES}
    for endpoint in scores:
        for names, make in MAKERS.items():
            try:
                for table, row in make(results, endpoint, level):
                    rows[table].append({"endpoint": endpoint, **row})
            except ValueError as error:
                rows["left_out"] += [
                    {"table": name, "endpoint": endpoint, "why": str(error)} for name in names
                ]
    rows["rankings"] = list(ranking_rows(results, scores))
    rows["best_of_k"] = list(best_of_k_rows(trials))
    for name in ("effects", "trend"):
        adjusted = holm([row["p"] for row in rows[name]])  # type: ignore[arg-type]
        for row, p in zip(rows[name], adjusted, strict=True):
            row["p_adjusted"] = p
    return {
        name: pd.DataFrame(own, columns=list(TABLES[name])) for name, own in rows.items() if own
    }


def where_the_best_lies(best: pd.DataFrame, axis_name: str) -> str:
    """Says in a sentence what the rows of one endpoint in `best` say; empty without rows."""
    if best.empty:
        return ""
    ordered = best.sort_values("axis", kind="stable")
    among = ordered[ordered["may_be_best"]]
    inside = np.flatnonzero(ordered["may_be_best"])
    between = ordered["axis"].notna().all() and len(inside) == inside[-1] - inside[0] + 1
    if len(among) == len(ordered):
        where = "Any cell may be the best"
    elif len(among) == 1:
        where = f"The best cell is {among['cell'].item()}"
    elif between:
        low, high = among["axis"].min(), among["axis"].max()
        where = f"The best place in {in_words(axis_name)} lies between {low:g} and {high:g}"
    else:
        where = f"The best cell is among {', '.join(among['cell'])}"
    likely = best.iloc[int(best["share_best"].argmax())]
    drawn = f"{likely['cell']} in {likely['share_best']:.0%} of draws"
    return f"{where} (with {likely['level']:.0%} confidence; descriptive: {drawn})."
