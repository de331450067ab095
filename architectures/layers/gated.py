"""Cross-attention through a learnt gate, for towers that read each other (FIBER; Flamingo).

Shape suffixes: T flat tokens, D width.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from architectures.layers.blocks import Attention, Read
from architectures.layers.dropout import Dropout
from architectures.layout import Layout

GateKind = Literal["scalar", "tanh", "none"]
"""What is read is multiplied by: a learnt number, the tanh of one, or nothing."""


class Crossing(nn.Module):
    """Gated cross-attention of one layer to the other tower."""

    node: ClassVar[str] = "crossing"

    def __init__(
        self,
        attention: Attention,
        gate: GateKind,
        gate_start: float,
        norm: nn.LayerNorm | None = None,
    ) -> None:
        """`gate_start`: first value of the learnt number; `norm`: of what asks."""
        super().__init__()
        self.attention, self.norm = attention, norm
        self.dropout = Dropout(attention.dropout)
        self.gate = None if gate == "none" else Gate(gate, gate_start)

    def forward(
        self, found_TD: Tensor, layout: Layout, read: Read, *, keep: list[Tensor] | None = None
    ) -> Tensor:
        """What self-attention found, and through the gate what is read for it (T, D)."""
        asking_TD = found_TD if self.norm is None else self.norm(found_TD)
        said_TD = self.dropout(self.attention(asking_TD, layout, read, keep=keep))
        return found_TD + (said_TD if self.gate is None else self.gate(said_TD))


class Gate(nn.Module):
    """A learnt number, or its tanh, times its input."""

    def __init__(self, kind: GateKind, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.tensor([start]))
        self.squashed = kind == "tanh"

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.gamma.tanh() if self.squashed else self.gamma)
