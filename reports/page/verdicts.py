"""Verdicts as a table: a row for each compared design, a column for each endpoint."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports.analysis import Answer


def contrasts(answers: Sequence[Answer]) -> pd.DataFrame:
    """Returns a row per endpoint and design that is not the control.

    Columns: endpoint, order, cell, control, delta, se, lower, upper, p_adjusted, level (of the
    interval), region, verdict, short (what the verdict says in a few words), seeds and
    higher_is_better. Differences and the region are in units of the score.
    """
    rows = [
        {
            "endpoint": answer.primary,
            "order": order,
            "cell": contrast.design,
            "control": contrast.control,
            **{name: getattr(contrast, name) for name in NUMBERS},
            "level": 1 - answer.analysis.alpha,
            "region": answer.region,
            "verdict": answer.verdicts[contrast.design].kind,
            "short": answer.verdicts[contrast.design].short,
            "seeds": contrast.seeds,
            "higher_is_better": answer.higher_is_better,
        }
        for order, answer in enumerate(answers)
        for contrast in answer.analysis.contrasts
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


NUMBERS = ("delta", "se", "lower", "upper", "p_adjusted")
COLUMNS = (
    "endpoint", "order", "cell", "control", *NUMBERS, "level", "region", "verdict", "short",
    "seeds", "higher_is_better",
)  # fmt: skip
