"""Features of all workers that train one model together, with gradients that are right.

Every worker's loss is a mean over its own rows, and the workers' gradients are averaged. A feature
is a key in the losses of all workers, so its gradient is the sum of theirs (the custom gathers of
several published systems return only the own part: mlfoundations/open_clip issue 616).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def workers() -> int:
    """How many train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(x: Tensor, *, own_first: bool = True) -> Tensor:
    """(B, ...) of each of W workers -> (W B, ...), the own rows first, then those of the workers
    after this one, in a ring: so the own pair of row i is column i everywhere. All workers must
    have as many rows. Not `own_first`: in the order of the workers, alike on all.
    """
    if workers() == 1:
        return x
    found = _Gather.apply(x)
    return found if own_first else found.roll(dist.get_rank() * len(x), dims=0)


class _Gather(torch.autograd.Function):
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
