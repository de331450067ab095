"""From the names of a published checkpoint to our roles: rules in order, each a pattern."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from architectures.frozen import SettingError

Rules = Sequence[tuple[str, str]]
"""Pattern and replacement of `re.sub`, applied one after another."""


def renamed(name: str, rules: Rules) -> str:
    """A name after every rule."""
    for pattern, role in rules:
        name = re.sub(pattern, role, name)
    return name


def tensors(state: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """A state dict by roles. Raises `SettingError` where two names are one weight here and differ
    (of tied weights some files hold both).
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        role = renamed(name, rules)
        if role in found and not torch.equal(found[role], value):
            raise SettingError(f"{name} differs from another weight that is also {role} here")
        found[role] = value
    return found


def joined_qkv(state: Mapping[str, Tensor], query: str = "query") -> dict[str, Tensor]:
    """Query, key and value of the same place (`x.query.weight`, `x.key.weight`, ...) as one matrix
    `x.qkv.weight`, the order of timm's ViT.
    """
    found = dict(state)
    for name in state:
        if f".{query}." in name:
            parts = [name.replace(f".{query}.", f".{part}.") for part in (query, "key", "value")]
            found[name.replace(f".{query}.", ".qkv.")] = torch.cat([found.pop(p) for p in parts])
    return found
