"""How large the gradient is, as a whole and by part, and clipping by it."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from architectures.contract import FusionDesign

PARTS = ("image", "text", "fusion", "heads")


def part_of(role: str, crossings: Collection[str]) -> str:
    """Where a parameter belongs: the towers are what `towers` names so, less the layers of the text
    stack in which text reads the image; heads are the objectives'; all else is fusion.
    """
    if any(role.startswith(f"{layer}.") for layer in crossings):
        return "fusion"
    first = role.partition(".")[0]
    named = {"image": "image", "embeddings": "text", "layers": "text", "text_norm": "text"}
    return "heads" if first in ("heads", "state") else named.get(first, "fusion")


class Gradients:
    """The trainable parameters of a design and of the objectives' state."""

    def __init__(self, design: FusionDesign, state: nn.Module) -> None:
        named = [*design.named_parameters(), *state.named_parameters(prefix="state")]
        trained = [(role, p) for role, p in named if p.requires_grad]
        crossings = design.crossings()
        self._parameters = [p for _, p in trained]
        self._parts = [part_of(role, crossings) for role, _ in trained]

    def _found(self) -> list[tuple[str, Tensor]]:
        both = zip(self._parts, self._parameters, strict=True)
        return [(part, p.grad) for part, p in both if p.grad is not None]

    def norms(self) -> dict[str, Tensor]:
        """`grad_norm`, and `grad_norm_image`, ... of each of `PARTS` that the design has.
        Nothing here waits for the device.
        """
        found = self._found()
        each = torch._foreach_norm([gradient for _, gradient in found])
        norms = {"grad_norm": torch.linalg.vector_norm(torch.stack(each))}
        for part in (part for part in PARTS if part in self._parts):
            own = [norm for norm, (its, _) in zip(each, found, strict=True) if its == part]
            # Not by a list of places: a GPU waits where an index comes from Python.
            own_N = torch.stack(own) if own else each[0].new_zeros(0)
            norms[f"grad_norm_{part}"] = torch.linalg.vector_norm(own_N)
        return norms

    def clip(self, norm: Tensor, limit: float) -> None:
        """Scales all gradients so that `norm` is at most `limit`; 0: no limit."""
        if limit:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, limit, norm)
