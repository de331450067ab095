"""Process-wide settings that the bits of a result depend on; set anew by every run."""

from __future__ import annotations

import os

import torch

from architectures.frozen import SettingError
from harness.settings import Numerics


def prepare(numerics: Numerics) -> None:
    """Threads, determinism and seed of this process, whatever ran in it before.

    Raises `SettingError` where the asked-for device is not there.
    """
    if numerics.device == "cuda":
        if not torch.cuda.is_available():
            raise SettingError("numerics.device is cuda, but torch finds no GPU here")
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.cuda.reset_peak_memory_stats()
    torch.set_num_threads(numerics.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Deterministic mode also fills every new tensor with NaN, to show reads of what was never
    # written; that is two thousand small writes a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(0)
