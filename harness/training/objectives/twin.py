"""A twin follows a model that learns: it keeps most of its weights in a step (Li et al. 2021)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def follow(twin: nn.Module, model: nn.Module, momentum: float) -> None:
    """Moves every weight of a twin: it keeps the share `momentum` of itself and takes the rest from
    the weight of the model that has its name.
    """
    theirs = dict(model.named_parameters())
    ours = dict(twin.named_parameters())
    torch._foreach_lerp_(list(ours.values()), [theirs[role] for role in ours], 1 - momentum)


class ModelTwin(nn.Module, Generic[M]):
    """The momentum twin of a whole model that learns a task, its head or decoder included (ALBEF's
    fine-tuning). It starts as the model.
    """

    def __init__(self, model: M, momentum: float) -> None:
        """`momentum`: the share of itself that the twin keeps in a step."""
        super().__init__()
        self.momentum = momentum
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def ask(self, model: M, read: Callable[[M], Tensor]) -> Tensor:
        """Follows `model` once, then returns what `read` makes of the twin, as published: dropout
        is active in it where it is in the model.
        """
        follow(self.model, model, self.momentum)
        return read(self.model.train(model.training))
