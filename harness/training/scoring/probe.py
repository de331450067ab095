"""A linear probe says what a straight line through frozen features can tell apart.

Multinomial logistic regression with L2, which has one best answer, found in float64 on one thread:
the same rows give the same answer on every machine.

Letters: N items, F features, K labels.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.training.scoring.floors import one_thread

_ROUNDS = 500
_SIDE = 16
"""Pixels along a side that the floor of a probe reads."""
_AT_ONCE = 512
_CONSTANT = 1e-6
"""Deviation, beside the largest one, below which a feature says nothing."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A fitted probe: logits are `features @ weight_FK + bias_K`, of standardised features."""

    labels: tuple[Hashable, ...]
    mean_F: Tensor
    scale_F: Tensor
    """1 / deviation, 0 for a feature that is constant."""
    weight_FK: Tensor
    bias_K: Tensor

    def named(self, feature_NF: np.ndarray) -> list[Hashable]:
        """Names the most likely label of each item; of labels that tie the first of `labels`."""
        with one_thread():
            x_NF = (torch.from_numpy(feature_NF).double() - self.mean_F) * self.scale_F
            best_N = (x_NF @ self.weight_FK + self.bias_K).argmax(dim=1)
        return [self.labels[number] for number in best_N.tolist()]


def fitted(feature_NF: np.ndarray, labels: Sequence[Hashable], decay: float) -> Probe:
    """Fits a probe: mean cross-entropy + `decay` times the sum of the squared weights, bias aside.

    `labels` tie in favour of what occurs most. Raises ValueError where there is nothing to fit.
    """
    if not len(labels):
        raise ValueError("a probe needs rows to learn from")
    counts: dict[Hashable, int] = dict.fromkeys(labels, 0)
    for label in labels:
        counts[label] += 1
    names = tuple(sorted(counts, key=lambda label: -counts[label]))
    number_of = {label: number for number, label in enumerate(names)}
    right_N = torch.tensor([number_of[label] for label in labels])
    with one_thread():
        x_NF = torch.from_numpy(feature_NF).double()
        mean_F, deviation_F = x_NF.mean(0), x_NF.std(0, correction=0)
        says_F = deviation_F > _CONSTANT * deviation_F.max()
        scale_F = torch.where(says_F, 1 / deviation_F.clamp(min=1e-300), 0.0)
        x_NF = (x_NF - mean_F) * scale_F
        weight_FK = torch.zeros(x_NF.shape[1], len(names), dtype=torch.float64, requires_grad=True)
        bias_K = torch.zeros(len(names), dtype=torch.float64, requires_grad=True)
        steps = torch.optim.LBFGS(
            [weight_FK, bias_K],
            max_iter=_ROUNDS,
            tolerance_grad=1e-8,
            tolerance_change=1e-12,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def loss() -> float:
            steps.zero_grad()
            own = F.cross_entropy(x_NF @ weight_FK + bias_K, right_N)
            own = own + decay * weight_FK.square().sum()
            own.backward()
            return float(own.detach())

        with torch.enable_grad():
            steps.step(loss)
    return Probe(
        labels=names,
        mean_F=mean_F,
        scale_F=scale_F,
        weight_FK=weight_FK.detach(),
        bias_K=bias_K.detach(),
    )


def pixel_features(images_NHWC: np.ndarray) -> np.ndarray:
    """Flattens pictures, averaged down to 16 pixels a side, to features: float64 (N, F)."""
    side = min(_SIDE, images_NHWC.shape[1])
    pieces = []
    for start in range(0, len(images_NHWC), _AT_ONCE):
        image_NHWC = torch.tensor(images_NHWC[start : start + _AT_ONCE])
        small_NCHW = F.adaptive_avg_pool2d(image_NHWC.permute(0, 3, 1, 2).double(), side)
        pieces.append(small_NCHW.flatten(1).numpy() / 255)
    return np.concatenate(pieces)
