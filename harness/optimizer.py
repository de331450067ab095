"""AdamW's parameter groups, and the learning rate of every step."""

from __future__ import annotations

import math

import torch
from torch import nn

from harness.settings import Optimizer


def learning_rate(settings: Optimizer, step: int, steps: int) -> float:
    """Of step 1..steps: linear warm-up to the peak, then a cosine down to `final_share` of it.

    Tied to the budget's steps, so every design walks the same schedule.
    """
    warmup = max(1, round(settings.warmup_share * steps))
    if step <= warmup:
        return settings.learning_rate * step / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * (settings.final_share + (1 - settings.final_share) * cosine)


def build(settings: Optimizer, *modules: nn.Module, fused: bool) -> torch.optim.AdamW:
    """AdamW over the trainable parameters of the modules, shared ones once.

    Decay is for matrices, embeddings and position tables; biases, norms and the temperature (one
    dimension or none) have none. ALBEF also decays its temperature; we do not.
    """
    seen: dict[int, nn.Parameter] = {
        id(p): p for module in modules for p in module.parameters() if p.requires_grad
    }
    matrices = [p for p in seen.values() if p.ndim > 1]
    vectors = [p for p in seen.values() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, fused=fused
    )
