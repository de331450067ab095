"""The format of timm's ViTs, DeiT's among them (their files have timm's names)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from architectures.weights.published.format import Config, Format, Roles, image_sizes
from architectures.weights.published.names import tensors

RULES = (
    (r"^(head|head_dist)\.", r"heads.task.\1."),
    (r"^(?!heads\.task\.)", "image.vit."),
)


def timm_roles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict by role; a classifier is the head of a task."""
    return tensors(state, RULES)


def _sizes(config: Config, roles: Roles) -> dict[str, Any]:
    sizes = image_sizes(roles)
    if "architecture" in config:  # a folder of timm
        sizes["vision"] = config["architecture"]
        if "num_heads" in config.get("model_args", {}):
            sizes["image_heads"] = config["model_args"]["num_heads"]
    return sizes


WHOLE = Format(kind="timm", roles=timm_roles, sizes=_sizes)
