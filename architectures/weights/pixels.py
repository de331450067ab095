"""A published tower was trained on pixels of its own mean and deviation; ours reads them from -1 to
1. The difference is folded into the patch embedding when a tower is read, so that data, cache,
training and export know one normalisation.

Shape suffixes: C channels, D width, H and W height and width, P tokens.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from architectures.frozen import SettingError
from architectures.weights.weight_files import PROCESSORS, json_of

WEIGHT, BIAS = "image.vit.patch_embed.proj.weight", "image.vit.patch_embed.proj.bias"
TABLE = "image.vit.pos_embed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pixels:
    """Says how a model was trained to be fed a byte x of a channel: (x * scale - mean) / std."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    """By channel."""
    scale: float = 1 / 255
    by: str
    """Where that stands, in words."""

    def __str__(self) -> str:
        rows = ("mean", self.mean), ("deviation", self.std)
        return ", ".join(f"{name} {', '.join(f'{x:g}' for x in row)}" for name, row in rows)

    def as_ours(self) -> tuple[list[float], list[float]]:
        """Returns factor and summand, by channel, that make these of ours (x / 127.5 - 1)."""
        half = 127.5 * self.scale
        factors = [half / std for std in self.std]
        return factors, [(half - m) / s for m, s in zip(self.mean, self.std, strict=True)]

    def for_channels(self, count: int) -> Pixels:
        """Returns the same for another number of channels, where all channels are alike."""
        if len(set(zip(self.mean, self.std, strict=True))) > 1:
            return self
        return dataclasses.replace(self, mean=self.mean[:1] * count, std=self.std[:1] * count)

    @property
    def are_ours(self) -> bool:
        """Says whether nothing is to be folded."""
        factors, summands = self.as_ours()
        return all(math.isclose(x, 1, abs_tol=1e-9) for x in factors) and not any(
            abs(x) > 1e-9 for x in summands
        )


HALF = Pixels(mean=(0.5,) * 3, std=(0.5,) * 3, by="ViLT's own")
CLIP = Pixels(
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    by="those that CLIP was published with",
)
"""Of OpenAI's CLIP; BridgeTower, BLIP-2 and ALBEF are fed the same."""


def stated(folder: Path) -> Pixels | None:
    """Returns what a folder of transformers says that its model was fed; None: nothing.

    Raises `SettingError` where that is not to be understood.
    """
    for name in PROCESSORS:
        path = folder / name
        if not path.is_file():
            continue
        config = json_of(path)
        config = config.get("image_processor", {}) if name == PROCESSORS[1] else config
        if not isinstance(config, dict) or "image_mean" not in config:
            continue
        mean, std, scale = config["image_mean"], config.get("image_std"), 1 / 255
        if config.get("do_rescale") is False:
            scale = 1.0
        elif "rescale_factor" in config:
            scale = config["rescale_factor"]
        if config.get("do_normalize") is False:
            mean, std = [0.0] * 3, [1.0] * 3
        return of(mean, std, f"its {name}", scale)
    return None


def of(mean: Any, std: Any, by: str, scale: Any = 1 / 255) -> Pixels:
    """Statistics are held here as a file states them. Raises `SettingError` where they are none."""
    try:
        own = Pixels(
            mean=tuple(map(float, mean)), std=tuple(map(float, std)), scale=float(scale), by=by
        )
    except (TypeError, ValueError):
        raise SettingError(f"{by} has no numbers as mean and deviation of pixels") from None
    numbers = (*own.mean, *own.std, own.scale)
    if len(own.mean) != len(own.std) or not all(map(math.isfinite, numbers)) or min(own.std) <= 0:
        raise SettingError(f"{by} has no usable mean and deviation of pixels: {own}")
    return own


def folded(tensors: Mapping[str, Tensor], pixels: Pixels) -> dict[str, Tensor]:
    """Returns weights whose patch embedding reads our pixels as it read its own.

    With W (D, C, H, W) and theirs = factor * ours + summand by channel, W becomes W * factor and
    the bias grows by the sum of W * summand. An embedding without a bias (CLIP's) has it added to
    the rows of patches in the position table (1, P, D), which is the same sum.
    Raises `SettingError` where the statistics are of another number of channels.
    """
    if WEIGHT not in tensors or pixels.are_ours:
        return dict(tensors)
    weight_DCHW = tensors[WEIGHT].double()
    pixels = pixels.for_channels(weight_DCHW.shape[1])
    if len(pixels.mean) != weight_DCHW.shape[1]:
        raise SettingError(
            f"{pixels.by} has a mean and deviation of {len(pixels.mean)} channels, but the patch "
            f"embedding reads {weight_DCHW.shape[1]}"
        )
    factor_C, summand_C = (weight_DCHW.new_tensor(each) for each in pixels.as_ours())
    shift_D = torch.einsum("dchw,c->d", weight_DCHW, summand_C)
    changed = {WEIGHT: (weight_DCHW * factor_C[:, None, None]).float()}
    if BIAS in tensors:
        changed[BIAS] = (tensors[BIAS].double() + shift_D).float()
    else:
        table_1PD = tensors[TABLE].double().clone()
        prefix = table_1PD.shape[1] - math.isqrt(table_1PD.shape[1]) ** 2
        table_1PD[:, prefix:] += shift_D
        changed[TABLE] = table_1PD.float()
    return {**tensors, **changed}
