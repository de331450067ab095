"""Validation curves, a panel per measure, over samples seen."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from reports import panels

TABLE = "curves"
NEEDS = panels.NEEDS
ORDER = 2
TITLE = "Validation curves"


def caption(table: pd.DataFrame) -> str:
    """How to read it."""
    said = "Means over finished runs at the same samples seen, on fixed batches and masks. "
    return said + panels.how_to_read(table)


def draw(table: pd.DataFrame) -> Figure:
    """Small multiples over the names that start with `val/`."""
    names = [name for name in table["name"].unique() if name.startswith("val/")]
    return panels.panels(table, names, "no validation curves yet")
