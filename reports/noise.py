"""Tables of noise: how far the scores of one cell vary between seeds, what could be detected."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from harness.results.tables import Results
from harness.statistics.intervals import sd_interval
from harness.statistics.power import smallest_detectable_effect


def spreads(results: Results) -> pd.DataFrame:
    """One row per score of the runs that are done: seeds, mean, SD and its 95 % interval, for
    normal scores. The study's primary score comes first; what was timed is left out."""
    done = results.runs.loc[results.runs["status"] == "done", ["seed", "run"]]
    scores = done.merge(results.scores[results.scores["unit"] != "seconds"], on="run")
    scores["name"] = scores["task"] + "/" + scores["score"]
    rows = []
    for name, own in scores.groupby("name"):
        spread = sd_interval(own["value"])
        if math.isfinite(spread.estimate):
            rows.append(
                {
                    "score": name,
                    "seeds": len(own),
                    "mean": float(own["value"].mean()),
                    "SD": spread.estimate,
                    "SD from": spread.lower,
                    "to": spread.upper,
                }
            )
    rows.sort(key=lambda row: (row["score"] != results.study.primary, row["score"]))
    return pd.DataFrame(rows)


def detectable(
    designs: Sequence[int], seeds: Sequence[int], *, alpha: float, sd: float | None = None
) -> pd.DataFrame:
    """The smallest difference from the control that is found with 80 % chance: a row per number of
    designs (the control counts), a column per number of seeds. In units of `sd`, the residual SD;
    without it in SDs."""
    unit = 1.0 if sd is None else sd
    rows = [
        {"designs": count}
        | {each: unit * smallest_detectable_effect(count, each, alpha=alpha) for each in seeds}
        for count in designs
    ]
    return pd.DataFrame(rows)
