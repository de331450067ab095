"""Published checkpoints of whole systems in, as tensors by role.

Weights of a tower alone (a ViT, a BERT folder) are the encoders' matter; here every weight of a
design must come from the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from architectures.contract import FusionDesign
from architectures.encoders import resize_positions, role_of
from architectures.frozen import SettingError

ALBEF = (
    (r"^visual_encoder\.", "image.vit."),
    (r"^vision_proj\.", "heads.itc.image."),
    (r"^text_proj\.", "heads.itc.text."),
    (r"^itm_head\.", "heads.itm."),
)
ALBEF_STATE = re.compile(r"^(visual_encoder_m|text_encoder_m|vision_proj_m|text_proj_m)\.|_queue$")
"""Keys of training state: momentum twins and queues, which no design holds."""
NO_WEIGHTS = ("temp", "queue_ptr", "text_encoder.bert.embeddings.position_ids")


def albef_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The online weights of a checkpoint of salesforce/ALBEF, by the roles of `split_bert`."""
    found = {}
    for key, value in state.items():
        if key in NO_WEIGHTS or ALBEF_STATE.search(key):
            continue
        role = role_of(key.removeprefix("text_encoder."))
        for pattern, ours in ALBEF:
            role = re.sub(pattern, ours, role)
        found[role] = value
    return found


@torch.no_grad()
def load_whole(design: FusionDesign, tensors: Mapping[str, Tensor]) -> None:
    """Fills every weight of a design; the image position table is resized where the grid differs.

    Raises `SettingError` that lists missing and unexpected roles.
    """
    own = design.state_dict()
    role = "image.vit.pos_embed"
    given = dict(tensors)
    if role in given and role in own:
        prefix = own[role].shape[1] - design.backbone.patches
        given[role] = resize_positions(given[role], design.backbone.patches, prefix)
    missing, unexpected = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or unexpected:
        raise SettingError(
            f"the checkpoint does not fit {design.name}; missing: {', '.join(missing) or 'none'}; "
            f"unexpected: {', '.join(unexpected) or 'none'}"
        )
    design.load_state_dict(given)
