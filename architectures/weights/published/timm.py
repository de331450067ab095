"""This is the format of timm's ViTs, DeiT's among them (their files have timm's names)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from architectures.frozen import SettingError
from architectures.weights.pixels import Pixels, of
from architectures.weights.published.format import Config, Format, Roles, image_sizes, square
from architectures.weights.published.names import tensors

RULES = (
    (r"^(head|head_dist)\.", r"heads.task.\1."),
    (r"^(?!heads\.task\.)", "image.vit."),
)


def timm_roles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict by role; a classifier is the head of a task."""
    return tensors(state, RULES)


STRANGERS = {
    r"relative_position|rel_pos": "relative positions, as BEiT's or Swin's",
    r"\.layers\.\d+\.(blocks|downsample)": "stages of blocks, as Swin's",
    r"\.(attns|ffns)\.\d|\.in_proj\.": "parallel blocks",
    r"\.stages\.\d": "stages of blocks",
    r"\.(q_bias|v_bias)$": "biases of queries and values alone, as BEiT's",
    r"\.attn_pool\.": "an attention pool instead of a class token, as SigLIP's",
    r"\.blocks_token_only\.": "blocks of a CaiT",
}
"""Pattern of a role that no plain ViT has -> what such a model has."""


def _sizes(config: Config, roles: Roles) -> dict[str, Any]:
    named = f" ({config['architecture']})" if "architecture" in config else ""
    for pattern, has in STRANGERS.items():
        if any(re.search(pattern, role) for role in roles):
            raise SettingError(
                f"it is no plain ViT{named}: it has {has}; take a vit_ or deit_ model of timm"
            )
    arguments = config.get("model_args") or {}
    square(arguments.get("img_size", _stated(config).get("input_size", ())[1:]), "it")
    try:
        sizes = image_sizes(roles)
    except SettingError as error:
        raise SettingError(f"{error}{named and f', or its model{named} is no plain ViT'}") from None
    if "architecture" in config:  # a folder of timm
        sizes["vision"] = config["architecture"]
        if "num_heads" in arguments:
            sizes["image_heads"] = arguments["num_heads"]
    return sizes


def _stated(config: Config) -> Mapping[str, Any]:
    """Reads what a folder says of images: hubs keep it under `pretrained_cfg`, some files bare."""
    return config.get("pretrained_cfg") or config


def _pixels(config: Config) -> Pixels | None:
    own = _stated(config)
    return of(own["mean"], own["std"], "its config.json") if {"mean", "std"} <= own.keys() else None


WHOLE = Format(kind="timm", roles=timm_roles, sizes=_sizes, pixels=_pixels, resize="antialiased")
