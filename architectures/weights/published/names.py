"""Rules turn the names of a published checkpoint into our roles, one after another."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from architectures.frozen import SettingError

Rules = Sequence[tuple[str, str]]
"""Pattern and replacement of `re.sub`, applied one after another."""


def renamed(name: str, rules: Rules) -> str:
    """Returns a name after every rule."""
    for pattern, role in rules:
        name = re.sub(pattern, role, name)
    return name


def tensors(state: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """Names a state dict by role. Raises `SettingError` where two names are one weight here and
    differ (of tied weights some files hold both).
    """
    roles: dict[str, Tensor] = {}
    for name, value in state.items():
        role = renamed(name, rules)
        if role in roles and not torch.equal(roles[role], value):
            raise SettingError(f"{name} differs from another weight that is also {role} here")
        roles[role] = value
    return roles


def joined_qkv(state: Mapping[str, Tensor], query: str = "query") -> dict[str, Tensor]:
    """Joins query, key and value of one place (`x.query.weight`, `x.key.weight`, ...) as one matrix
    `x.qkv.weight`, the order of timm's ViT.
    """
    joined = dict(state)
    for name in state:
        if f".{query}." in name:
            parts = [name.replace(f".{query}.", f".{part}.") for part in (query, "key", "value")]
            joined[name.replace(f".{query}.", ".qkv.")] = torch.cat([joined.pop(p) for p in parts])
    return joined
