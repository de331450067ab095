"""Softmax attention of heads, computed the fastest way that a device has, or with its weights kept.

Shape suffixes: B rows, H heads, Q queries, K keys, L text positions, P image tokens, D width, d
width of a head, N all heads of all rows (B * H).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from architectures.layers.dropout import dropout


def heads_of(x_BLD: Tensor, heads: int) -> Tensor:
    """Divides the width among heads: (B, L, D) -> (B, H, L, D / H), a view."""
    return x_BLD.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    p: float,
    keep: list[Tensor] | None,
) -> Tensor:
    """Returns softmax(q k^T / sqrt(d) + bias) v, (B, H, Q, d).

    q: (B, H, Q, d) queries
    k: (B, H, K, d) keys
    v: (B, H, K, d) values
    bias: anything that broadcasts to (B, H, Q, K), added to the scores; None: nothing
    p: chance of dropout of the probabilities
    keep: a list that receives the probabilities (B, H, Q, K), before dropout; None: not wanted
    """
    bias = None if bias is None else bias.to(q.dtype)
    learns = bias is not None and bias.requires_grad
    products = torch.is_grad_enabled() or p > 0  # else torch is the faster
    if keep is None and q.device.type == "cpu" and products and not learns:
        mixed: Tensor = _Products.apply(q, k, v, bias, p)
        return mixed
    if keep is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=p)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    probabilities = (scores if bias is None else scores + bias).softmax(-1)
    if isinstance(keep, WordsToImage):
        probabilities = keep.take(probabilities)
    else:
        keep.append(probabilities)
    return dropout(probabilities, p) @ v


class _Products(torch.autograd.Function):
    """Products of all heads replace torch's attention in training on a CPU, where that is slow with
    dropout and in the backward of bfloat16. They keep no more than the gradient needs.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, p: float) -> Tensor:
        shape, ctx.scale = q.shape, q.shape[-1] ** -0.5
        q, k, v = (x.flatten(0, 1) for x in (q, k, v))
        with torch.autocast("cpu", enabled=False):
            scores = torch.bmm(q, k.mT).mul_(ctx.scale)
            if bias is not None:
                scores.view(*shape[:2], *scores.shape[1:]).add_(bias)
            even = scores.softmax(-1)
            uneven = dropout(even, p)
            ctx.save_for_backward(q, k, v, even, uneven)
            return torch.bmm(uneven, v).view(shape)

    @staticmethod
    @once_differentiable  # what is kept has no gradient of its own
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, even, uneven = ctx.saved_tensors
        heads = grads[0].shape[:2]
        grad = grads[0].flatten(0, 1)
        # Dropout's factors are in `uneven`: gradient * factor * even = gradient * uneven.
        of_scores = torch.bmm(grad, v.mT).mul_(uneven)
        of_scores.addcmul_(even, of_scores.sum(-1, keepdim=True), value=-1).mul_(ctx.scale)
        of_q, of_k = torch.bmm(of_scores, k), torch.bmm(of_scores.mT, q)
        of_v = torch.bmm(uneven.mT, grad)
        return *(x.unflatten(0, heads) for x in (of_q, of_k, of_v)), None, None


class WordsToImage(list[Tensor]):
    """A list that keeps the part (B, H, L, P) of a joint softmax that words give to image tokens.

    The sequence is words, then image tokens. What is kept is part of the autograd graph, so
    gradients with respect to it can be taken.
    """

    def __init__(self, length: int, spread_NP: Tensor | None = None) -> None:
        """`length`: text positions L, which come first; `spread_NP`: where the sequence holds N
        tokens that were made of the P of an image, the share of each that falls to each of these.
        """
        super().__init__()
        self.length, self.spread_NP = length, spread_NP

    def take(self, probabilities: Tensor) -> Tensor:
        """Keeps the part and returns probabilities (B, H, Q, K) put together of it and the rest."""
        to_words, to_image = probabilities.tensor_split([self.length], dim=-1)
        of_words, of_image = to_image.tensor_split([self.length], dim=-2)
        if self.spread_NP is None:
            self.append(of_words)
        else:
            spread_NP = self.spread_NP.to(of_words.dtype)
            self.append(of_words @ spread_NP)
            of_words = self[-1] @ (spread_NP > 0).to(of_words.dtype).T
        return torch.cat([to_words, torch.cat([of_words, of_image], dim=-2)], dim=-1)
