"""The figure shows validation curves over samples seen, a panel per measure."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from reports import panels

TABLE = "curves"
NEEDS = panels.NEEDS
ORDER = 4
TITLE = "Validation curves"


def caption(table: pd.DataFrame) -> str:
    """Says how to read it."""
    text = "Means over finished runs at the same samples seen, on fixed batches and masks. "
    if table["name"].str.startswith(("pairs/", "words/")).any():
        text += (
            "Pairs: share of swap groups matched, by ITM where there is such a head; .5 is chance. "
            "Words: share of masked words named beside their picture. "
        )
    if table["name"].str.contains("/val/", regex=False).any():
        text += (
            "Tasks, as vqa/val/...: each starts from the trained weights and has a budget of its "
            "own, the same for all cells; accuracy is a share, of VQA what the answers are worth. "
        )
    return text + panels.how_to_read(table)


def draw(table: pd.DataFrame, against: str = "samples") -> Figure:
    """Draws small multiples over what was measured on held-out data, against samples seen; from
    Python also against "flops" or "seconds"."""
    names = panels.of_validation(table)
    return panels.panels(table, names, "no validation curves yet", against)
