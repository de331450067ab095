"""Term: one objective's loss and how often it was right, on one batch."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Term:
    """Sums over items, so that batches add up; nothing here waits for the device."""

    loss_sum: Tensor
    correct: Tensor
    items: Tensor

    @property
    def loss(self) -> Tensor:
        """Mean over the items; 0 where there are none."""
        return self.loss_sum / self.items.clamp(min=1)

    def __add__(self, other: Term) -> Term:
        return Term(
            self.loss_sum + other.loss_sum, self.correct + other.correct, self.items + other.items
        )

    def detach(self) -> Term:
        return Term(self.loss_sum.detach(), self.correct.detach(), self.items.detach())

    def values(self, prefix: str) -> dict[str, float]:
        """Mean loss and accuracy (share of items) under stable names."""
        items = max(float(self.items), 1.0)
        return {
            f"{prefix}_loss": float(self.loss_sum) / items,
            f"{prefix}_accuracy": float(self.correct) / items,
        }


@dataclasses.dataclass(frozen=True)
class Losses:
    """What one batch gave: the terms of the total, and what is only looked at."""

    terms: dict[str, Term]
    """Objective -> its term, those with a weight above 0."""
    notes: dict[str, Tensor]
    """Curve -> its mean over the batch, without gradient."""


def full(x: Tensor) -> Tensor:
    """At least float32: losses are not summed in half precision, and float64 stays exact."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def classified(logits_NC: Tensor, labels_N: Tensor) -> Term:
    """Cross-entropy and accuracy over the rows whose label is not -100."""
    logits_NC = full(logits_NC)
    loss_sum = F.cross_entropy(logits_NC, labels_N, ignore_index=-100, reduction="sum")
    counted_N = labels_N != -100
    correct = ((logits_NC.argmax(-1) == labels_N) & counted_N).sum()
    return Term(loss_sum, correct, counted_N.sum())


def soft_cross_entropy(logits_NC: Tensor, targets_NC: Tensor) -> Tensor:
    """Sum over rows of -sum(target * log softmax); rows of targets sum to 1."""
    return (logits_NC.logsumexp(dim=-1) - (targets_NC * logits_NC).sum(dim=-1)).sum()
