"""A layout says where tokens stand in a batch: in rows with padding, or flat without it.

Shape suffixes: B rows, L positions, R positions read, T flat tokens, D width, N any list.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """A layout maps the flat tokens (T, D) of a batch to its rows (B, L, D) and back.

    Padded, every position is kept (T = B * L); packed, padding is left out (T = number of words).
    Linear layers, norms and MLPs run on the flat tokens; only attention needs rows. Both give the
    same values at real positions.
    """

    is_real_BL: Tensor
    """(B, L) bool, True where there is a token, False at padding."""
    flat_T: Tensor | None = None
    """(T,) int64, packed: place of each kept token among B * L, ascending. None: padded."""
    complete: bool = False
    """Whether it is certain that there is no padding (image tokens), so attention needs no mask."""
    place_BL: Tensor | None = None
    """(B, L) int64, where a token reads itself and those before it alone: a token reads those whose
    place is not above its own. None: each reads all that are real."""

    @classmethod
    def of(cls, is_real_BL: Tensor, *, packed: bool = False) -> Layout:
        """Makes the layout of a batch. Packing waits until the device has counted the tokens."""
        if not packed:
            return cls(is_real_BL=is_real_BL)
        return cls(is_real_BL=is_real_BL, flat_T=is_real_BL.flatten().nonzero().squeeze(1))

    def causal(self, prefix_B: Tensor | None = None) -> Layout:
        """Returns the layout in which a token reads those before it, itself, and the first
        `prefix_B` (B,) int64 of its row (a prefix LM; SimVLM, Wang et al. 2022); None: no others.
        """
        rows, length = self.is_real_BL.shape
        place_BL = torch.arange(length, device=self.is_real_BL.device).expand(rows, -1)
        if prefix_B is not None:
            place_BL = place_BL.where(place_BL >= prefix_B[:, None], 0)
        return dataclasses.replace(self, place_BL=place_BL)

    def take(self, rows_N: Tensor) -> Layout:
        """Returns the layout of some rows, in that order; rows may repeat."""
        of_rows = Layout.of(self.is_real_BL[rows_N], packed=self.flat_T is not None)
        place_NL = None if self.place_BL is None else self.place_BL[rows_N]
        return dataclasses.replace(of_rows, place_BL=place_NL)

    def before(self, rows: int) -> int:
        """Counts the flat tokens of the first rows; where packed it waits for the device."""
        if self.flat_T is None:
            return rows * self.is_real_BL.shape[1]
        return int(self.is_real_BL[:rows].sum())

    def split(self, rows: int) -> tuple[Layout, Layout]:
        """Returns the layouts of the first rows and of the rest."""
        first_BL, rest_BL = self.is_real_BL.tensor_split([rows])
        first_T = rest_T = None
        if self.flat_T is not None:
            first_T, rest_T = self.flat_T.tensor_split([self.before(rows)])
            rest_T = rest_T - first_BL.numel()
        first_place = rest_place = None
        if self.place_BL is not None:
            first_place, rest_place = self.place_BL.tensor_split([rows])
        first = Layout(is_real_BL=first_BL, flat_T=first_T, place_BL=first_place)
        rest = Layout(is_real_BL=rest_BL, flat_T=rest_T, place_BL=rest_place)
        return (
            dataclasses.replace(first, complete=self.complete),
            dataclasses.replace(rest, complete=self.complete),
        )

    @classmethod
    def full(cls, rows: int, length: int, device: torch.device) -> Layout:
        """Makes the layout of rows without padding, as image tokens are."""
        real_BL = torch.ones(rows, length, dtype=torch.bool, device=device)
        return cls(is_real_BL=real_BL, complete=True)

    @classmethod
    def beside(cls, text: Layout, tokens: int) -> Layout:
        """Makes the layout of each text followed by image tokens, packed where the text is. Image
        tokens read no word of a text whose words have places.
        """
        rows, length = text.is_real_BL.shape
        if text.complete:
            return cls.full(rows, length + tokens, text.is_real_BL.device)
        rows_BP = text.is_real_BL.new_ones(rows, tokens)
        is_real_BN = torch.cat([text.is_real_BL, rows_BP], dim=1)
        layout = cls.of(is_real_BN, packed=text.flat_T is not None)
        if text.place_BL is None:
            return layout
        return dataclasses.replace(layout, place_BL=F.pad(text.place_BL, (0, tokens), value=-1))

    def pack(self, x_BLD: Tensor) -> Tensor:
        """Rows to flat tokens: (B, L, D) -> (T, D)."""
        flat = x_BLD.flatten(0, 1)
        return flat if self.flat_T is None else flat.index_select(0, self.flat_T)

    def unpack(self, x_TD: Tensor) -> Tensor:
        """Flat tokens to rows: (T, D) -> (B, L, D), zeros where padding was left out."""
        rows, length = self.is_real_BL.shape
        if self.flat_T is None:
            return x_TD.view(rows, length, x_TD.shape[-1])
        full = x_TD.new_zeros(rows * length, x_TD.shape[-1])
        return full.index_copy(0, self.flat_T, x_TD).view(rows, length, -1)

    def heads(self, x_TD: Tensor, count: int) -> Tensor:
        """Flat tokens to rows of `count` heads, for attention alone: (T, D) -> (B, H, L, D / H).

        Where padding was left out stands a copy of some word: `bias` keeps it from being
        read, and `flat` drops what it would read.
        """
        if self.flat_T is None:
            return self.unpack(x_TD).unflatten(-1, (count, -1)).transpose(1, 2)
        rows, length = self.is_real_BL.shape
        x_ND = x_TD.reshape(len(x_TD) * count, -1)
        moved: Tensor = _Move.apply(x_ND, *self._places(count), None)
        return moved.view(rows, count, length, -1)

    def flat(self, x_BHLd: Tensor) -> Tensor:
        """The way back from `heads`, for what attention returns: (B, H, L, D / H) -> (T, D)."""
        if self.flat_T is None:
            return x_BHLd.transpose(1, 2).flatten(0, 1).flatten(1)
        count = x_BHLd.shape[1]
        there_N, back_N = self._places(count)
        real_B1L1 = self.is_real_BL[:, None, :, None]
        moved: Tensor = _Move.apply(x_BHLd.flatten(0, 2), back_N, there_N, real_B1L1)
        return moved.view(len(self.flat_T), -1)

    def _places(self, count: int) -> tuple[Tensor, Tensor]:
        """Where packed, returns for every place of (B, H, L) the row of (T, H) that stands there
        (some row where padding was left out), and for every row of (T, H) its place; computed once.
        """
        assert self.flat_T is not None
        if count not in self._by_heads:
            _, length = self.is_real_BL.shape
            head_H = torch.arange(count, device=self.flat_T.device)
            there_BHL = self._row_BL[:, None] * count + head_H[:, None]
            row_T, position_T = self.flat_T // length, self.flat_T % length
            back_TH = (row_T[:, None] * count + head_H) * length + position_T[:, None]
            self._by_heads[count] = there_BHL.flatten(), back_TH.flatten()
        return self._by_heads[count]

    @functools.cached_property
    def _row_BL(self) -> Tensor:
        """(B, L) where each position stands in the packed tokens; at padding, a word before it."""
        rows, length = self.is_real_BL.shape
        counted_N = self.is_real_BL.flatten().cumsum(0) - 1
        return counted_N.clamp(min=0).view(rows, length)

    @functools.cached_property
    def _by_heads(self) -> dict[int, tuple[Tensor, Tensor]]:
        return {}

    def at(self, x_TD: Tensor, positions_BR: Tensor) -> tuple[Tensor, Layout]:
        """Returns the tokens (B * R, D) at some positions of each row, and their own layout.

        A position that is padding gives an undefined token.
        """
        rows, length = self.is_real_BL.shape
        starts_B = torch.arange(0, rows * length, length, device=x_TD.device)
        index_N = (starts_B[:, None] + positions_BR).flatten()
        if self.flat_T is not None:
            index_N = self._row_BL.flatten()[index_N]
        real_BR = torch.ones_like(positions_BR, dtype=torch.bool)
        place_BR = None if self.place_BL is None else self.place_BL.gather(1, positions_BR)
        there = Layout(is_real_BL=real_BR, complete=True, place_BL=place_BR)
        return x_TD.index_select(0, index_N), there

    def first(self, x_TD: Tensor) -> Tensor:
        """Returns the tokens (B, D) at position 0 ([CLS])."""
        if self.flat_T is None:
            return x_TD.view(*self.is_real_BL.shape, -1)[:, 0]
        return self.at(x_TD, torch.zeros_like(self.is_real_BL[:, :1], dtype=torch.int64))[0]

    def last(self, x_TD: Tensor) -> Tensor:
        """Returns the last token (B, D) of each row (CLIP's end of text)."""
        return self.at(x_TD, self.is_real_BL.sum(1, keepdim=True) - 1)[0]

    def mean(self, x_TD: Tensor) -> Tensor:
        """Returns the mean (B, D) over each row's real tokens."""
        weight_BL1 = self.is_real_BL.to(x_TD.dtype)[..., None]
        return (self.unpack(x_TD) * weight_BL1).sum(1) / weight_BL1.sum(1)

    @functools.cached_property
    def _padding_B11L(self) -> Tensor | None:
        """(B, 1, 1, L) what is added to attention scores: 0 at words, -10000 at padding, which
        gives a weight of exactly 0. None where there is no padding.
        """
        if self.complete:
            return None
        return self.is_real_BL.logical_not().float().mul(-1e4)[:, None, None]

    def bias(self, asking: Layout) -> Tensor | None:
        """Returns what is added to the scores with which `asking` tokens read these: -10000 at
        padding, which gives a weight of exactly 0, and where both have places at those after the
        one that asks. (B, 1, 1, L) or (B, 1, Q, L); None: nothing.
        """
        if self.place_BL is None or asking.place_BL is None:
            return self._padding_B11L
        return self._own_bias if asking is self else self._bias_at(asking.place_BL)

    @functools.cached_property
    def _own_bias(self) -> Tensor:
        """That of the tokens themselves, which every layer of a stack adds."""
        assert self.place_BL is not None
        return self._bias_at(self.place_BL)

    def _bias_at(self, place_BQ: Tensor) -> Tensor:
        assert self.place_BL is not None
        hidden_BQL = self.place_BL[:, None] > place_BQ[..., None]
        if not self.complete:
            hidden_BQL = hidden_BQL | ~self.is_real_BL[:, None]
        return hidden_BQL.float().mul(-1e4)[:, None]


class _Move(torch.autograd.Function):
    """Moves rows to other places. Its gradient looks up where each row went, since each row that
    counts goes to one place; adding up by index would take several times as long.
    """

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, there_M: Tensor, back_N: Tensor, counts: Tensor | None
    ) -> Tensor:
        """Returns (M, D) of rows (N, D).

        there_M: (M,) the row that comes to each new place
        back_N: (N,) the new place of each row
        counts: (B, 1, L, 1) False at rows that go nowhere, whose gradient is 0; None: all count
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
