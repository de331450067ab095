"""Builds AdamW with its parameter groups, and gives the learning rate of every step."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

import torch
from torch import nn

from architectures.contract import FusionDesign, undecayed
from architectures.weights.widths import times_of
from harness.training.settings.loop import Optimizer


def learning_rate(settings: Optimizer, step: int, steps: int) -> float:
    """Returns the learning rate of a step, counted from 1 to `steps`: a linear warm-up to the peak,
    then a cosine down to `final_share` of it.

    The schedule depends on the budget's steps alone, so it is the same for every design.

    >>> learning_rate(Optimizer(learning_rate=1.0, warmup_share=0.2, final_share=0.1), 1, 10)
    0.5
    """
    warmup = max(1, round(settings.warmup_share * steps))
    if step <= warmup:
        return settings.learning_rate * step / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * (settings.final_share + (1 - settings.final_share) * cosine)


def build(
    settings: Optimizer,
    design: FusionDesign,
    state: nn.Module,
    *,
    fused: bool,
    without: Collection[str] = (),
) -> torch.optim.AdamW:
    """Makes AdamW over a design and the objectives' state, `without` the parameters of these roles.
    The temperature is not decayed here; in ALBEF it is.
    """
    own = [(role, p) for role, p in design.named_parameters() if role not in without]
    named = [*own, *state.named_parameters(prefix="state")]
    exempt, times = undecayed(design), times_of(design)
    return over(settings, named, design.rates(), exempt, times, fused=fused)


def over(
    settings: Optimizer,
    named: Iterable[tuple[str, nn.Parameter]],
    rates: Mapping[str, float],
    exempt: Collection[str] = (),
    times: Mapping[str, float] = MappingProxyType({}),
    *,
    fused: bool,
) -> torch.optim.AdamW:
    """Makes AdamW over the trainable ones among `named` (role, parameter).

    Every group holds its `rate`, by which the loop multiplies the schedule's learning rate: the
    value in `rates` of the first prefix that the role begins with, else 1. What `times` has for a
    role (`weights.widths.times_of`) divides its rate and multiplies its decay. Matrices, embeddings
    and position tables are decayed; biases, norms and scalars (one dimension or none) are not, nor
    are the parameters named in `exempt` (`contract.undecayed`).
    """
    Groups = dict[tuple[float, float, bool], list[nn.Parameter]]
    groups: Groups = {(1.0, 1.0, True): [], (1.0, 1.0, False): []}
    for role, parameter in named:
        if parameter.requires_grad:
            rate = next((r for prefix, r in rates.items() if role.startswith(prefix)), 1.0)
            decays = parameter.ndim > 1 and role not in exempt
            wider = times.get(role, 1.0)
            groups.setdefault((rate, wider, decays), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": settings.weight_decay * wider if decays else 0.0,
                "rate": rate / wider,
            }
            for (rate, wider, decays), parameters in groups.items()
            if parameters
        ],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        fused=fused,
    )
