"""The one attention, MLP and norm of every text and fusion stack: designs differ in fusion only.

Tokens of text are flat (T x D) and only attention needs rows, which `Layout` gives; linear layers,
norms and MLPs never see padding that was packed away. A layer's order and constants are BERT's:
post-norm residual, epsilon 1e-12, exact GELU, dropout on hidden states and on attention (Devlin et
al. 2019; the cross-attention sub-layer between self-attention and MLP as in salesforce/ALBEF).

Shape suffixes: B rows, U different images, L text positions, R positions read, P image tokens, T
flat tokens, D width, E width of what is read, H heads, Q queries, K keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from architectures.backbone import Backbone
from architectures.contract import ImageStates, Layout

EPS = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Read:
    """What attention reads: flat text tokens with their layout, or tokens of different images."""

    states: Tensor
    """(T, D) with a layout, (U, P, E) without."""
    layout: Layout | None = None
    by_row: Callable[[Tensor], Tensor] | None = None
    """Without a layout: keys or values of each image (U, P, D) -> of each row (B, P, D)."""

    @classmethod
    def of_image(cls, image: ImageStates) -> Read:
        """Keys and values are made once per image, however many rows show it."""
        return cls(states=image.distinct_UPD, by_row=image.by_row)

    def rows(self, projected: Tensor) -> Tensor:
        """Keys or values by rows."""
        if self.layout is not None:
            return self.layout.unpack(projected)
        return projected if self.by_row is None else self.by_row(projected)

    @property
    def bias_B11K(self) -> Tensor | None:
        """What is added to attention scores; None where every key is real (image tokens)."""
        return None if self.layout is None else self.layout.key_bias_B11L


class Attention(nn.Module):
    """Multi-head attention of flat queries to whatever is read, itself or the other modality."""

    def __init__(self, width: int, heads: int, *, reads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(reads, width)
        self.value = nn.Linear(reads, width)
        self.output = nn.Linear(width, width)

    def forward(
        self, asking_TD: Tensor, asking: Layout, read: Read, *, keep: list[Tensor] | None = None
    ) -> Tensor:
        """(T, D) queries -> (T, D). `keep` receives the probabilities (B, H, Q, K), before dropout;
        they are part of the graph, so gradients with respect to them can be taken.
        """
        q = self._heads(asking.unpack(self.query(asking_TD)))
        k = self._heads(read.rows(self.key(read.states)))
        v = self._heads(read.rows(self.value(read.states)))
        bias = read.bias_B11K
        bias = None if bias is None else bias.to(q.dtype)
        dropout = self.dropout if self.training else 0.0
        if keep is None:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        else:
            scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
            probabilities = (scores if bias is None else scores + bias).softmax(-1)
            keep.append(probabilities)
            mixed = F.dropout(probabilities, dropout) @ v
        return self.output(asking.pack(mixed.transpose(1, 2).flatten(2)))

    def _heads(self, x_BLD: Tensor) -> Tensor:
        rows, length, width = x_BLD.shape
        return x_BLD.view(rows, length, self.heads, width // self.heads).transpose(1, 2)


class MLP(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, inner)
        self.outer = nn.Linear(inner, width)

    def forward(self, x_TD: Tensor) -> Tensor:
        return self.outer(F.gelu(self.inner(x_TD)))


class Embeddings(nn.Module):
    """Word, position and type-0 embeddings, normed, with dropout (BERT's; type 1 is unused)."""

    node: ClassVar[str] = "embeddings"

    def __init__(self, backbone: Backbone, vocabulary: int) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, backbone.text_width)
        self.position = nn.Embedding(backbone.max_positions, backbone.text_width)
        self.token_type = nn.Embedding(2, backbone.text_width)
        self.norm = nn.LayerNorm(backbone.text_width, eps=EPS)
        self.dropout = nn.Dropout(backbone.dropout)

    def forward(self, ids_BL: Tensor, layout: Layout) -> Tensor:
        """(B, L) ids -> (T, D). Raises ValueError where a text is longer than the table."""
        length, longest = ids_BL.shape[1], self.position.num_embeddings
        if length > longest:
            raise ValueError(
                f"a text of {length} tokens is longer than max_positions = {longest}; "
                "lower the data's max_tokens or raise the backbone's max_positions"
            )
        place_LD = self.position.weight[:length] + self.token_type.weight[0]
        words_TD = self.word(layout.pack(ids_BL.unsqueeze(-1)).squeeze(-1))
        places_TD = layout.pack(place_LD.expand(len(ids_BL), -1, -1))
        return self.dropout(self.norm(words_TD + places_TD))


class Layer(nn.Module):
    """Self-attention, then cross-attention where it reads another modality, then the MLP."""

    node: ClassVar[str] = "layer"

    def __init__(self, backbone: Backbone, *, reads: int | None = None) -> None:
        """`reads`: width of the other modality's tokens; None: there is no cross-attention."""
        super().__init__()
        width, heads, dropout = backbone.text_width, backbone.text_heads, backbone.dropout
        self.self_attention = Attention(width, heads, reads=width, dropout=dropout)
        self.self_norm = nn.LayerNorm(width, eps=EPS)
        if reads is not None:
            self.cross_attention = Attention(width, heads, reads=reads, dropout=dropout)
            self.cross_norm = nn.LayerNorm(width, eps=EPS)
        self.crosses = reads is not None
        self.mlp = MLP(width, backbone.text_mlp)
        self.mlp_norm = nn.LayerNorm(width, eps=EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x_TD: Tensor,
        layout: Layout,
        image: ImageStates | None = None,
        *,
        read_at_BR: Tensor | None = None,
        keep: list[Tensor] | None = None,
    ) -> Tensor:
        """(T, D) -> (T, D), or (B * R, D): with `read_at_BR` only those positions ask, all are
        still read. `keep` receives the cross-attention probabilities.
        """
        asking_TD, asking = x_TD, layout
        if read_at_BR is not None:
            asking_TD, asking = layout.at(x_TD, read_at_BR)
        mixed_TD = self.self_attention(asking_TD, asking, Read(states=x_TD, layout=layout))
        x_TD = self.self_norm(asking_TD + self.dropout(mixed_TD))
        if self.crosses:
            if image is None:
                raise TypeError("this layer has cross-attention and needs image tokens")
            mixed_TD = self.cross_attention(x_TD, asking, Read.of_image(image), keep=keep)
            x_TD = self.cross_norm(x_TD + self.dropout(mixed_TD))
        return self.mlp_norm(x_TD + self.dropout(self.mlp(x_TD)))
