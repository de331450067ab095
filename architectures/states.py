"""States are what encoders and fusion return: of images, of texts, and of both together.

A newcomer's picture: `encode_image` returns `ImageStates`, `encode_text` returns `TextStates`,
`fuse` takes both and returns `Fused`; heads and tasks read nothing else.

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
    """Both kinds of states hold what ITC reads of each row, computed when it is first read."""

    pooled: Tensor | Callable[[], Tensor]
    """(B, D) what the ITC head reads, or a function that computes it (a joint stack needs a pass of
    its own); (B, Q, D) where an image has several vectors and the closest to a text counts
    (BLIP-2).
    """

    @functools.cached_property
    def pooled_BD(self) -> Tensor:
        """(B, D) or, of images with several vectors, (B, Q, D): what the ITC head reads."""
        return self.pooled if isinstance(self.pooled, Tensor) else self.pooled()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageStates(_States):
    """An image tower returns U different images, and B rows that each show one of them.

    ITM fuses each image with several texts. What a layer computes of image tokens alone (keys,
    values) is the same every time, so `take` repeats no tokens: it only notes which image each row
    shows.
    """

    distinct_UPD: Tensor
    """(U, P, D) tokens of each different image, the class token first."""
    rows_B: Tensor | None = None
    """(B,) int64, the image that each row shows; None: U = B, every row shows its own."""
    layers: tuple[Tensor, ...] = ()
    """(U, P, D) outputs of every block, or whatever else `fuse` of the design reads of each layer;
    empty where it reads none.
    """
    projected: dict[object, Tensor] = dataclasses.field(default_factory=dict, repr=False)
    """Keys and values of each image by the linear layer that projected them, kept for this batch.
    """

    @functools.cached_property
    def tokens_BPD(self) -> Tensor:
        """(B, P, D) tokens of the image that each row shows."""
        return self.by_row(self.distinct_UPD)

    def by_row(self, x_UPD: Tensor) -> Tensor:
        """Repeats something of each image for the rows that show it: (U, ...) -> (B, ...)."""
        return x_UPD if self.rows_B is None else x_UPD.index_select(0, self.rows_B)

    def take(self, rows_N: Tensor) -> ImageStates:
        """The states of some rows, in that order; rows may repeat."""
        return ImageStates(
            distinct_UPD=self.distinct_UPD,
            rows_B=rows_N if self.rows_B is None else self.rows_B[rows_N],
            pooled=lambda: self.pooled_BD.index_select(0, rows_N),
            layers=self.layers,
            projected=self.projected,
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
    """A text encoder returns flat tokens with their layout; `tokens_BLD` gives them by rows."""

    tokens_TD: Tensor
    """(T, D) tokens of all rows, one after another."""
    layout: Layout
    """Where each of them stands."""
    layers: tuple[Tensor, ...] = ()
    """(T, D) outputs of every layer, or whatever else `fuse` of the design reads of each; empty
    where it reads none.
    """

    @property
    def tokens_BLD(self) -> Tensor:
        return self.layout.unpack(self.tokens_TD)

    @property
    def text_is_real_BL(self) -> Tensor:
        return self.layout.is_real_BL

    def take(self, rows_N: Tensor) -> TextStates:
        """The states of some rows, in that order; rows may repeat."""
        layout = self.layout.take(rows_N)

        def rows(x_TD: Tensor) -> Tensor:
            return layout.pack(self.layout.unpack(x_TD).index_select(0, rows_N))

        return TextStates(
            tokens_TD=rows(self.tokens_TD),
            layout=layout,
            pooled=lambda: self.pooled_BD.index_select(0, rows_N),
            layers=tuple(rows(layer) for layer in self.layers),
        )

    def split(self, rows: int) -> tuple[TextStates, TextStates]:
        """Divides the states after `rows` rows; nothing is copied."""
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
        """Puts the rows of all parts one after another; all have one length, all or none are
        packed.
        """
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
    """Fusion returns text tokens, image tokens where it changes them, and a vector of each row."""

    text_BRD: Tensor
    """(B, R, D) text tokens at the positions of `read_at_BR`; without it at every one (R = L)."""
    image_BPD: Tensor | None
    """(B, P, D) image tokens after fusion; None where the design does not change them, or where
    `read_at_BR` says that text alone is read.
    """
    pooled_BD: Tensor
    """(B, D) what the ITM head and the classifiers of tasks read, `Facts.pooled_width` wide."""
    attention: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    """Layer -> (B, H, L, P) attention probabilities of text to image tokens, class token first, of
    the layers that `keep_attention` names. Rows sum to 1 where text reads the image alone, to less
    where one softmax covers words and image tokens.
    """
