"""Blocks of a ViT run on flat tokens here, so that words and image tokens can share them.

The block is timm's own, part by part, with its names, sizes, norms and activation: only attention
runs here, by rows that a `Layout` gives, with a mask, a bias, and for the positions that are read.

Shape suffixes: B rows, R positions read, T flat tokens, D width, H heads, C heads of every layer, Q
queries, K keys, L text positions, P image tokens, N positions of both.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.backbone import Backbone
from architectures.frozen import SettingError
from architectures.layers.attention import attend
from architectures.layers.dropout import Dropout
from architectures.layers.read import CrossingInside
from architectures.layout import Layout


class LayerScale(nn.Module):
    """A learnt factor of every channel (Touvron et al. 2021), all of one value at the start."""

    def __init__(self, width: int, value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), value))

    def forward(self, x_TD: Tensor) -> Tensor:
        return x_TD * self.gamma


class ViTBlock(nn.Module):
    """A pre-norm block of a ViT, with dropout as in every layer of text and fusion stacks."""

    node: ClassVar[str] = "layer"

    def __init__(
        self, block: Any, *, dropout: float = 0.0, drop_path: float = 0.0, layer_scale: float = 0.0
    ) -> None:
        """Takes over the parts of a block of timm.

        block: timm's `Block`
        drop_path: chance that a row leaves out a sub-layer in training (Huang et al. 2016)
        layer_scale: start of a learnt factor on sub-layers; 0: that of the named model, if any
        Raises `SettingError` for another kind of block.
        """
        super().__init__()
        kind = type(block).__name__
        if kind != "Block" or getattr(block.attn, "gate", None) is not None:
            raise SettingError(
                f"image blocks of kind {kind} cannot take words too; set the backbone's vision to "
                "a plain ViT, for example vit_base_patch16_224"
            )
        self.norm1, self.attn, self.ls1 = block.norm1, block.attn, block.ls1
        self.norm2, self.mlp, self.ls2 = block.norm2, block.mlp, block.ls2
        if layer_scale:
            width = self.attn.proj.out_features
            self.ls1, self.ls2 = LayerScale(width, layer_scale), LayerScale(width, layer_scale)
        self.dropout = Dropout(dropout)
        self.drop_path = drop_path

    def forward(
        self,
        x_TD: Tensor,
        layout: Layout,
        *,
        read_at_BR: Tensor | None = None,
        bias_1HQK: Tensor | None = None,
        keep: list[Tensor] | None = None,
        own_mlp: bool = True,
        inside: CrossingInside | None = None,
    ) -> Tensor:
        """Runs attention and MLP: (T, D) -> (T, D), or (B * R, D) with `read_at_BR`.

        x_TD: (T, D) flat tokens, which stand where `layout` says
        read_at_BR: (B, R) positions that the block computes; all are still read. None: every one
        bias_1HQK: (1, H, N, N) added to the scores of all positions
        keep: a list that receives the attention probabilities (B, H, Q, K)
        own_mlp: False stops after attention; the caller adds another MLP's output by `add`
        inside: cross-attention that joins self-attention before its residual
        """
        added_TD = self._attention(self.norm1(x_TD), layout, read_at_BR, bias_1HQK, keep)
        if read_at_BR is not None:
            x_TD, layout = layout.at(x_TD, read_at_BR)
        if inside is not None:
            x_TD, added_TD, layout = inside(x_TD, added_TD, layout)
        x_TD = x_TD + self._branch(self.ls1(added_TD), layout)
        return self.add(x_TD, self.mlp(self.norm2(x_TD)), layout) if own_mlp else x_TD

    def add(self, x_TD: Tensor, added_TD: Tensor, layout: Layout) -> Tensor:
        """Adds an MLP's output to the tokens as the block adds that of its own MLP."""
        return x_TD + self._branch(self.ls2(added_TD), layout)

    def _attention(
        self,
        h_TD: Tensor,
        layout: Layout,
        read_at_BR: Tensor | None,
        bias_1HQK: Tensor | None,
        keep: list[Tensor] | None,
    ) -> Tensor:
        attn, key_bias = self.attn, layout.bias(layout)
        if read_at_BR is None:
            asking = layout
            parts = attn.qkv(h_TD).chunk(3, dim=-1)
        else:
            asking_TD, asking = layout.at(h_TD, read_at_BR)
            parts = self._read_positions(h_TD, asking_TD)
            bias_1HQK = None if bias_1HQK is None else _rows_of(bias_1HQK, read_at_BR)
        rows = (asking, layout, layout)
        q, k, v = (of.heads(x, attn.num_heads) for of, x in zip(rows, parts, strict=True))
        bias = key_bias if bias_1HQK is None else bias_1HQK
        if key_bias is not None and bias_1HQK is not None:
            bias = bias_1HQK + key_bias
        dropout = self.dropout.p if self.training else 0.0
        mixed = attend(attn.q_norm(q), attn.k_norm(k), v, bias, dropout, keep)
        return attn.proj(attn.norm(asking.flat(mixed)))

    def _read_positions(self, h_TD: Tensor, asking_TD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries of some tokens, keys and values of all, by parts of the one matrix."""
        qkv = self.attn.qkv
        width = qkv.out_features // 3
        bias = (None, None) if qkv.bias is None else qkv.bias.split([width, 2 * width])
        query, both = qkv.weight.split([width, 2 * width])
        k, v = F.linear(h_TD, both, bias[1]).chunk(2, dim=-1)
        return F.linear(asking_TD, query, bias[0]), k, v

    def _branch(self, added_TD: Tensor, layout: Layout) -> Tensor:
        """Applies dropout and, in training, drop path to what a sub-layer adds."""
        added_TD = self.dropout(added_TD)
        if not self.training or not self.drop_path:
            return added_TD
        rows, length = layout.is_real_BL.shape
        kept_B11 = added_TD.new_empty(rows, 1, 1).bernoulli_(1 - self.drop_path)
        return added_TD * layout.pack(kept_B11.expand(rows, length, 1)) / (1 - self.drop_path)


def _rows_of(bias_1HQK: Tensor, read_at_BR: Tensor) -> Tensor:
    """Returns the bias (B, H, R, K) of the positions that are read."""
    return bias_1HQK[0][:, read_at_BR].transpose(0, 1)


class RelativePositions(nn.Module):
    """A learnt bias on attention scores, by who asks whom and how far apart (BEiT's, with text).

    It is one table, whose columns are the heads of every layer. Its rows, lowest first: the
    distances of patches, row by row of the grid; class token to patch, patch to class token, class
    token to itself; word to image token, image token to word; the distances of words; and [CLS] to
    word, word to [CLS], [CLS] to itself. As in microsoft/unilm, distances of patches are those of
    who asks less who is asked, distances of words the other way round. It has no weight decay, as
    in VLMo.
    """

    undecayed: ClassVar[tuple[str, ...]] = ("bias_table",)

    def __init__(self, backbone: Backbone, layers: int) -> None:
        super().__init__()
        self.layers = layers
        side, positions = backbone.image_size // backbone.patch_size, backbone.max_positions
        self.cross = (2 * side - 1) ** 2 + 3
        rows = self.cross + 2 + 2 * positions
        self.bias_table = nn.Parameter(torch.zeros(rows, layers * backbone.image_heads))
        place_P = torch.arange(side**2)
        down_P, right_P = place_P // side, place_P % side
        down_PP = down_P[:, None] - down_P + side - 1
        far_PP = down_PP * (2 * side - 1) + right_P[:, None] - right_P + side - 1
        place_L = torch.arange(positions - 1)
        far_LL = place_L - place_L[:, None] + positions - 2 + self.cross + 2
        self.register_buffer("image_PP", _with_first(far_PP, self.cross - 3), persistent=False)
        self.register_buffer("text_LL", _with_first(far_LL, rows - 3), persistent=False)

    def forward(self, length: int, image_tokens: int) -> list[Tensor]:
        """Returns the bias (1, H, N, N) of every layer, for `length` words followed by
        `image_tokens` image tokens; either may be 0.
        """
        text_LL = self.get_buffer("text_LL")[:length, :length]
        image_PP = self.get_buffer("image_PP")[:image_tokens, :image_tokens]
        asks_image_LP = text_LL.new_full((length, image_tokens), self.cross)
        asks_text_PL = text_LL.new_full((image_tokens, length), self.cross + 1)
        index_NN = torch.cat(
            [torch.cat([text_LL, asks_image_LP], 1), torch.cat([asks_text_PL, image_PP], 1)]
        )
        bias_CNN = nn.functional.embedding(index_NN, self.bias_table).permute(2, 0, 1)
        return list(bias_CNN[None].contiguous().chunk(self.layers, dim=1))


def _with_first(far_NN: Tensor, row: int) -> Tensor:
    """Adds the table rows of a first token: first to other, other to first, first to itself."""
    index = nn.functional.pad(far_NN, (1, 0, 1, 0))
    index[0, 1:], index[1:, 0], index[0, 0] = row, row + 1, row + 2
    return index
