"""Validation measures losses and accuracies on fixed batches with fixed masks and fixed negatives.

The negatives are drawn from the data alone, never by a model, and neither teacher nor queue takes
part, so that the curves of different designs and of different objectives can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch

from architectures.contract import FusionDesign
from harness.training.data.batches import Batch
from harness.training.objectives.forward import terms
from harness.training.objectives.itm import Negatives
from harness.training.objectives.state import ObjectiveState
from harness.training.objectives.term import Term
from harness.training.settings.objectives import Objectives


@torch.no_grad()
def validate(
    design: FusionDesign,
    state: ObjectiveState,
    batches: Sequence[Batch],
    precision: Callable[[], AbstractContextManager[object]],
) -> dict[str, Term]:
    """Returns the term of each objective over all batches, measured in evaluation mode. The design
    comes back in the mode it had. `precision`: makes the autocast context of each batch.
    """
    training = design.training
    design.eval()
    sums: dict[str, Term] = {}
    for batch in batches:
        assert batch.negative_image_B is not None and batch.negative_text_B is not None
        negatives = Negatives(batch.negative_image_B, batch.negative_text_B)
        with precision():
            losses = terms(design, state, batch, negatives=negatives)
        for name, term in losses.terms.items():
            sums[name] = sums[name] + term if name in sums else term
    design.train(training)
    return sums


def curve_values(
    sums: Mapping[str, Term], objectives: Objectives, prefix: str = "val"
) -> dict[str, float]:
    """Returns `val/itc_loss`, `val/itc_accuracy` (a share), ..., and `val/loss`, the weighted sum
    of the losses; `prefix` stands in the place of `val`.
    """
    values: dict[str, float] = {}
    for name, term in sums.items():
        values |= term.values(f"{prefix}/{name}")
    values[f"{prefix}/loss"] = sum(
        getattr(objectives, name).weight * values[f"{prefix}/{name}_loss"] for name in sums
    )
    return values


def gaps(
    held_out: Mapping[str, Term], trained_on: Mapping[str, Term], objectives: Objectives
) -> dict[str, float]:
    """Returns `gap/itc_loss`, ...: by how much a loss or accuracy is higher on pictures held out
    than on some that were trained on, both measured in the same way.
    """
    outside = curve_values(held_out, objectives, "gap")
    inside = curve_values(trained_on, objectives, "gap")
    return {name: value - inside[name] for name, value in outside.items()}
