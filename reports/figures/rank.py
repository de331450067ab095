"""The figure shows whether the order of the cells settles: mean ranks over training."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import panels
from reports.drawing import NothingToDraw, look, mark

TABLE = "curves"
OPTIONAL = True
NEEDS = (
    "cell", "role", "seed", "samples", "name", "value", "status", "colour", "marker",
)  # fmt: skip
ORDER = 6
TITLE = "Ranks over training"


def caption(table: pd.DataFrame) -> str:
    """Says how to read it."""
    return (
        "At every measurement cells are ranked within each seed, 1 is best: the highest accuracy, "
        "the lowest loss. A mark is a cell's mean rank over the seeds that every cell finished; "
        "lines that cross late say that the order has not settled."
    )


def draw(table: pd.DataFrame) -> Figure:
    """Draws a panel per measure in which at least two compared cells can be ranked; raises
    NothingToDraw where there is none."""
    done = table[(table["status"] == "done") & (table["role"] == "compared")]
    done = done[np.isfinite(done["value"])]
    ranks = {name: _ranks(done[done["name"] == name], name) for name in _names(done)}
    ranks = {name: own for name, own in ranks.items() if own.size}
    if not ranks:
        raise NothingToDraw("no two cells can be ranked")
    looks = done.drop_duplicates("cell").set_index("cell", drop=False)

    def every(place: int) -> slice | None:
        many = len(looks) > panels.MANY
        return panels.along(done["samples"].nunique(), place) if many else None

    def panel(ax: Axes, name: str) -> None:
        most = ranks[name].shape[1]
        for place, (cell, mean) in enumerate(ranks[name].items()):
            (line,) = ax.plot(
                mean.index, mean, linewidth=1.6, label=str(cell), markevery=every(place),
                **look(looks.loc[cell], 4.5),
            )  # fmt: skip
            mark(line, str(cell), f"{cell}: mean rank {mean.iloc[-1]:.3g} in the end")
        ax.set_ylim(most + 0.6, 0.4)
        ax.set_yticks(sorted({1, *range(5, most, 5), most} if most > 6 else range(1, most + 1)))

    return panels.multiples(list(ranks), panel, "", "samples seen")


def _names(table: pd.DataFrame) -> list[str]:
    """Gives what is ranked: losses only where their accuracy is not measured, no sum of losses, and
    of pairs that are scored by two heads the design's own."""
    names = panels.of_validation(table)
    beside = {f"{name.removesuffix('accuracy')}loss" for name in names if name.endswith("accuracy")}
    return [n for n in names if n not in beside and n != "val/loss" and not n.endswith("_itc")]


def _ranks(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Gives mean ranks, a row per measurement and a column per cell; empty where fewer than two
    cells share a seed."""
    cells = table["cell"].astype(str)
    if cells.nunique() < 2:
        return pd.DataFrame()
    values = table.assign(cell=pd.Categorical(cells, categories=cells.unique())).pivot_table(
        index=["samples", "seed"], columns="cell", values="value", observed=True
    )
    low = name.endswith("loss")
    ranked = values.dropna().rank(axis=1, ascending=low)
    per_point = ranked.groupby("samples").size()
    whole = per_point.index[per_point == per_point.max()]
    return ranked.groupby("samples").mean().loc[whole]
