"""Tables that figures are drawn from: those of the analyses plausible and made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.results.tables import Results
from reports.analysis import answer, coloured_curves, scored_runs
from reports.build import in_colour
from reports.gallery import Picture


def tables_for(results: Results) -> dict[str, pd.DataFrame]:
    """Every table that figures are drawn from; those of the analyses plausible and made by hand."""
    runs = scored_runs(results, answer(results))
    hand = {
        "contrasts": contrasts(runs),
        "trend_curve": trend_curve(runs),
        "pareto": pareto(runs),
        "best_of_k": best_of_k(runs),
    }
    tables = {name: in_colour(table, runs) for name, table in hand.items() if "cell" in table}
    return hand | tables | {"runs": runs, "curves": coloured_curves(results, runs)}


def table_for(picture: Picture, results: Results) -> pd.DataFrame:
    return tables_for(results)[picture.table]


def contrasts(runs: pd.DataFrame) -> pd.DataFrame:
    """Three endpoints, the second a loss; the first says what `runs` says."""
    own = runs[(runs["role"] == "compared") & np.isfinite(runs["delta"]) & ~runs["is_control"]]
    own = own.drop_duplicates("cell")[["cell", "delta", "lower", "upper", "verdict", "region"]]
    control = runs.loc[runs["is_control"], "cell"].iloc[0]
    numbers = ["delta", "lower", "upper", "region"]
    other = {"better": "worse", "worse": "better"}
    parts = [
        own.assign(endpoint="retrieval/mean_recall", higher_is_better=True, unit="percent"),
        own.assign(
            endpoint="validation/itc_loss", higher_is_better=False, unit="nats",
            verdict=own["verdict"].replace(other), **{c: own[c] / 20 for c in numbers},
        ),
        own.assign(
            endpoint="pairs/relation_group_match", higher_is_better=True, unit="percent",
            verdict="undecided", **{c: own[c] + 0.3 for c in numbers},
        ),
    ]  # fmt: skip
    placed = [part.assign(order=order) for order, part in enumerate(parts)]
    return pd.concat(placed).assign(control=control, level=0.95, seeds=3).reset_index(drop=True)


def trend_curve(runs: pd.DataFrame) -> pd.DataFrame:
    """A parabola over the axis, where the axis is numeric."""
    axis = pd.to_numeric(runs["axis"], errors="coerce").dropna()
    x = np.linspace(axis.min(), axis.max(), 25) if len(axis) else np.zeros(0)
    fitted = 50 - 0.3 * (x - 6) ** 2
    bounds = {"lower": fitted - 1, "upper": fitted + 1, "endpoint": "retrieval/mean_recall"}
    return pd.DataFrame({"axis": x, "fitted": fitted, **bounds})


def pareto(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean scores against three costs; whoever no cheaper cell beats is on the front."""
    rows = []
    for cost in ("ledger.parameters", "ledger.forward_flops", "ledger.train_seconds"):
        means = runs.groupby("cell", sort=False)[["score", cost]].mean().dropna()
        for cell, (score, price) in zip(means.index, means.to_numpy(), strict=True):
            beaten = ((means["score"] >= score) & (means[cost] < price)).any()
            row = {"cell": cell, "cost_name": cost, "cost": price, "score": score}
            rows.append(row | {"on_front": not beaten, "endpoint": "retrieval/mean_recall"})
    columns = ["cell", "cost_name", "cost", "score", "on_front", "endpoint"]
    return pd.DataFrame(rows, columns=columns)


def best_of_k(runs: pd.DataFrame) -> pd.DataFrame:
    """Curves that fall, of another height each."""
    rows = [
        {"cell": cell, "k": k, "score": 1.5 + 0.05 * place + 0.4 / k}
        for place, cell in enumerate(runs["cell"].unique())
        for k in range(1, 9)
    ]
    return pd.DataFrame(rows)
