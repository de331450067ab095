"""A `Format` tells how one kind of published model is kept: its weights' names, its sizes, and
which design it is.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch import Tensor

from architectures.frozen import SettingError
from architectures.weights.pixels import Pixels

Config = Mapping[str, Any]
"""A folder's config.json; empty for a file."""
Roles = Mapping[str, Tensor]
"""Weights by role."""
Resize = Literal["bicubic", "antialiased", "bilinear"]
"""How a model's own code resizes its position table: bicubic (ALBEF, and transformers for CLIP,
BLIP-2 and BridgeTower), bicubic with antialiasing (timm), or bilinear with aligned corners (ViLT).
"""

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
    """A format says how one kind of published model is read."""

    kind: str
    """Its name, and what a message calls it."""
    roles: Callable[[Roles], dict[str, Tensor]]
    """State dict -> weights by role, none forgotten: a name without a rule stays as it is."""
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Patterns of roles that no design takes -> why; those of `LEFT_OUT` besides."""
    sizes: Callable[[Config, Roles], dict[str, Any]]
    """Fields of `Backbone` that the model tells, and `vocabulary`; `text_layers` where it has a
    text encoder. Raises `SettingError` where its layers are not ours."""
    pixels: Callable[[Config], Pixels | None] = lambda config: None
    """What its image tower was fed where no file of the processor says it; None: not known."""
    resize: Resize = "bicubic"
    """How its position table is brought to another grid."""
    design: Callable[[Config, Roles], tuple[str, dict[str, Any]]] | None = None
    """Name and fields of the design that it is as a whole; None: it is a tower alone. Raises
    `SettingError` where no design computes it."""

    def split(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Returns the weights by role, and the reason of every role that is left out."""
        roles, why = self.roles(state), {**LEFT_OUT, **self.left_out}
        left = {
            role: reason
            for role in roles
            for pattern, reason in why.items()
            if fnmatch.fnmatchcase(role, pattern)
        }
        return {role: value for role, value in roles.items() if role not in left}, left

    def tensors(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the weights by role, without those that are left out."""
        return self.split(state)[0]


def image_sizes(roles: Roles) -> dict[str, Any]:
    """Reads the sizes of an image tower off the weights of a ViT. No weight tells the number of
    heads.

    Raises `SettingError` where a weight that is needed is absent.
    """
    patches = needed(roles, "image.vit.patch_embed.proj.weight")
    table = needed(roles, "image.vit.pos_embed")
    width, channels, patch, across = patches.shape
    if patch != across:
        raise SettingError(f"its patches are {patch} x {across} pixels; ours are squares")
    return {
        # The class token, and in some towers one more, stand before the square grid.
        "image_size": math.isqrt(table.shape[1]) * patch,
        "image_channels": channels,
        "patch_size": patch,
        "image_width": width,
        "image_layers": count(roles, r"image\.vit\.blocks\.(\d+)\."),
        "image_mlp": len(needed(roles, "image.vit.blocks.0.mlp.fc1.weight")),
    }


def square(size: object, what: str) -> None:
    """Raises `SettingError` where a configuration tells of pictures that are no squares: the table
    of their positions would be read as that of a square.
    """
    if isinstance(size, list | tuple) and len(set(size)) > 1:
        raise SettingError(
            f"{what} reads pictures of {' x '.join(map(str, size))} pixels; ours are squares"
        )


def text_sizes(roles: Roles) -> dict[str, Any]:
    """Reads the sizes of a text encoder off its weights. No weight tells the number of heads.

    Raises `SettingError` where a weight that is needed is absent.
    """
    return {
        **embedding_sizes(roles),
        "text_layers": count(roles, r"layers\.(\d+)\."),
        "text_mlp": len(needed(roles, "layers.0.mlp.inner.weight")),
    }


def embedding_sizes(roles: Roles) -> dict[str, Any]:
    """Reads the sizes of word embeddings off their weights."""
    vocabulary, width = needed(roles, "embeddings.word.weight").shape
    return {
        "text_width": width,
        "max_positions": len(needed(roles, "embeddings.position.weight")),
        "vocabulary": vocabulary,
    }


def needed(roles: Roles, role: str) -> Tensor:
    """Returns the weight of a role. Raises `SettingError` where there is none."""
    if role not in roles:
        raise SettingError(f"there is no weight {role}, so its sizes are not known; it seems torn")
    return roles[role]


def count(roles: Roles, pattern: str) -> int:
    """Counts a stack: the largest number that a pattern finds at the start of a role, and one."""
    numbers = [int(match[1]) for role in roles if (match := re.match(pattern, role))]
    return max(numbers, default=-1) + 1


def constant(config: Config, fixed: Mapping[str, object], subject: str) -> None:
    """Raises `SettingError` that begins with `subject` where a configuration says another value."""
    for name, value in fixed.items():
        if config.get(name, value) != value:
            raise SettingError(
                f"{subject}: {name} is {config[name]!r}, but our layers are built with {value!r}"
            )
