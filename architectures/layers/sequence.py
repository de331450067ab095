"""This module puts words and image tokens in one sequence, [text | image], and walks it through a
stack of layers.

Shape suffixes: B rows, P image tokens, L text positions, N = L + P, R positions read, T flat
tokens, D width.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from architectures.layers.attention import WordsToImage
from architectures.layers.blocks import Layer, text_read
from architectures.layers.read import Read
from architectures.layout import Layout

Step = Callable[..., Tensor]
"""A layer as `walk` calls it: (x_TD, layout, read_at_BR=, keep=) -> x_TD."""

NOTHING: Mapping[str, list[Tensor]] = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Joint:
    """A joint sequence is [text | image] of every row, flat, and packed where the text is."""

    text: Layout
    image_tokens: int

    @functools.cached_property
    def layout(self) -> Layout:
        return Layout.beside(self.text, self.image_tokens)

    @property
    def length(self) -> int:
        """The number L of text positions; image tokens come after them."""
        return self.text.is_real_BL.shape[1]

    def join(self, text_TD: Tensor, image_BPD: Tensor) -> Tensor:
        """Joins flat words (T, D) and image tokens (B, P, D): one flat sequence (T + B * P, D)."""
        return self.layout.pack(torch.cat([self.text.unpack(text_TD), image_BPD], dim=1))

    def split(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Divides a joint sequence again: flat words (T, D), and image tokens (B, P, D)."""
        text_BLD, image_BPD = self.layout.unpack(x_TD).tensor_split([self.length], dim=1)
        return self.text.pack(text_BLD), image_BPD

    def read(self, x_TD: Tensor, at_BR: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Divides the output of a last layer as `Fused` wants it.

        Returns `text_BRD`, the first token (B, D), and image tokens (B, P, D), or None where the
        layer computed only the positions `at_BR` of `with_first`.
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
    """Walks tokens (T, D) through a stack, lowest layer first.

    With `at_BR` the last layer computes those positions only and the result is (B * R, D). `keep`:
    name of a layer -> a list that receives its attention probabilities.
    """
    last = list(stack)[-1]
    for name, layer in stack.items():
        read_at_BR = at_BR if name == last else None
        x_TD = layer(x_TD, layout, read_at_BR=read_at_BR, keep=keep.get(name))
    return x_TD


def walk_halves(
    stack: Mapping[str, Layer],
    image_stack: Iterable[Layer],
    text_TD: Tensor,
    layout: Layout,
    pictures: Read,
    at_BR: Tensor | None,
    keep: Mapping[str, list[Tensor]] = NOTHING,
) -> tuple[Tensor, Tensor]:
    """Walks words and image tokens through a stack that has a half for each, lowest layer first.

    Each half computes its own tokens, which read all tokens of both under one softmax; keys and
    values are made by the half whose tokens they are of.

    stack: name of a layer -> its half for words
    image_stack: the halves for image tokens
    text_TD, layout: flat words
    pictures: image tokens, of `Read.of_image`
    at_BR: words that the last layer computes, and of the image the class token; None: all
    keep: name of a layer -> a list that receives the attention probabilities of words
    Returns flat words (T, D) and image tokens (B, P, D), with `at_BR` (B * R, D) and (B, 1, D).
    """
    image_BPD = pictures.rows(pictures.states)
    rows, tokens, _ = image_BPD.shape
    image_TD, image_layout = image_BPD.flatten(0, 1), Layout.full(rows, tokens, image_BPD.device)
    first_B1 = torch.zeros(rows, 1, dtype=torch.int64, device=image_BPD.device)
    last = list(stack)[-1]
    for (name, of_text), of_image in zip(stack.items(), image_stack, strict=True):
        text_at, image_at = (at_BR, first_B1) if at_BR is not None and name == last else (None,) * 2
        words = Read(states=text_TD, layout=layout, maps=of_text.self_attention.maps)
        pictures = dataclasses.replace(pictures, maps=of_image.self_attention.maps)
        text_TD = of_text(
            text_TD, layout, pictures, own=words, read_at_BR=text_at, keep=keep.get(name)
        )
        image_TD = of_image(image_TD, image_layout, words, own=pictures, read_at_BR=image_at)
        pictures = Read(states=image_TD, layout=image_layout)
    return text_TD, image_TD.unflatten(0, (rows, -1))


def walk_alone(stack: Mapping[str, Step], x: Tensor, layout: Layout | None = None) -> Tensor:
    """Walks one modality through a stack by itself and returns its first token (B, D).

    `x`: flat tokens (T, D) with their layout, or image tokens (B, P, D) without one.
    """
    if layout is None:
        layout = Layout.full(x.shape[0], x.shape[1], x.device)
        x = x.flatten(0, 1)
    first_B1 = torch.zeros_like(layout.is_real_BL[:, :1], dtype=torch.int64)
    return walk(stack, x, layout, first_B1)


def keepers(
    names: Collection[str],
    stack: Collection[str],
    length: int,
    spread_NP: Tensor | None = None,
) -> dict[str, WordsToImage]:
    """Makes a keeper of text-to-image attention for each named layer, as `WordsToImage` takes it;
    `length`: text positions.
    """
    return {name: WordsToImage(length, spread_NP) for name in stack if name in names}
