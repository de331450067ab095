"""Attention reads its own modality or the other one; `Read` holds what it reads.

Shape suffixes: B rows, U different images, P image tokens, T flat tokens, D width, E width of what
is read, H heads, K keys, d width of a head.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.layers.attention import heads_of
from architectures.layout import Layout
from architectures.states import ImageStates


@dataclasses.dataclass(frozen=True, kw_only=True)
class Read:
    """What attention reads: flat tokens with their layout, or the tokens of different images.

    A layer is called as `layer(x_TD, layout, Read(...))`. `Read.of_image(image)` is what text reads
    of `ImageStates`; `Read(states=x_TD, layout=layout)` what image reads of text, or a token of its
    own modality.
    """

    states: Tensor
    """(T, D) tokens with a layout, (U, P, E) without."""
    layout: Layout | None = None
    """Where flat tokens stand; None: `states` are those of different images."""
    by_row: Callable[[Tensor], Tensor] | None = None
    """Without a layout: keys or values of each image (U, ...) -> of each row (B, ...)."""
    projected: dict[object, Tensor] = dataclasses.field(default_factory=dict)
    """Keys and values that were computed before, by the linear layer that did: of each image, and
    of all tokens that have `maps`."""
    maps: tuple[nn.Linear, nn.Linear] | None = None
    """What makes keys and values of these tokens, where they stand beside others under one softmax
    (`Attention.maps`); None: the maps of the attention that reads them."""

    @classmethod
    def of_image(cls, image: ImageStates, tokens_UPE: Tensor | None = None) -> Read:
        """Makes what is read of images, whose keys and values are computed once per image, however
        many rows show it and however often it is fused.

        `tokens_UPE` stands in for the image's own tokens and must be the same whenever this image
        is fused: a projection of them, or an earlier layer.
        """
        states = image.distinct_UPD if tokens_UPE is None else tokens_UPE
        # Only where a backward pass through the image tower needs them in any case: evaluation
        # holds the states of many images, and those of a frozen tower outlive a step.
        shared = torch.is_grad_enabled() and image.distinct_UPD.requires_grad
        return cls(states=states, by_row=image.by_row, projected=image.projected if shared else {})

    def rows(self, x: Tensor) -> Tensor:
        """Turns tokens, or what was computed of each of them, into rows: (B, K, ...)."""
        if self.layout is not None:
            return self.layout.unpack(x)
        return x if self.by_row is None else self.by_row(x)

    def heads(self, part: nn.Linear, count: int) -> Tensor:
        """Returns the keys or values (B, H, K, d) that `part` computes of the tokens."""
        if self.layout is not None:
            kept = {} if self.maps is None else self.projected
            if part not in kept:
                kept[part] = self.layout.heads(part(self.states), count)
            return kept[part]
        if self.by_row is None:
            return heads_of(part(self.states), count)
        projected = self.projected.get(part)
        if projected is None:
            projected = heads_of(part(self.states), count).contiguous()  # before rows repeat
            self.projected[part] = projected
        return self.by_row(projected)

    def bias(self, asking: Layout) -> Tensor | None:
        """Returns what is added to the scores of `asking` tokens, (B, 1, 1, K) or (B, 1, Q, K);
        None where each may read all (image tokens).
        """
        return None if self.layout is None else self.layout.bias(asking)


def joint_bias(
    first: Tensor | None, second: Tensor | None, count: int, other: int
) -> Tensor | None:
    """Puts the biases of two parts side by side that are read under one softmax, of `count` and
    `other` keys; None where neither has one.
    """
    first = None if first is None else F.pad(first, (0, other))
    if second is None:
        return first
    second = F.pad(second, (count, 0))
    return second if first is None else first + second


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossingInside:
    """Cross-attention that stands inside a layer: it joins what self-attention computed before that
    is added to the layer's tokens (FIBER).
    """

    join: Callable[[Tensor, Layout, Read], Tensor]
    """(output (T, D) of self-attention, its layout, `read`) -> that output with what was read."""
    read: Read
    """What `join` reads."""
    spread: Callable[[Tensor], tuple[Tensor, Layout]] | None = None
    """Where self-attention runs once per different image: flat tokens of these -> of every row,
    with their layout. None: the tokens are those of every row already.
    """

    def __call__(
        self, x_TD: Tensor, added_TD: Tensor, layout: Layout
    ) -> tuple[Tensor, Tensor, Layout]:
        """Returns a layer's tokens, what is to be added to them (both (T, D)), and their layout."""
        if self.spread is not None:
            (x_TD, layout), (added_TD, _) = self.spread(x_TD), self.spread(added_TD)
        return x_TD, self.join(added_TD, layout, self.read), layout
