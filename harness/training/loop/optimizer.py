"""AdamW's parameter groups, and the learning rate of every step."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

import torch
from torch import nn

from architectures.contract import FusionDesign, undecayed
from harness.training.settings.loop import Optimizer


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


def build(
    settings: Optimizer, design: FusionDesign, state: nn.Module, *, fused: bool
) -> torch.optim.AdamW:
    """AdamW over a design and the objectives' state. ALBEF decays its temperature; we do not."""
    named = [*design.named_parameters(), *state.named_parameters(prefix="state")]
    return over(settings, named, design.rates(), undecayed(design), fused=fused)


def over(
    settings: Optimizer,
    named: Iterable[tuple[str, nn.Parameter]],
    rates: Mapping[str, float],
    exempt: Collection[str] = (),
    *,
    fused: bool,
) -> torch.optim.AdamW:
    """AdamW over those of the named parameters that are trainable; every group holds its `rate`, a
    multiple of the schedule's learning rate: that of the first prefix in `rates`, else 1.

    Decay is for matrices, embeddings and position tables; biases, norms and scalars (one dimension
    or none) have none, nor do the parameters named in `exempt` (`contract.undecayed`).
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for role, parameter in named:
        if parameter.requires_grad:
            rate = next((r for prefix, r in rates.items() if role.startswith(prefix)), 1.0)
            decays = parameter.ndim > 1 and role not in exempt
            groups.setdefault((rate, decays), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": settings.weight_decay if decays else 0.0,
                "rate": rate,
            }
            for (rate, decays), parameters in groups.items()
            if parameters
        ],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        fused=fused,
    )
