"""A model of a task is a design and what the task adds to it, whose weights are new."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import nn

from architectures.contract import FusionDesign
from architectures.frozen import SettingError
from architectures.weights import slots


class TaskModel(nn.Module, ABC):
    """A design under its own roles in `design.`, beside the parts of one task."""

    design: FusionDesign

    @abstractmethod
    def new_parts(self) -> tuple[str, ...]:
        """Returns the name prefixes of parts that start from no weight of the design."""

    def start(self, draw: slots.Draw) -> None:
        """Draws the weights of the new parts in place; those of the design stay.

        `draw(role)` is the random generator of the parameter of that name, as `head.inner.weight`.
        The model must be on the CPU in float32.
        """
        std = self.design.backbone.init_std
        slots.redraw(self, draw, std=std, only=self.new_parts())

    def rates(self, head_rate: float = 1.0) -> Mapping[str, float]:
        """Returns name prefix -> multiple of the learning rate; the first prefix that fits counts,
        and parts that none names have 1. `head_rate`: that of the new parts.
        """
        own = {f"design.{prefix}": rate for prefix, rate in self.design.rates().items()}
        return {**dict.fromkeys(self.new_parts(), head_rate), **own}


def refuse(design: FusionDesign, reason: str) -> None:
    """Raises `SettingError` where there is a reason why a design cannot serve."""
    if reason:
        raise SettingError(f"{design.name}: {reason}")
