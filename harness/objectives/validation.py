"""Validation: losses and accuracies on fixed batches with fixed masks and fixed negatives.

The negatives are drawn from the data alone, never by a model, so that curves of different designs
speak of the same pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch

from architectures.contract import FusionDesign
from harness.data.batches import Batch
from harness.objectives.forward import ObjectiveState, terms
from harness.objectives.itm import Negatives
from harness.objectives.term import Term
from harness.settings import Objectives


@torch.no_grad()
def validate(
    design: FusionDesign,
    state: ObjectiveState,
    batches: Sequence[Batch],
    objectives: Objectives,
    precision: Callable[[], AbstractContextManager[object]],
) -> dict[str, Term]:
    """Objective -> its term over all batches; the design comes back in the mode it had."""
    training = design.training
    design.eval()
    sums: dict[str, Term] = {}
    for batch in batches:
        assert batch.negative_image_B is not None and batch.negative_text_B is not None
        negatives = Negatives(batch.negative_image_B, batch.negative_text_B)
        with precision():
            found = terms(design, state, batch, objectives, negatives=negatives)
        for name, term in found.items():
            sums[name] = sums[name] + term if name in sums else term
    design.train(training)
    return sums


def curve_values(sums: dict[str, Term], objectives: Objectives) -> dict[str, float]:
    """`val/itc_loss`, `val/itc_accuracy`, ..., and `val/loss`, the weighted sum of the losses."""
    values: dict[str, float] = {}
    for name, term in sums.items():
        values |= term.values(f"val/{name}")
    values["val/loss"] = sum(
        getattr(objectives, name).weight * values[f"val/{name}_loss"] for name in sums
    )
    return values
