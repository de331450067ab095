"""Published checkpoints of whole systems in: every weight of a design comes from the file.

Names of a published format become roles in `published/`; weights of a tower alone (a ViT, a BERT
folder) are the encoders' matter.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from architectures.contract import FusionDesign
from architectures.encoders import resize_positions
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
