"""Learnt queries and words share these layers (BLIP-2's Q-Former, Li et al. 2023).

Shape suffixes: B rows, U different images, Q queries, L text positions, R positions read, T flat
tokens, D width.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import (
    ImageStates,
)
from architectures.layers.attention import heads_of
from architectures.layers.blocks import MLP, Attention
from architectures.layers.dropout import Dropout
from architectures.layers.read import Read
from architectures.layers.sequence import Joint
from architectures.layout import Layout


class OfQueries(nn.Module):
    """The part of a layer that queries alone use: cross-attention where they read the image, an
    MLP.
    """

    def __init__(self, backbone: Backbone, *, sees: bool) -> None:
        super().__init__()
        width, eps, dropout = backbone.text_width, backbone.text_kind.eps, backbone.dropout
        if sees:
            self.cross_attention = Attention(
                width, backbone.text_heads, reads=backbone.image_width, dropout=dropout
            )
            self.cross_norm = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, backbone.text_mlp, backbone.text_kind.act)
        self.mlp_norm = nn.LayerNorm(width, eps=eps)
        self.dropout = Dropout(dropout)

    def forward(self, x_TD: Tensor, layout: Layout, image: Read | None) -> Tensor:
        """Queries (T, D) -> (T, D); `image`: what they read, None where they read nothing here."""
        if image is not None:
            read_TD = self.cross_attention(x_TD, layout, image)
            x_TD = self.cross_norm(x_TD + self.dropout(read_TD))
        return self.mlp_norm(x_TD + self.dropout(self.mlp(x_TD)))


class QueryLayer(nn.Module):
    """A BERT layer for words, whose self-attention queries share."""

    node: ClassVar[str] = "layer"

    def __init__(self, backbone: Backbone, *, sees: bool) -> None:
        """`sees`: whether queries read the image here."""
        super().__init__()
        width, kind, dropout = backbone.text_width, backbone.text_kind, backbone.dropout
        self.sees = sees
        self.self_attention = Attention(width, backbone.text_heads, reads=width, dropout=dropout)
        self.self_norm = nn.LayerNorm(width, eps=kind.eps)
        self.mlp = MLP(width, backbone.text_mlp, kind.act)
        self.mlp_norm = nn.LayerNorm(width, eps=kind.eps)
        self.for_queries = OfQueries(backbone, sees=sees)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x_TD: Tensor,
        joint: Joint,
        image: Read | None = None,
        *,
        to_read: Read | None = None,
        read_at_BR: Tensor | None = None,
    ) -> Tensor:
        """Runs [words | queries] of every row, either of which may be none: (T, D) -> (T, D).

        x_TD: (T, D) flat tokens of the sequence `joint`
        image: what queries read, in a layer where they do
        to_read: what self-attention reads in place of the tokens themselves
        read_at_BR: (B, R) positions that are computed, all queries among them; None: every one
        """
        layout = joint.layout
        read = Read(states=x_TD, layout=layout) if to_read is None else to_read
        if read_at_BR is not None:
            x_TD, layout = layout.at(x_TD, read_at_BR)
            rows, asking = read_at_BR.shape
            words = Layout.full(rows, asking - joint.image_tokens, x_TD.device)
            joint = Joint(words, joint.image_tokens)
        x_TD = self.self_norm(x_TD + self.dropout(self.self_attention(x_TD, layout, read)))
        words_TD, queries_BQD = joint.split(x_TD)
        if joint.length:
            words_TD = self.mlp_norm(words_TD + self.dropout(self.mlp(words_TD)))
        if joint.image_tokens:
            flat = Layout.full(len(queries_BQD), joint.image_tokens, x_TD.device)
            queries_TD = self.for_queries(queries_BQD.flatten(0, 1), flat, image)
            queries_BQD = queries_TD.view_as(queries_BQD)
        return joint.join(words_TD, queries_BQD)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordsAndQueries(Read):
    """What words read: the words of every row, and after them the queries of its image.

    Keys and values of queries are computed once per image.
    """

    words: Layout
    image: ImageStates

    @classmethod
    def of(
        cls, words_TD: Tensor, queries_UQD: Tensor, words: Layout, image: ImageStates
    ) -> WordsAndQueries:
        """Joins words (T, D) with the queries (U, Q, D) of each different image."""
        return cls(
            states=torch.cat([words_TD, queries_UQD.flatten(0, 1)]),
            layout=Layout.beside(words, queries_UQD.shape[1]),
            words=words,
            image=image,
        )

    def heads(self, part: nn.Linear, count: int) -> Tensor:
        """Keys or values (B, H, L + Q, d)."""
        assert self.layout is not None
        projected = part(self.states)
        queries = self.layout.is_real_BL.shape[1] - self.words.is_real_BL.shape[1]
        images = len(self.image.distinct_UPD)
        words_TD, queries_TD = projected.tensor_split([len(projected) - images * queries])
        queries_BQD = self.image.by_row(queries_TD.unflatten(0, (images, queries)))
        return heads_of(torch.cat([self.words.unpack(words_TD), queries_BQD], dim=1), count)


class Queries(nn.Embedding):
    """A table of learnt queries, which the graph shows as a part."""

    node: ClassVar[str] = "queries"
