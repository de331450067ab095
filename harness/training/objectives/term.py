"""A Term holds one objective's loss and how often it was right, on one batch or several.

Letters: N rows, C classes.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Term:
    """Sums over items, so that the terms of batches add up. Nothing here waits for the device.

    loss_sum: () the sum of the losses of the items
    correct:  () how many items were right
    items:    () int64, how many items there are
    """

    loss_sum: Tensor
    correct: Tensor
    items: Tensor

    @property
    def loss(self) -> Tensor:
        """The mean loss over the items; 0 where there are none."""
        return self.loss_sum / self.items.clamp(min=1)

    def __add__(self, other: Term) -> Term:
        return Term(
            self.loss_sum + other.loss_sum, self.correct + other.correct, self.items + other.items
        )

    def detach(self) -> Term:
        return Term(self.loss_sum.detach(), self.correct.detach(), self.items.detach())

    def values(self, prefix: str) -> dict[str, float]:
        """Returns mean loss and accuracy, a share of the items, as `PREFIX_loss` and so on."""
        items = max(float(self.items), 1.0)
        return {
            f"{prefix}_loss": float(self.loss_sum) / items,
            f"{prefix}_accuracy": float(self.correct) / items,
        }


@dataclasses.dataclass(frozen=True)
class Losses:
    """The losses of one batch: the terms of the total, and values that are only shown."""

    terms: dict[str, Term]
    """Objective -> its term, for those with a weight above 0."""
    notes: dict[str, Tensor]
    """Name of a curve -> its mean over the batch, without gradient."""


def full(x: Tensor) -> Tensor:
    """Casts to float32 where the type is smaller: losses are not summed in half precision. float64
    stays as it is.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def classified(logits_NC: Tensor, labels_N: Tensor, smoothing: float = 0.0) -> Term:
    """Computes cross-entropy and accuracy of logits (N, C) over the rows whose label (N,) is not
    -100. `smoothing`: share of the target that all classes have alike.
    """
    logits_NC = full(logits_NC)
    loss_sum = F.cross_entropy(
        logits_NC, labels_N, ignore_index=-100, reduction="sum", label_smoothing=smoothing
    )
    counted_N = labels_N != -100
    correct = ((logits_NC.argmax(-1) == labels_N) & counted_N).sum()
    return Term(loss_sum, correct, counted_N.sum())


def soft_cross_entropy(logits_NC: Tensor, targets_NC: Tensor) -> Tensor:
    """Sums the cross-entropy of logits (N, C) with soft targets (N, C), whose rows sum to 1, over
    the rows.
    """
    return (logits_NC.logsumexp(dim=-1) - (targets_NC * logits_NC).sum(dim=-1)).sum()
