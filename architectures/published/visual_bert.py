"""VisualBERT's checkpoints (Li et al. 2019, as transformers names them) by the roles of
`merged_attention` over patches.

They hold no image tower: VisualBERT reads the regions of a detector, so the weights of the patch
embedding come from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from architectures.published import bert
from architectures.published.names import tensors

RULES = (
    (r"^visual_bert\.", ""),
    (r"^embeddings\.visual_projection\.", "image_projection."),
    (r"^pooler\.dense\.", "pooler."),
    (r"^(embeddings|encoder)\.", r"bert.\1."),
    *bert.RULES,
)
PLACE = "bert.embeddings.visual_position_embeddings.weight"
TYPE = "bert.embeddings.visual_token_type_embeddings.weight"
"""Of image tokens."""


def visual_bert_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of VisualBertModel, with or without an MLM head, by role.

    Every region has position 0 and type 1: two rows whose sum is the type row of the image.
    """
    found = tensors(state, RULES, r"\.position_ids$|^cls\.seq_relationship\.")
    place, kind = found.pop(PLACE)[:1], found.pop(TYPE)[1:2]
    return {**found, "types.image.weight": place + kind}
