"""Several workers train one model: each has a copy, and DDP averages their gradients.

How they find each other (`torch.distributed`) is the affair of who starts them; what they send
besides gradients is in `objectives.gather` and `objectives.together`.
"""

from __future__ import annotations

import warnings

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from harness.training.objectives.gather import workers


def in_step(module: nn.Module) -> nn.Module:
    """Returns a module whose backward pass leaves the mean gradient of all workers in every one of
    them; the module itself where one trains alone. All workers must call this together.

    What no loss reads (the temperature under a hinge) has no gradient in any. Buffers (the queue)
    are kept alike by what they are fed.
    """
    if workers() == 1:
        return module
    with warnings.catch_warnings():  # torch 2.14 has another word for it, which 2.9 does not know
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=True)


def other_is_gone(error: BaseException) -> bool:
    """Says whether an error means that another worker ended or cannot be reached."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(
        word in str(error).lower() for word in ("gloo", "nccl", "connection closed by peer")
    )
