"""Softmax attention of heads: the fastest way there is for a device, and what it lets be seen.

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
    """(B, L, D) -> (B, H, L, D / H), a view."""
    return x_BLD.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    p: float,
    keep: list[Tensor] | None,
) -> Tensor:
    """Attention of queries (B, H, Q, d) to keys and values (B, H, K, d) -> (B, H, Q, d).

    `bias` is added to the scores; `p`: dropout of the probabilities; `keep` receives these (B, H,
    Q, K), before dropout.
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
    """Attention in training on a CPU, where torch's own is slow with dropout, and its backward in
    bfloat16: products of all heads, which keep no more than what the gradient needs.
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
    """Keeps, of one softmax over words and the image tokens after them, what words give to image
    tokens, (B, H, L, P): a part of the graph, like any probabilities that are kept.
    """

    def __init__(self, length: int) -> None:
        """`length`: text positions L, which come first."""
        super().__init__()
        self.length = length

    def take(self, probabilities: Tensor) -> Tensor:
        """The same probabilities (B, H, Q, K), made of the kept part and the rest."""
        to_words, to_image = probabilities.tensor_split([self.length], dim=-1)
        of_words, of_image = to_image.tensor_split([self.length], dim=-2)
        self.append(of_words)
        return torch.cat([to_words, torch.cat([of_words, of_image], dim=-2)], dim=-1)
