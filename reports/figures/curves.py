"""The figure shows validation curves over samples seen, a panel per measure."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from reports import panels

TABLE = "curves"
NEEDS = panels.NEEDS
ORDER = 2
TITLE = "Validation curves"
BINDING = ("pairs/", "words/")
"""How the names of curves begin that some studies measure besides."""
OF_TASK = "/val/"
"""What stands in the names of curves of a task that is learnt, after its title."""


def caption(table: pd.DataFrame) -> str:
    """Says how to read it."""
    text = "Means over finished runs at the same samples seen, on fixed batches and masks. "
    if table["name"].str.startswith(BINDING).any():
        text += (
            "Pairs: share of swap groups matched, by ITM where there is such a head; .5 is chance. "
            "Words: share of masked words named beside their picture. "
        )
    if table["name"].str.contains(OF_TASK, regex=False).any():
        text += (
            "Tasks, as vqa/val/...: each starts from the trained weights and has a budget of its "
            "own, the same for all cells; accuracy is a share, of VQA what the answers are worth. "
        )
    return text + panels.how_to_read(table)


def draw(table: pd.DataFrame) -> Figure:
    """Draws small multiples over the names that start with `val/` or as `BINDING` says, and those
    of tasks.
    """
    names = [
        name
        for name in table["name"].unique()
        if name.startswith(("val/", *BINDING)) or OF_TASK in name
    ]
    return panels.panels(table, names, "no validation curves yet")
