"""Gradients measures how large the gradient is, as a whole and by part, and clips it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn

from architectures.contract import FusionDesign

PARTS = ("image", "text", "fusion", "heads")
"""The parts of a design whose gradients are shown apart."""


def part_of(role: str, crossings: Collection[str]) -> str:
    """Returns which of `PARTS` a parameter of this role belongs to.

    Image and text are the towers (`architectures.stacks.towers`), without the layers of the text
    stack in which text reads the image (`crossings`, prefixes of roles). Heads belong to the
    objectives, as does their state. Everything else is fusion.
    """
    if any(role.startswith(f"{layer}.") for layer in crossings):
        return "fusion"
    first = role.partition(".")[0]
    named = {"image": "image", "embeddings": "text", "layers": "text", "text_norm": "text"}
    return "heads" if first in ("heads", "state") else named.get(first, "fusion")


class Gradients:
    """The gradients of all trainable parameters of a model."""

    def __init__(
        self, named: Iterable[tuple[str, nn.Parameter]], crossings: Collection[str]
    ) -> None:
        """`named`: role and parameter, as `part_of` reads roles; `crossings`: see there."""
        trained = [(role, p) for role, p in named if p.requires_grad]
        self._parameters = [p for _, p in trained]
        self._parts = [part_of(role, crossings) for role, _ in trained]

    @classmethod
    def of_design(
        cls, design: FusionDesign, state: nn.Module, *, without: Collection[str] = ()
    ) -> Gradients:
        """Takes those of a design, `without` the parameters of these roles, and of its objectives'
        state.
        """
        own = [(role, p) for role, p in design.named_parameters() if role not in without]
        named = [*own, *state.named_parameters(prefix="state")]
        return cls(named, design.crossings())

    def _with_part(self) -> list[tuple[str, Tensor]]:
        """Returns part and gradient of every parameter that has a gradient."""
        both = zip(self._parts, self._parameters, strict=True)
        return [(part, p.grad) for part, p in both if p.grad is not None]

    def norms(self) -> dict[str, Tensor]:
        """Returns `grad_norm`, the Euclidean norm of the whole gradient, and `grad_norm_image`, ...
        of each of `PARTS` that the design has. Nothing here waits for the device.
        """
        gradients = self._with_part()
        each = torch._foreach_norm([gradient for _, gradient in gradients])
        norms = {"grad_norm": torch.linalg.vector_norm(torch.stack(each))}
        for part in (part for part in PARTS if part in self._parts):
            own = [norm for norm, (its, _) in zip(each, gradients, strict=True) if its == part]
            # Not by a list of places: a GPU waits where an index comes from Python.
            own_N = torch.stack(own) if own else each[0].new_zeros(0)
            norms[f"grad_norm_{part}"] = torch.linalg.vector_norm(own_N)
        return norms

    def clip(self, norm: Tensor, limit: float) -> None:
        """Scales all gradients so that `norm` is at most `limit`; 0: no limit."""
        if limit:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, limit, norm)
