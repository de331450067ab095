"""The final model of a run, where it is not the weights after the last step: a mean over weights of
the run (Izmailov et al. 2018; Polyak and Juditsky 1992).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from architectures.contract import FusionDesign
from harness.training.settings.loop import Final


class Averaged(nn.Module):
    """A twin of a design that holds the mean of the weights which the design had after some steps.

    Buffers of floating point are averaged as weights are; others are those of the newest step. The
    objectives' state (temperature, teacher, queue) is no part of it.
    """

    def __init__(self, settings: Final, design: FusionDesign, measured: Sequence[int]) -> None:
        """Copies `design`, whose weights count for nothing until a step is taken. `measured`: the
        steps that are measured, ascending.
        """
        super().__init__()
        self.settings, self.count = settings, 0
        self.read = frozenset(measured[-settings.measurements :])
        self.design = copy.deepcopy(design).requires_grad_(False).eval()

    @torch.no_grad()
    def follow(self, design: FusionDesign, step: int) -> None:
        """Takes in the weights that `design` has after a step, where the mean reads that step."""
        if self.settings.kind == "mean" and step not in self.read:
            return
        self.count += 1
        ours, theirs = _held(self.design), _held(design)
        floats = [name for name, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [ours[name] for name in floats], [theirs[name] for name in floats], self._share()
        )
        for name in ours.keys() - set(floats):
            ours[name].copy_(theirs[name])

    def _share(self) -> float:
        """Returns the share of the newest weights in the mean; 1 for the first, so that nothing of
        the initial weights stays.
        """
        if self.settings.kind == "mean":
            return 1 / self.count
        decay = self.settings.decay
        return (1 - decay) / (1 - decay**self.count)

    def get_extra_state(self) -> dict[str, int]:
        return {"count": self.count}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.count = state["count"]


def _held(design: FusionDesign) -> dict[str, Tensor]:
    """Returns every parameter and buffer once, by name; what is shared stands under one name."""
    return {**dict(design.named_parameters()), **dict(design.named_buffers())}
