"""Checkpoints of salesforce/ALBEF (Li et al. 2021) by the roles of `split_bert`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from architectures.published import bert
from architectures.published.names import tensors

RULES = (
    (r"^text_encoder\.", ""),
    *bert.RULES,
    (r"^visual_encoder\.", "image.vit."),
    (r"^vision_proj\.", "heads.itc.image."),
    (r"^text_proj\.", "heads.itc.text."),
    (r"^itm_head\.", "heads.itm."),
)
NO_WEIGHTS = (
    r"^(visual_encoder_m|text_encoder_m|vision_proj_m|text_proj_m)\.|_queue$|^temp$|^queue_ptr$"
    r"|position_ids$"
)
"""Momentum twins, queues, temperature: training state, which no design holds."""


def albef_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The online weights of a checkpoint, by role."""
    return tensors(state, RULES, NO_WEIGHTS)
