"""Collects what all workers hold that train one model together, with the right gradients.

Every worker's loss is a mean over its own rows, and the gradients of the workers are averaged. A
feature is a candidate in the losses of all workers, so its gradient is the sum of what all of them
send back. The custom gathers of several published systems return only the own worker's part
(mlfoundations/open_clip issue 616).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_alone = False


def workers() -> int:
    """Returns how many workers train together; 1 without a process group, and within `alone`."""
    several = not _alone and dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if several else 1


def rank() -> int:
    """Returns the number of this worker, from 0: the first one measures, writes and scores."""
    return dist.get_rank() if workers() > 1 else 0


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Lets one worker compute what the others do not: inside there is no other, so nothing waits
    for one.
    """
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def agreed(answer: bool) -> bool:
    """Returns the first worker's answer on every worker; each waits here for it."""
    if workers() == 1:
        return answer
    flag = torch.tensor(answer)
    dist.broadcast(flag, src=0, group=_hosts())
    return bool(flag)


@functools.cache
def _hosts() -> dist.ProcessGroup | None:
    """Returns the group in which processors talk, where the workers' own is for GPUs alone."""
    if dist.get_backend() == "gloo":
        return None
    group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup)  # every worker is in it
    return group


def summed(x: Tensor) -> Tensor:
    """Adds up the tensors of all workers, without gradient."""
    x = x.detach().clone()
    if workers() > 1:
        dist.all_reduce(x)
    return x


def gathered(x: Tensor, *, own_first: bool = True) -> Tensor:
    """Joins the (B, ...) tensors of W workers into one of (W B, ...).

    With `own_first` the own rows come first and those of the next workers follow in a ring, so that
    the own pair of row i is column i on every worker. Without it the rows stand in the order of the
    workers, alike on all. Every worker must hold equally many rows.
    """
    if workers() == 1:
        return x
    ring = _Gather.apply(x)
    return ring if own_first else ring.roll(rank() * len(x), dims=0)


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
        whole = in_order.to(torch.promote_types(in_order.dtype, torch.float32))
        dist.all_reduce(whole)
        return whole.chunk(count)[own].to(gradient.dtype)
