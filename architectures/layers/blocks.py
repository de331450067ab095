"""Every text and fusion stack is built of these parts, so that designs differ in fusion only.

Tokens are flat (T x D) and only attention needs rows, which `Layout` gives; linear layers, norms
and MLPs never see padding that was packed away. Order and constants of a layer are those of the
backbone's kind of text encoder: BERT's are post-norm residual, epsilon 1e-12, exact GELU, dropout
on hidden states and on attention (Devlin et al. 2019; cross-attention between self-attention and
MLP as in salesforce/ALBEF), CLIP's are pre-norm, causal, quick GELU (Radford et al. 2021).

Shape suffixes: B rows, U different images, L text positions, R positions read, P image tokens, T
flat tokens, D width, E width of what is read, H heads, Q queries, K keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.backbone import Backbone
from architectures.frozen import SettingError
from architectures.layers.attention import attend
from architectures.layers.dropout import Dropout
from architectures.layers.read import CrossingInside, Read, joint_bias
from architectures.layout import Layout

Step = Literal["self", "cross", "cross_mlp", "mlp"]


class Attention(nn.Module):
    """Multi-head attention lets flat tokens read themselves or the other modality.

    `score_factor` multiplies scores besides 1/sqrt(d); it is 1 but under `mup` (`weights.widths`).
    """

    def __init__(
        self, width: int, heads: int, *, reads: int, dropout: float, causal: bool = False
    ) -> None:
        """`width`: of queries and output; `reads`: width of what is read; `causal`: a token reads
        none that stands after it.
        """
        super().__init__()
        self.heads, self.dropout, self.causal = heads, dropout, causal
        self.score_factor = 1.0
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(reads, width)
        self.value = nn.Linear(reads, width)
        self.output = nn.Linear(width, width)

    @property
    def maps(self) -> tuple[nn.Linear, nn.Linear]:
        """What makes keys and values."""
        return self.key, self.value

    def forward(
        self,
        asking_TD: Tensor,
        asking: Layout,
        read: Read,
        *,
        beside: Read | None = None,
        keep: list[Tensor] | None = None,
    ) -> Tensor:
        """Attends: flat tokens (T, D), which stand where `asking` says, read `read` -> (T, D).

        beside: what is read under the same softmax, by the same maps or by its own
        keep: receives the probabilities (B, H, Q, K), before dropout; they are part of the autograd
            graph, so gradients with respect to them can be taken
        """
        q = asking.heads(self.query(asking_TD), self.heads)
        q = q if self.score_factor == 1 else q * self.score_factor
        k, v = read.heads(self.key, self.heads), read.heads(self.value, self.heads)
        bias = read.bias(asking)
        if beside is not None:
            other_k, other_v = (beside.heads(part, self.heads) for part in beside.maps or self.maps)
            bias = joint_bias(bias, beside.bias(asking), k.shape[2], other_k.shape[2])
            k, v = torch.cat([k, other_k], dim=2), torch.cat([v, other_v], dim=2)
        if self.causal:
            later_QK = torch.ones(q.shape[2], k.shape[2], device=q.device).triu(1) * -1e4
            bias = later_QK if bias is None else bias + later_QK
        p = self.dropout if self.training else 0.0
        return self.output(asking.flat(attend(q, k, v, bias, p, keep)))


def quick_gelu(x: Tensor) -> Tensor:
    """Approximates GELU as CLIP does, x sigmoid(1.702 x), with fewer passes over x."""
    return F.silu(1.702 * x) / 1.702


class MLP(nn.Module):
    """An MLP is linear, GELU (exact, or CLIP's quick one), linear."""

    def __init__(self, width: int, inner: int, act: str = "gelu") -> None:
        super().__init__()
        self.inner = nn.Linear(width, inner)
        self.outer = nn.Linear(inner, width)
        self.act = F.gelu if act == "gelu" else quick_gelu

    def forward(self, x_TD: Tensor) -> Tensor:
        return self.outer(self.act(self.inner(x_TD)))


class Pooler(nn.Linear):
    """A pooler is linear and tanh on the first token (BERT's): (B, D) -> (B, D)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width)

    def forward(self, first_BD: Tensor) -> Tensor:
        return super().forward(first_BD).tanh()


class Embeddings(nn.Module):
    """Embeddings add those of word, position and type 0, with norm and dropout (BERT's; type 1 is
    unused).
    """

    node: ClassVar[str] = "embeddings"

    def __init__(self, backbone: Backbone, vocabulary: int, *, positions: bool = True) -> None:
        """`positions` False leaves the position table out: attention has to tell places apart."""
        super().__init__()
        kind, width = backbone.text_kind, backbone.text_width
        self.kind = backbone.text
        self.first_position, self.rows = kind.first_position, backbone.max_positions
        self.word = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(self.rows, width) if positions else None
        self.token_type = nn.Embedding(kind.types, width) if kind.types else None
        self.norm = None if kind.pre_norm else nn.LayerNorm(width, eps=kind.eps)
        self.dropout = Dropout(backbone.dropout)

    def forward(
        self, ids_BL: Tensor, layout: Layout, *, first_D: Tensor | None = None, after: int = 0
    ) -> Tensor:
        """Embeds ids (B, L) as flat tokens (T, D); `first_D` takes the place of the first word's
        row, `after` counts tokens before it. Raises `SettingError` where the table is too short.
        """
        length, first = ids_BL.shape[1], self.first_position + after
        if length > self.rows - first:
            raise SettingError(
                f"a text of {length} tokens is longer than max_positions = {self.rows}"
                f"{f' - {first}' if first else ''}; "
                "lower the data's max_tokens or raise the backbone's max_positions"
            )
        x_TD = self.word(layout.pack(ids_BL.unsqueeze(-1)).squeeze(-1))
        if first_D is not None:
            is_first_BL = torch.arange(length, device=ids_BL.device).eq(0).expand_as(ids_BL)
            x_TD = torch.where(layout.pack(is_first_BL.unsqueeze(-1)), first_D, x_TD)
        return self.placed(x_TD, layout, after=after)

    def placed(self, x_TD: Tensor, layout: Layout, *, after: int = 0) -> Tensor:
        """Adds to rows (T, D) of words, or of what takes their place, the embeddings of position,
        `after` others, and of type, with norm and dropout."""
        rows, length = layout.is_real_BL.shape
        kind_D = None if self.token_type is None else self.token_type.weight[0]
        if self.position is not None:
            place_LD = self.position.weight[self.first_position + after :][:length]
            place_LD = place_LD if kind_D is None else place_LD + kind_D
            x_TD = x_TD + layout.pack(place_LD.expand(rows, -1, -1))
        elif kind_D is not None:
            x_TD = x_TD + kind_D
        return self.dropout(x_TD if self.norm is None else self.norm(x_TD))


class Layer(nn.Module):
    """A layer is self-attention, cross-attention where it reads another modality, and an MLP.

    `order` moves the steps: LXMERT crosses first, ViLBERT has an MLP after each attention.
    """

    node: ClassVar[str] = "layer"

    def __init__(
        self,
        backbone: Backbone,
        *,
        reads: int | None = None,
        order: tuple[Step, ...] = ("self", "cross", "mlp"),
        joint: bool = False,
    ) -> None:
        """Builds the parts of the steps.

        reads: width of the other modality's tokens; None: there is no cross-attention
        joint: self-attention reads them too, under one softmax, in place of cross-attention
        """
        super().__init__()
        kind, width, dropout = backbone.text_kind, backbone.text_width, backbone.dropout
        self.pre_norm = kind.pre_norm
        self.crosses, self.joint = reads is not None, joint
        attends_apart = self.crosses and not joint
        self.order = order if attends_apart else tuple(s for s in order if s in ("self", "mlp"))

        def attention(read: int, causal: bool) -> Attention:
            return Attention(width, backbone.text_heads, reads=read, dropout=dropout, causal=causal)

        if "self" in self.order:
            self.self_attention = attention(width, kind.causal)
            self.self_norm = nn.LayerNorm(width, eps=kind.eps)
        if reads is not None and attends_apart:
            self.cross_attention = attention(reads, False)
            self.cross_norm = nn.LayerNorm(width, eps=kind.eps)
        if "cross_mlp" in self.order:
            self.cross_mlp = MLP(width, backbone.text_mlp, kind.act)
            self.cross_mlp_norm = nn.LayerNorm(width, eps=kind.eps)
        self.mlp = MLP(width, backbone.text_mlp, kind.act)
        self.mlp_norm = nn.LayerNorm(width, eps=kind.eps)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x_TD: Tensor,
        layout: Layout,
        read: Read | None = None,
        *,
        read_at_BR: Tensor | None = None,
        keep: list[Tensor] | None = None,
        alone: bool = False,
        own: Read | None = None,
        spread: Callable[[Tensor], tuple[Tensor, Layout]] | None = None,
        inside: CrossingInside | None = None,
    ) -> Tensor:
        """Runs the steps: (T, D) -> (T, D), or (B * R, D) with `read_at_BR`.

        x_TD: (T, D) flat tokens, which stand where `layout` says
        read: the other modality, of a layer that `crosses`
        read_at_BR: (B, R) positions that are computed from self-attention on; all are still read
        keep: a list that receives the probabilities (B, H, Q, K) of cross-attention, of a layer
            without it those of self-attention (`WordsToImage` keeps their part of the image)
        alone: leave cross-attention out, of a layer that text also goes through by itself
        own: what self-attention reads of the tokens themselves, of a post-norm layer, where another
            layer reads them too
        spread: where self-attention runs once per different image, called before the next step:
            flat tokens of these -> of every row, with their layout
        inside: cross-attention that joins self-attention before its residual
        Raises `TypeError` where the layer crosses and there is nothing to read.
        """
        if self.crosses and read is None and not alone:
            raise TypeError("this layer has cross-attention and needs what it reads")
        if read_at_BR is not None and "self" not in self.order:
            x_TD, layout = layout.at(x_TD, read_at_BR)
        for step in self.order:
            if alone and step in ("cross", "cross_mlp"):
                continue
            if spread is not None and step != "self":
                (x_TD, layout), spread = spread(x_TD), None
            norm: nn.Module = getattr(self, NORMS[step])
            h_TD = norm(x_TD) if self.pre_norm else x_TD
            if step == "self":
                own = own or Read(states=h_TD, layout=layout)
                if read_at_BR is not None:
                    x_TD, asking = layout.at(x_TD, read_at_BR)
                    h_TD = layout.at(h_TD, read_at_BR)[0] if self.pre_norm else x_TD
                    layout = asking
                beside = read if self.joint and not alone else None
                kept = None if self.crosses and not self.joint else keep
                added_TD = self.self_attention(h_TD, layout, own, beside=beside, keep=kept)
            elif step == "cross":
                assert read is not None
                added_TD = self.cross_attention(h_TD, layout, read, keep=keep)
            else:
                added_TD = getattr(self, step)(h_TD)
            added_TD = self.dropout(added_TD)
            if inside is not None and step == "self":
                x_TD, added_TD, layout = inside(x_TD, added_TD, layout)
            x_TD = x_TD + added_TD
            x_TD = x_TD if self.pre_norm else norm(x_TD)
        return x_TD


NORMS: dict[Step, str] = {
    "self": "self_norm",
    "cross": "cross_norm",
    "cross_mlp": "cross_mlp_norm",
    "mlp": "mlp_norm",
}


def with_first(read_at_BR: Tensor | None) -> Tensor | None:
    """Returns the positions (B, 1 + R) that a last layer computes: [CLS], then those of
    `read_at_BR`.

    [CLS] is what `Fused.pooled_BD` is made of. None: every position, with or without [CLS].
    """
    if read_at_BR is None:
        return None
    return torch.cat([read_at_BR.new_zeros(len(read_at_BR), 1), read_at_BR], dim=1)


def text_read(x_TD: Tensor, layout: Layout, at_BR: Tensor | None) -> tuple[Tensor, Tensor]:
    """Divides the output of a last layer into `text_BRD` and the first token (B, D).

    x_TD: (B * (1 + R), D) tokens at the positions of `with_first`; (T, D) all of them where None
    at_BR: (B, 1 + R) those positions
    """
    if at_BR is None:
        return layout.unpack(x_TD), layout.first(x_TD)
    x_BRD = x_TD.view(*at_BR.shape, -1)
    return x_BRD[:, 1:], x_BRD[:, 0]
