"""Text and fusion layers written with loops, from references.md, without blocks of the product; and
models of transformers with every weight drawn at random.

One row at a time: (L, D) tokens, `real` of which are words. Weights are a dict by the names of the
module they belong to.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


def part(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """The weights under a prefix, without it."""
    own = f"{prefix}."
    return {name[len(own) :]: value for name, value in weights.items() if name.startswith(own)}


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    x = centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attend(
    weights: Weights, name: str, asking: Tensor, read: Tensor, read_is_real: Any, heads: int
) -> Tensor:
    """One row: (L, D) reads (K, E). Loops over heads and positions; padding is left out."""
    q, k, v = (
        linear(weights, f"{name}.{which}", x)
        for which, x in (("query", asking), ("key", read), ("value", read))
    )
    size = q.shape[-1] // heads
    mixed = torch.zeros_like(q)
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        for i in range(len(q)):
            kept = [j for j in range(len(k)) if read_is_real[j]]
            scores = [float(q[i, own] @ k[j, own]) / math.sqrt(size) for j in kept]
            raised = [math.exp(score - max(scores)) for score in scores]
            for share, j in zip(raised, kept, strict=True):
                mixed[i, own] += share / sum(raised) * v[j, own]
    return linear(weights, f"{name}.output", mixed)


def layer(weights: Weights, x: Tensor, real: Any, image: Tensor | None, heads: int) -> Tensor:
    """references.md 1.1: self-attention, cross-attention to all image tokens, MLP; post-norm.

    `image` None: a layer without cross-attention.
    """
    x = norm(weights, "self_norm", x + attend(weights, "self_attention", x, x, real, heads))
    if image is not None:
        everything = [True] * len(image)
        crossed = attend(weights, "cross_attention", x, image, everything, heads)
        x = norm(weights, "cross_norm", x + crossed)
    inner = linear(weights, "mlp.inner", x)
    inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    return norm(weights, "mlp_norm", x + linear(weights, "mlp.outer", inner))


def embed(weights: Weights, ids: Sequence[int]) -> Tensor:
    """Word, position and, where there is a table, type 0; normed."""
    rows = [weights["word.weight"][i] + weights["position.weight"][p] for p, i in enumerate(ids)]
    x = torch.stack(rows)
    x = x + weights["token_type.weight"][0] if "token_type.weight" in weights else x
    return norm(weights, "norm", x)


@torch.no_grad()
def randomised(model: Any, std: float = 0.2) -> Any:
    """A model all of whose weights are random, biases and norms too: a swapped one shows."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return model.eval()


def saved(model: Any, folder: Path) -> str:
    """Saves a randomised model of transformers; the folder's name."""
    randomised(model).save_pretrained(folder)
    return str(folder)
