"""Cross-attention through a learnt gate, for towers that read each other (FIBER; Flamingo).

Shape suffixes: T flat tokens, D width.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from architectures.layers.blocks import Attention
from architectures.layers.dropout import Dropout
from architectures.layers.read import Read
from architectures.layout import Layout

GateKind = Literal["scalar", "tanh", "none"]
"""What is read is multiplied by: a learnt number, the tanh of one, or nothing."""


class Crossing(nn.Module):
    """A crossing is the gated cross-attention of one layer to the other tower."""

    node: ClassVar[str] = "crossing"

    def __init__(
        self,
        attention: Attention,
        gate: GateKind,
        gate_start: float,
        norm: nn.LayerNorm | None = None,
    ) -> None:
        """`gate_start`: first value of the gate's number; `norm`: applied to what asks, if any."""
        super().__init__()
        self.attention, self.norm = attention, norm
        self.dropout = Dropout(attention.dropout)
        self.gate = None if gate == "none" else Gate(gate, gate_start)

    def forward(
        self, own_TD: Tensor, layout: Layout, read: Read, *, keep: list[Tensor] | None = None
    ) -> Tensor:
        """Adds to the output of self-attention (T, D), through the gate, what is read for it."""
        asking_TD = own_TD if self.norm is None else self.norm(own_TD)
        read_TD = self.dropout(self.attention(asking_TD, layout, read, keep=keep))
        return own_TD + (read_TD if self.gate is None else self.gate(read_TD))


class Gate(nn.Module):
    """A gate multiplies its input by a learnt number, or by the tanh of one."""

    def __init__(self, kind: GateKind, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.tensor([start]))
        self.squashed = kind == "tanh"

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.gamma.tanh() if self.squashed else self.gamma)
