"""How one kind of published model is kept: names of weights, sizes, which design it is."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from architectures.frozen import SettingError

Config = Mapping[str, Any]
"""A folder's config.json; empty for a file."""
Roles = Mapping[str, Tensor]
"""Weights by role."""

LEFT_OUT: Mapping[str, str] = {
    "*position_ids": "an index, no weight",
    "*token_type_ids": "an index, no weight",
    "temperature": "the temperature is a state of the objective, not of a design",
    "heads.task.*": "the head of a task that the model was fine-tuned for",
    "heads.next_sentence.*": "no design predicts whether one sentence follows another",
}
"""Roles of every kind that no design has -> why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """What must be known to read one kind."""

    kind: str
    """Its name, and what a message calls it."""
    roles: Callable[[Roles], dict[str, Tensor]]
    """State dict -> weights by role, none forgotten: a name without a rule stays as it is."""
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Patterns of roles that no design takes -> why; those of `LEFT_OUT` besides."""
    sizes: Callable[[Config, Roles], dict[str, Any]]
    """Fields of `Backbone` that the model tells, and `vocabulary`; `text_layers` where it has a
    text encoder. Raises `SettingError` where its layers are not ours."""
    design: Callable[[Config, Roles], tuple[str, dict[str, Any]]] | None = None
    """Name and fields of the design that it is as a whole; None: it is a tower alone. Raises
    `SettingError` where no design computes it."""

    def split(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Weights by role, and the roles left out with the reason."""
        found, why = self.roles(state), {**LEFT_OUT, **self.left_out}
        left = {
            role: reason
            for role in found
            for pattern, reason in why.items()
            if fnmatch.fnmatchcase(role, pattern)
        }
        return {role: value for role, value in found.items() if role not in left}, left

    def tensors(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights by role, without those left out."""
        return self.split(state)[0]


def image_sizes(roles: Roles) -> dict[str, Any]:
    """What the weights of a ViT tell of an image tower; how many heads it has no weight tells."""
    patches = needed(roles, "image.vit.patch_embed.proj.weight")
    table = needed(roles, "image.vit.pos_embed")
    width, channels, patch = patches.shape[:3]
    return {
        # The class token, and in some towers one more, stand before the square grid.
        "image_size": math.isqrt(table.shape[1]) * patch,
        "image_channels": channels,
        "patch_size": patch,
        "image_width": width,
        "image_layers": count(roles, r"image\.vit\.blocks\.(\d+)\."),
        "image_mlp": len(needed(roles, "image.vit.blocks.0.mlp.fc1.weight")),
    }


def text_sizes(roles: Roles) -> dict[str, Any]:
    """What the weights of a text encoder tell; how many heads it has no weight tells."""
    return {
        **embedding_sizes(roles),
        "text_layers": count(roles, r"layers\.(\d+)\."),
        "text_mlp": len(needed(roles, "layers.0.mlp.inner.weight")),
    }


def embedding_sizes(roles: Roles) -> dict[str, Any]:
    """What the weights of word embeddings tell."""
    vocabulary, width = needed(roles, "embeddings.word.weight").shape
    return {
        "text_width": width,
        "max_positions": len(needed(roles, "embeddings.position.weight")),
        "vocabulary": vocabulary,
    }


def needed(roles: Roles, role: str) -> Tensor:
    """A weight. Raises `SettingError` where there is none of the role."""
    if role not in roles:
        raise SettingError(f"there is no weight {role}, so its sizes are not known; it seems torn")
    return roles[role]


def count(roles: Roles, pattern: str) -> int:
    """One more than the largest number that a pattern finds at the start of a role."""
    found = [int(match[1]) for role in roles if (match := re.match(pattern, role))]
    return max(found, default=-1) + 1


def constant(config: Config, fixed: Mapping[str, object], said: str) -> None:
    """Raises `SettingError` that begins with `said` where a configuration says another value."""
    for name, value in fixed.items():
        if config.get(name, value) != value:
            raise SettingError(
                f"{said}: {name} is {config[name]!r}, but our layers are built with {value!r}"
            )
