"""Cross-attention through a learnt gate, for towers that read each other (FIBER; Flamingo).

Shape suffixes: T flat tokens, D width.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from architectures.layers.blocks import MLP, Attention
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


class GatedMLP(MLP):
    """A gated MLP adds to tokens (T, D), through a gate, what an MLP makes of them, normed."""

    node: ClassVar[str] = "mlp"

    def __init__(self, width: int, inner: int, gate: GateKind, gate_start: float) -> None:
        super().__init__(width, inner)
        self.norm = nn.LayerNorm(width)
        self.gate = None if gate == "none" else Gate(gate, gate_start)

    def forward(self, x_TD: Tensor) -> Tensor:
        added_TD = super().forward(self.norm(x_TD))
        return x_TD + (added_TD if self.gate is None else self.gate(added_TD))


class GatedLayer(nn.Module):
    """A gated layer stands between two layers of a stack: x + tanh(a) CA(LN x), then
    x + tanh(b) MLP(LN x), so that with a = b = 0 the stack is what it was (Flamingo).
    """

    node: ClassVar[str] = "gated layer"

    def __init__(self, attention: Attention, inner: int, gate: GateKind, gate_start: float) -> None:
        """`inner`: width inside the MLP."""
        super().__init__()
        width = attention.query.in_features
        self.crossing = Crossing(attention, gate, gate_start, nn.LayerNorm(width))
        self.mlp = GatedMLP(width, inner, gate, gate_start)

    def forward(
        self, x_TD: Tensor, layout: Layout, read: Read, *, keep: list[Tensor] | None = None
    ) -> Tensor:
        """Lets tokens (T, D) read, and returns them; `keep` as in `Attention`."""
        changed_TD: Tensor = self.mlp(self.crossing(x_TD, layout, read, keep=keep))
        return changed_TD
