"""The figure shows what the losses drive, and how far training and validation part."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from reports import panels

TABLE = "curves"
NEEDS = panels.NEEDS
ORDER = 12
TITLE = "Training"
NAMES = (
    "gap/itc_loss",
    "gap/itm_loss",
    "gap/mlm_loss",
    "gap/lm_loss",
    "train/temperature",
    "train/itc_pair_cosine",
    "train/itm_negative_cosine",
    "train/grad_norm_image",
    "train/grad_norm_text",
    "train/grad_norm_fusion",
    "train/itc_distil_loss",
    "train/mlm_distil_loss",
    "train/queue_fill",
)
"""Of the curves of a run, which MLflow has all of, those that explain a validation curve."""


def caption(table: pd.DataFrame) -> str:
    """Says how to read it."""
    text = (
        "Gap: how much higher a loss is on pictures held out than on some that were trained on, "
        "both measured alike. Cosines: of the own pair, and of the negatives that ITM was given. "
        "Norms are of the gradient, by part; what is of training is a mean over the steps since "
        "the last measurement. "
    )
    return text + panels.how_to_read(table)


def draw(table: pd.DataFrame) -> Figure:
    """Draws small multiples over `NAMES`."""
    return panels.panels(table, NAMES, "no training curves yet")
