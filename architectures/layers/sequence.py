"""Words and image tokens in one sequence, [text | image], and the walk through a stack.

Shape suffixes: B rows, P image tokens, L text positions, N = L + P, R positions read, T flat
tokens, D width.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from architectures.layers.attention import WordsToImage
from architectures.layers.blocks import text_read
from architectures.layout import Layout

Step = Callable[..., Tensor]
"""A layer: (tokens, layout, read_at_BR=, keep=) -> tokens."""

NOTHING: Mapping[str, list[Tensor]] = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Joint:
    """The sequence [text | image] of every row, flat; packed where the text is."""

    text: Layout
    image_tokens: int

    @functools.cached_property
    def layout(self) -> Layout:
        return Layout.beside(self.text, self.image_tokens)

    @property
    def length(self) -> int:
        """Text positions; image tokens come after them."""
        return self.text.is_real_BL.shape[1]

    def join(self, text_TD: Tensor, image_BPD: Tensor) -> Tensor:
        """(T, D) and (B, P, D) -> (T + B * P, D)."""
        return self.layout.pack(torch.cat([self.text.unpack(text_TD), image_BPD], dim=1))

    def split(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """What `join` put together."""
        text_BLD, image_BPD = self.layout.unpack(x_TD).tensor_split([self.length], dim=1)
        return self.text.pack(text_BLD), image_BPD

    def read(self, x_TD: Tensor, at_BR: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """What a last layer made, as `Fused` wants it: `text_BRD`, the first token (B, D), and
        image tokens where all positions were computed. `at_BR`: the positions of `with_first`.
        """
        image_BPD = None
        if at_BR is None:
            x_TD, image_BPD = self.split(x_TD)
        return *text_read(x_TD, self.text, at_BR), image_BPD


def walk(
    stack: Mapping[str, Step],
    x_TD: Tensor,
    layout: Layout,
    at_BR: Tensor | None,
    keep: Mapping[str, list[Tensor]] = NOTHING,
) -> Tensor:
    """Tokens through a stack, lowest layer first; with `at_BR` the last layer computes those
    positions only. `keep`: name of a layer -> what receives its attention probabilities.
    """
    last = list(stack)[-1]
    for name, layer in stack.items():
        read_at_BR = at_BR if name == last else None
        x_TD = layer(x_TD, layout, read_at_BR=read_at_BR, keep=keep.get(name))
    return x_TD


def walk_alone(stack: Mapping[str, Step], x: Tensor, layout: Layout | None = None) -> Tensor:
    """One modality through a stack by itself: its first token (B, D). `x`: flat tokens with their
    layout, or image tokens (B, P, D).
    """
    if layout is None:
        layout = Layout.full(x.shape[0], x.shape[1], x.device)
        x = x.flatten(0, 1)
    first_B1 = torch.zeros_like(layout.is_real_BL[:, :1], dtype=torch.int64)
    return walk(stack, x, layout, first_B1)


def keepers(names: Collection[str], stack: Collection[str], length: int) -> dict[str, WordsToImage]:
    """What receives the attention of text to image tokens, by layer; `length`: text positions."""
    return {name: WordsToImage(length) for name in stack if name in names}
