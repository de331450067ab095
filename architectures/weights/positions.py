"""A position table is brought to another grid the way that its model's own code does it.

Shape suffixes: P image tokens, D width, H and W height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from architectures.frozen import SettingError
from architectures.weights.published.format import Resize


def resize_positions(
    table_1PD: Tensor, patches: int, prefix: int, resize: Resize = "bicubic"
) -> Tensor:
    """Makes a ViT's position table (1, prefix + old, D) one of another square grid (1, prefix +
    patches, D): the first `prefix` rows are kept, the grid is resized as `Resize` says; by default
    bicubic without antialiasing, salesforce/ALBEF's rule.

    Raises `SettingError` where the table's own grid is no square.
    """
    kept_1PD, grid_1PD = table_1PD[:, :prefix], table_1PD[:, prefix:]
    if grid_1PD.shape[1] == patches:
        return table_1PD
    old, new = round(grid_1PD.shape[1] ** 0.5), round(patches**0.5)
    if old**2 != grid_1PD.shape[1]:
        raise SettingError(
            f"a position table of {table_1PD.shape[1]} rows is no square grid after {prefix} of "
            "its own; take a vision model with as many tokens before the grid as the weights have"
        )
    grid_1DHW = grid_1PD.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid_1DHW = F.interpolate(
        grid_1DHW,
        size=(new, new),
        mode="bilinear" if resize == "bilinear" else "bicubic",
        align_corners=resize == "bilinear",
        antialias=resize == "antialiased",
    )
    return torch.cat([kept_1PD, grid_1DHW.flatten(2).transpose(1, 2)], dim=1)
