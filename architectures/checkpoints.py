"""Published checkpoints in: every weight comes from the file, or what is missing is said.

Names of a published format become roles in `published/`; weights of a tower alone (a ViT, a BERT
folder) are read by the encoders.

Shape suffixes: P image tokens, D width, H and W height and width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from architectures.contract import FusionDesign
from architectures.frozen import SettingError


@torch.no_grad()
def load_whole(design: FusionDesign, tensors: Mapping[str, Tensor]) -> None:
    """Fills every weight of a design; the image position table is resized where the grid differs.

    Raises `SettingError` that lists missing and unexpected roles.
    """
    own = design.state_dict()
    needed = {role for role, _ in design.named_parameters()}  # of tied weights one name is enough
    role = "image.vit.pos_embed"
    given = dict(tensors)
    if role in given and role in own:
        prefix = own[role].shape[1] - design.backbone.patches
        given[role] = resize_positions(given[role], design.backbone.patches, prefix)
    missing, unexpected = sorted(needed - given.keys()), sorted(given.keys() - own.keys())
    if missing or unexpected:
        raise SettingError(
            f"the checkpoint does not fit {design.name}; missing: {', '.join(missing) or 'none'}; "
            f"unexpected: {', '.join(unexpected) or 'none'}"
        )
    design.load_state_dict(given, strict=False)


def resize_positions(table_1PD: Tensor, patches: int, prefix: int) -> Tensor:
    """A ViT's position table for another square grid: the first `prefix` rows are kept, the grid
    is resized bicubic without antialiasing (salesforce/ALBEF's rule).
    """
    kept_1PD, grid_1PD = table_1PD[:, :prefix], table_1PD[:, prefix:]
    if grid_1PD.shape[1] == patches:
        return table_1PD
    old, new = round(grid_1PD.shape[1] ** 0.5), round(patches**0.5)
    grid_1DHW = grid_1PD.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid_1DHW = F.interpolate(grid_1DHW, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([kept_1PD, grid_1DHW.flatten(2).transpose(1, 2)], dim=1)


def check_keys(source: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Raises `SettingError` that lists missing and unexpected keys, and those of another size."""
    sizes = [
        f"{key} {tuple(state[key].shape)}, here {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ]
    said = [
        f"{what}: {', '.join(keys[:8])}" + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
        for what, keys in (
            ("missing", sorted(own.keys() - state.keys())),
            ("unexpected", sorted(state.keys() - own.keys())),
            ("of another size", sizes),
        )
        if keys
    ]
    if said:
        raise SettingError(f"{source} does not fit the image tower; {'; '.join(said)}")
