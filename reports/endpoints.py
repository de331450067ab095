"""Tables over the endpoints of a study: every contrast, every verdict, and what each could see."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.statistics.blocked import Contrast
from reports.analysis import Answer, scored_runs
from reports.tables import with_interval

if TYPE_CHECKING:
    from harness.results.tables import Results

CONTRASTS = {
    "endpoint": "the score, as retrieval/mean_recall",
    "order": "place of the endpoint among those declared, from 0",
    "cell": "the compared cell",
    "control": "the cell that it is compared with",
    "delta": "cell minus control, in the unit of the score; nan: not known",
    "se": "standard error of delta",
    "lower": "lower end of the simultaneous interval",
    "upper": "its upper end",
    "p_adjusted": "p-value, adjusted for contrasts, endpoints and declared looks",
    "level": "of the interval, as 0.95",
    "region": "half-width of the region of practical equivalence",
    "verdict": "better, worse, equal or undecided",
    "short": "the verdict in a few words, and what an undecided one takes",
    "seeds": "seeds in which cell and control both have the score",
    "higher_is_better": "the direction of the score",
    "unit": "of the score",
    "colour": "of the cell in every figure",
    "marker": "of the cell in every figure",
    "role": "compared",
}
"""Columns of `contrasts`."""
NO_SCORE, CANNOT = "no score to compare", "cannot have this score"
LOOK = ("colour", "marker", "role")


def contrasts(results: Results, answers: Sequence[Answer]) -> pd.DataFrame:
    """A row for each endpoint and compared cell but the control: columns of `CONTRASTS`."""
    runs = scored_runs(results, answers[0])
    look = runs.drop_duplicates("cell").set_index("cell")
    control = results.study.control
    cells = [c for c in look.index[look["role"] == "compared"] if c != control]
    rows = [
        {
            **{"endpoint": answered.primary, "order": order, "cell": cell, "control": control},
            **_figures(answered, cell),
            "level": 1 - answered.analysis.alpha,
            "region": answered.region,
            **dict(zip(("verdict", "short"), _verdict(answered, cell), strict=True)),
            "higher_is_better": answered.higher_is_better,
            "unit": answered.unit,
            **{name: look.at[cell, name] for name in LOOK if name in look},
        }
        for order, answered in enumerate(answers)
        for cell in cells
    ]
    return pd.DataFrame(
        rows, columns=[name for name in CONTRASTS if name not in LOOK or name in look]
    )


def _contrast(answered: Answer, cell: str) -> Contrast | None:
    return next((c for c in answered.analysis.contrasts if c.design == cell), None)


def _figures(answered: Answer, cell: str) -> dict[str, float]:
    contrast = _contrast(answered, cell)
    names = ("delta", "se", "lower", "upper", "p_adjusted")
    figures = {name: getattr(contrast, name) if contrast else math.nan for name in names}
    return figures | {"seeds": contrast.seeds if contrast else 0}


def _verdict(answered: Answer, cell: str) -> tuple[str, str]:
    """Returns the kind of a verdict and its few words."""
    if cell in answered.verdicts:
        return answered.verdicts[cell].kind, answered.verdicts[cell].short
    return "undecided", CANNOT if cell in answered.cannot_have else NO_SCORE


def verdict_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each compared cell and a column for each endpoint: verdict, difference and interval
    as text.

    `table`: what `contrasts` gives.
    """
    texts = table.assign(text=[_text(row) for row in table.to_dict("records")])
    wide = texts.pivot(index="cell", columns="endpoint", values="text")
    order = wide.reindex(index=table["cell"].unique(), columns=table["endpoint"].unique())
    return order.rename_axis(columns=None).reset_index()


def _text(row: Mapping[Hashable, Any]) -> str:
    if not math.isfinite(row["delta"]):
        return str(row["short"])
    interval = with_interval(row["delta"], row["lower"], row["upper"])
    return f"{row['verdict']} {interval}"


def endpoint_table(answers: Sequence[Answer]) -> pd.DataFrame:
    """A row for each endpoint: its direction and region, and what these runs could see of it."""
    rows = [
        {
            "endpoint": answered.primary,
            "better": "higher" if answered.higher_is_better else "lower",
            "equal_within": answered.region,
            "unit": answered.unit,
            "residual_sd": answered.residual_sd,
            "f": answered.analysis.f,
            "f_p": answered.analysis.f_p,
            "detectable": answered.detectable,
            "level": 1 - answered.analysis.alpha,
        }
        for answered in answers
    ]
    return pd.DataFrame(rows)
