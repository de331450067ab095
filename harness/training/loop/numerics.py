"""Sets what the bits of a result depend on in a whole process; every run sets it anew."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Iterator

import torch

from architectures.frozen import SettingError
from harness.training.settings.loop import Numerics


def prepare(numerics: Numerics) -> None:
    """Sets threads, determinism and seed of this process, whatever ran in it before.

    Raises `SettingError` where the device of the settings is not there.
    """
    check_device(numerics)
    if numerics.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32, in the patches too
        torch.cuda.reset_peak_memory_stats()
    torch.set_num_threads(numerics.threads)
    # On a GPU torch's attention has a deterministic backward, and takes it only where a warning is
    # not enough; an operator that has none then ends the run, and is named in its message.
    torch.use_deterministic_algorithms(True, warn_only=numerics.device == "cpu")
    # Deterministic mode also fills every new tensor with NaN, to show reads of what was never
    # written; that is two thousand small writes a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(0)
    _allocator("mallopt", _MMAP_THRESHOLD, _MIB_1024)
    _allocator("mallopt", _TRIM_THRESHOLD, _MIB_1024)


def check_device(numerics: Numerics) -> None:
    """Raises `SettingError` where the device of the settings is not there."""
    if numerics.device == "cuda" and not torch.cuda.is_available():
        raise SettingError("numerics.device is cuda, but torch finds no GPU here")


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """Has the garbage collector pass over what is there already, while a loop goes on. Imported
    modules are 300,000 objects, in which it looks for something to free ten times a minute and
    finds nothing: 2 % of the steps of a small design on a CPU. Where that is so already, this does
    nothing."""
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def release() -> None:
    """Gives free memory back to the system; since `prepare`, glibc does not do so by itself."""
    _allocator("malloc_trim", 0)


_MMAP_THRESHOLD, _TRIM_THRESHOLD, _MIB_1024 = -3, -1, 2**30
"""Numbers of malloc.h. By default glibc gives the memory of a step's activations back after every
step and takes it again, page by page, in the next: 30,000 page faults, about 4 % of a step.
"""


def _allocator(function: str, *values: int) -> None:
    """Calls a function of glibc's malloc; other systems have none."""
    if sys.platform == "linux":
        call = getattr(ctypes.CDLL(None), function, None)
        if call is not None:
            call(*values)
