"""Where tokens stand in a batch: rows with padding, or flat without it.

Shape suffixes: B rows, L positions, R positions read, T flat tokens, D width, N any list.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Where text tokens stand: padded (every position kept) or packed (padding left out).

    Linear layers, norms and MLPs run on the flat tokens (T x D); only attention needs rows. Packed
    and padded give the same values at real positions.
    """

    is_real_BL: Tensor
    """True where there is a word, False at padding."""
    flat_T: Tensor | None = None
    """Packed: index into B*L of each kept token, ascending. None: nothing is left out."""
    complete: bool = False
    """Known to have no padding, so that attention needs no mask (image tokens)."""

    @classmethod
    def of(cls, is_real_BL: Tensor, *, packed: bool = False) -> Layout:
        """The layout of a batch. Packing needs the number of real tokens, so it waits for it."""
        if not packed:
            return cls(is_real_BL=is_real_BL)
        return cls(is_real_BL=is_real_BL, flat_T=is_real_BL.flatten().nonzero().squeeze(1))

    def before(self, rows: int) -> int:
        """How many flat tokens the first rows have; packed it waits for the number."""
        if self.flat_T is None:
            return rows * self.is_real_BL.shape[1]
        return int(self.is_real_BL[:rows].sum())

    def split(self, rows: int) -> tuple[Layout, Layout]:
        """The layouts of the first rows and of the rest."""
        first_BL, rest_BL = self.is_real_BL.tensor_split([rows])
        first_T = rest_T = None
        if self.flat_T is not None:
            first_T, rest_T = self.flat_T.tensor_split([self.before(rows)])
            rest_T = rest_T - first_BL.numel()
        return (
            Layout(is_real_BL=first_BL, flat_T=first_T, complete=self.complete),
            Layout(is_real_BL=rest_BL, flat_T=rest_T, complete=self.complete),
        )

    @classmethod
    def full(cls, rows: int, length: int, device: torch.device) -> Layout:
        """The layout of rows without padding: image tokens, flat."""
        real_BL = torch.ones(rows, length, dtype=torch.bool, device=device)
        return cls(is_real_BL=real_BL, complete=True)

    @classmethod
    def beside(cls, text: Layout, tokens: int) -> Layout:
        """The layout of each text followed by as many image tokens, packed where the text is."""
        rows, length = text.is_real_BL.shape
        if text.complete:
            return cls.full(rows, length + tokens, text.is_real_BL.device)
        rows_BP = text.is_real_BL.new_ones(rows, tokens)
        is_real_BN = torch.cat([text.is_real_BL, rows_BP], dim=1)
        return cls.of(is_real_BN, packed=text.flat_T is not None)

    def pack(self, x_BLD: Tensor) -> Tensor:
        """(B, L, D) -> (T, D)."""
        flat = x_BLD.flatten(0, 1)
        return flat if self.flat_T is None else flat.index_select(0, self.flat_T)

    def unpack(self, x_TD: Tensor) -> Tensor:
        """(T, D) -> (B, L, D), zeros where padding was left out."""
        rows, length = self.is_real_BL.shape
        if self.flat_T is None:
            return x_TD.view(rows, length, x_TD.shape[-1])
        full = x_TD.new_zeros(rows * length, x_TD.shape[-1])
        return full.index_copy(0, self.flat_T, x_TD).view(rows, length, -1)

    def heads(self, x_TD: Tensor, count: int) -> Tensor:
        """(T, D) -> (B, H, L, D / H), for attention alone: where padding was left out stands some
        word, and what is asked there, or read there but for a weight of 0, is lost.
        """
        if self.flat_T is None:
            return self.unpack(x_TD).unflatten(-1, (count, -1)).transpose(1, 2)
        rows, length = self.is_real_BL.shape
        x_ND = x_TD.reshape(len(x_TD) * count, -1)
        moved: Tensor = _Move.apply(x_ND, *self._places(count), None)
        return moved.view(rows, count, length, -1)

    def flat(self, x_BHLd: Tensor) -> Tensor:
        """What attention found for `heads` -> (T, D)."""
        if self.flat_T is None:
            return x_BHLd.transpose(1, 2).flatten(0, 1).flatten(1)
        count = x_BHLd.shape[1]
        there_N, back_N = self._places(count)
        real_B1L1 = self.is_real_BL[:, None, :, None]
        moved: Tensor = _Move.apply(x_BHLd.flatten(0, 2), back_N, there_N, real_B1L1)
        return moved.view(len(self.flat_T), -1)

    def _places(self, count: int) -> tuple[Tensor, Tensor]:
        """Packed: for every place of (B, H, L) the row of (T, H) that stands there, some row where
        padding was left out, and for every row of (T, H) its place; made once.
        """
        assert self.flat_T is not None
        if count not in self._known:
            _, length = self.is_real_BL.shape
            head_H = torch.arange(count, device=self.flat_T.device)
            there_BHL = self._row_BL[:, None] * count + head_H[:, None]
            row_T, position_T = self.flat_T // length, self.flat_T % length
            back_TH = (row_T[:, None] * count + head_H) * length + position_T[:, None]
            self._known[count] = there_BHL.flatten(), back_TH.flatten()
        return self._known[count]

    @functools.cached_property
    def _row_BL(self) -> Tensor:
        """Packed: where each position stands in the flat tokens, a word before it at padding."""
        rows, length = self.is_real_BL.shape
        counted_N = self.is_real_BL.flatten().cumsum(0) - 1
        return counted_N.clamp(min=0).view(rows, length)

    @functools.cached_property
    def _known(self) -> dict[int, tuple[Tensor, Tensor]]:
        return {}

    def at(self, x_TD: Tensor, positions_BR: Tensor) -> tuple[Tensor, Layout]:
        """The tokens at some positions of each row, (B * R, D), and their own layout.

        A position that is padding gives an undefined token.
        """
        rows, length = self.is_real_BL.shape
        starts_B = torch.arange(0, rows * length, length, device=x_TD.device)
        index_N = (starts_B[:, None] + positions_BR).flatten()
        if self.flat_T is not None:
            index_N = self._row_BL.flatten()[index_N]
        real_BR = torch.ones_like(positions_BR, dtype=torch.bool)
        return x_TD.index_select(0, index_N), Layout(is_real_BL=real_BR, complete=True)

    def first(self, x_TD: Tensor) -> Tensor:
        """The tokens at position 0 ([CLS]), (B, D)."""
        if self.flat_T is None:
            return x_TD.view(*self.is_real_BL.shape, -1)[:, 0]
        return self.at(x_TD, torch.zeros_like(self.is_real_BL[:, :1], dtype=torch.int64))[0]

    def last(self, x_TD: Tensor) -> Tensor:
        """The last word of each row (CLIP's end of text), (B, D)."""
        return self.at(x_TD, self.is_real_BL.sum(1, keepdim=True) - 1)[0]

    def mean(self, x_TD: Tensor) -> Tensor:
        """The mean over each row's words, (B, D)."""
        weight_BL1 = self.is_real_BL.to(x_TD.dtype)[..., None]
        return (self.unpack(x_TD) * weight_BL1).sum(1) / weight_BL1.sum(1)

    @functools.cached_property
    def key_bias_B11L(self) -> Tensor | None:
        """Added to attention scores: 0 at words, -10000 at padding (a weight of exactly 0); None
        where there is no padding.
        """
        if self.complete:
            return None
        return self.is_real_BL.logical_not().float().mul(-1e4)[:, None, None]


class _Move(torch.autograd.Function):
    """Rows to other places, gradients by looking up where each row went: adding them up by index
    would take several times as long, and each row that counts goes to one place.
    """

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, there_M: Tensor, back_N: Tensor, counts: Tensor | None
    ) -> Tensor:
        """`there_M`: which row comes to each new place; `back_N`: at which place each row is found.
        `counts`: False at rows that go nowhere, in any shape; their gradient is 0.
        """
        ctx.save_for_backward(back_N, counts)
        return x_ND.index_select(0, there_M)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        back_N, counts = ctx.saved_tensors
        grad_ND = grads[0].index_select(0, back_N)
        if counts is not None:
            rows, _, length, _ = counts.shape
            grad_ND.view(rows, -1, length, grad_ND.shape[1]).mul_(counts)
        return grad_ND, None, None, None
