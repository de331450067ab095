"""What encoders and fusion say: states of images, of texts, and of both together.

Shape suffixes: B batch rows, U different images, P image tokens, L text positions, R positions
read, D width, H heads, Q queries, T all text tokens of a batch (flat).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from architectures.layout import Layout


@dataclasses.dataclass(frozen=True, kw_only=True)
class _States:
    """What both kinds of states have: a vector of each row for ITC, made when it is first read."""

    pooled: Tensor | Callable[[], Tensor]
    """What the ITC head reads, or how to make it: a joint stack needs a pass of its own. (B, D), or
    (B, Q, D) where an image has several vectors and the one closest to a text counts (BLIP-2).
    """

    @functools.cached_property
    def pooled_BD(self) -> Tensor:
        """What the ITC head reads."""
        return self.pooled if isinstance(self.pooled, Tensor) else self.pooled()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageStates(_States):
    """What an image tower says: U different images, and B rows that each show one of them.

    ITM fuses an image several times. What a layer makes of image tokens alone (keys, values) need
    be made once per image, so `take` repeats no tokens: it only notes the rows.
    """

    distinct_UPD: Tensor
    """Tokens of each different image, the class token first."""
    rows_B: Tensor | None = None
    """Which image each row shows; None: U = B, every row its own."""
    layers: tuple[Tensor, ...] = ()
    """Output of every block (U, P, D), or what else a design keeps of each of its layers to fuse;
    only where it asks for them.
    """
    made: dict[object, Tensor] = dataclasses.field(default_factory=dict, repr=False)
    """What layers have made of image tokens alone and will make again while this batch lives."""

    @functools.cached_property
    def tokens_BPD(self) -> Tensor:
        """Tokens by rows."""
        return self.by_row(self.distinct_UPD)

    def by_row(self, x_UPD: Tensor) -> Tensor:
        """(U, ...) -> (B, ...)."""
        return x_UPD if self.rows_B is None else x_UPD.index_select(0, self.rows_B)

    def take(self, rows_N: Tensor) -> ImageStates:
        """The states of some rows, in that order; rows may repeat."""
        return ImageStates(
            distinct_UPD=self.distinct_UPD,
            rows_B=rows_N if self.rows_B is None else self.rows_B[rows_N],
            pooled=lambda: self.pooled_BD.index_select(0, rows_N),
            layers=self.layers,
            made=self.made,
        )

    @staticmethod
    def join(parts: Sequence[ImageStates]) -> ImageStates:
        """Rows of all parts, one after another."""
        layers = [[part.by_row(layer) for layer in part.layers] for part in parts]
        return ImageStates(
            distinct_UPD=torch.cat([part.tokens_BPD for part in parts]),
            pooled=lambda: torch.cat([part.pooled_BD for part in parts]),
            layers=tuple(torch.cat(each) for each in zip(*layers, strict=True)),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextStates(_States):
    """What a text encoder says. `tokens_TD` is flat; `tokens_BLD` gives it by rows."""

    tokens_TD: Tensor
    layout: Layout
    layers: tuple[Tensor, ...] = ()
    """Output of every layer, flat, only where a design asks for them."""

    @property
    def tokens_BLD(self) -> Tensor:
        return self.layout.unpack(self.tokens_TD)

    @property
    def text_is_real_BL(self) -> Tensor:
        return self.layout.is_real_BL

    def take(self, rows_N: Tensor) -> TextStates:
        """The states of some rows, in that order; rows may repeat."""
        packed = self.layout.flat_T is not None
        layout = Layout.of(self.layout.is_real_BL.index_select(0, rows_N), packed=packed)

        def rows(x_TD: Tensor) -> Tensor:
            return layout.pack(self.layout.unpack(x_TD).index_select(0, rows_N))

        return TextStates(
            tokens_TD=rows(self.tokens_TD),
            layout=layout,
            pooled=lambda: self.pooled_BD.index_select(0, rows_N),
            layers=tuple(rows(layer) for layer in self.layers),
        )

    def split(self, rows: int) -> tuple[TextStates, TextStates]:
        """The first rows, and the rest; nothing is copied."""
        (first, rest), count = self.layout.split(rows), self.layout.before(rows)
        return (
            TextStates(
                tokens_TD=self.tokens_TD[:count],
                layout=first,
                pooled=lambda: self.pooled_BD[:rows],
                layers=tuple(layer[:count] for layer in self.layers),
            ),
            TextStates(
                tokens_TD=self.tokens_TD[count:],
                layout=rest,
                pooled=lambda: self.pooled_BD[rows:],
                layers=tuple(layer[count:] for layer in self.layers),
            ),
        )

    @staticmethod
    def join(parts: Sequence[TextStates]) -> TextStates:
        """Rows of all parts, one after another; all of one length, all packed or none."""
        packed = parts[0].layout.flat_T is not None
        is_real_BL = torch.cat([part.layout.is_real_BL for part in parts])
        return TextStates(
            tokens_TD=torch.cat([part.tokens_TD for part in parts]),
            layout=Layout.of(is_real_BL, packed=packed),
            pooled=lambda: torch.cat([part.pooled_BD for part in parts]),
            layers=tuple(torch.cat(each) for each in zip(*(p.layers for p in parts), strict=True)),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fused:
    """What fusion says.

    `text_BRD` holds the positions named by `read_at_BR`, or every position (R = L) without it.
    """

    text_BRD: Tensor
    image_BPD: Tensor | None
    """Image tokens after fusion; None where the design does not change them, or where `read_at_BR`
    said that text alone is read.
    """
    pooled_BD: Tensor
    """What the ITM head and the classifiers of tasks read; `Facts.pooled_width` wide."""
    attention: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    """Attention probabilities of text to image tokens (B, H, L, P), class token first, of the
    layers named by `keep_attention`. Rows sum to 1 where text reads the image alone, to less where
    one softmax covers words and image tokens.
    """
