"""Collects the features of all workers that train one model together, with the right gradients.

Every worker's loss is a mean over its own rows, and the gradients of the workers are averaged. A
feature is a candidate in the losses of all workers, so its gradient is the sum of what all of them
send back. The custom gathers of several published systems return only the own worker's part
(mlfoundations/open_clip issue 616).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def workers() -> int:
    """Returns how many workers train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(x: Tensor, *, own_first: bool = True) -> Tensor:
    """Joins the (B, ...) tensors of W workers into one of (W B, ...).

    With `own_first` the own rows come first and those of the next workers follow in a ring, so that
    the own pair of row i is column i on every worker. Without it the rows stand in the order of the
    workers, alike on all. Every worker must hold equally many rows.
    """
    if workers() == 1:
        return x
    ring = _Gather.apply(x)
    return ring if own_first else ring.roll(dist.get_rank() * len(x), dims=0)


class _Gather(torch.autograd.Function):
    """The all-gather whose backward pass adds up the gradients of all workers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(workers())]
        dist.all_gather(parts, x.contiguous())
        own = dist.get_rank()
        return torch.cat([*parts[own:], *parts[:own]])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        own, count = dist.get_rank(), workers()
        parts = list(gradient.chunk(count))
        in_order = torch.cat([*parts[count - own :], *parts[: count - own]])
        dist.all_reduce(in_order)
        return in_order.chunk(count)[own]
