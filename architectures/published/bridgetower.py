"""Checkpoints of BridgeTower (Xu et al. 2023, as transformers names them) by the roles of `bridge`.

The text tower's pooler, which nothing reads, is left out; the one table of types becomes a row of
text and a row of the image; class token and position table become timm's (1, 1, D) and (1, P, D).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from architectures.published import bert
from architectures.published.names import tensors

RULES = (
    (r"^text_model\.", "bert."),
    *bert.RULES,
    (r"^cross_modal_(text|image)_layers\.(\d+)\.output\.dense\.", r"\1_fusion.\2.mlp.outer."),
    (r"^cross_modal_(text|image)_layers\.(\d+)\.output\.LayerNorm\.", r"\1_fusion.\2.mlp_norm."),
    (r"^cross_modal_(text|image)_layers\.", r"\1_fusion."),
    (r"^cross_modal_(text|image)_transform\.", r"\1_projection."),
    (r"^cross_modal_(text|image)_layernorm\.", r"\1_bridges.0.norm."),
    (r"^cross_modal_(text|image)_link_tower\.(?=\d)", r"\1_bridges."),
    (r"^cross_modal_(text|image)_link_tower\.", r"\1_bridges.shared."),
    (r"^(\w+_bridges\.\w+)\.LayerNorm\.", r"\1.norm."),
    (r"^cross_modal_text_pooler\.dense\.", "pooler."),
    (r"^cross_modal_image_pooler\.dense\.", "image_pooler."),
    (r"^vision_model\.visual\.embeddings\.class_embedding$", "image.vit.cls_token"),
    (r"^vision_model\.visual\.embeddings\.position_embedding\.weight$", "image.vit.pos_embed"),
    (r"^vision_model\.visual\.embeddings\.patch_embedding\.", "image.vit.patch_embed.proj."),
    (r"^vision_model\.visual\.ln_pre\.", "image.vit.norm_pre."),
    (r"^vision_model\.visual\.ln_post\.", "image.vit.norm."),
    (r"^vision_model\.visual\.transformer\.resblocks\.", "image.vit.blocks."),
    (r"^(image\..*)\.ln_([12])\.", r"\1.norm\2."),
    (r"^(image\..*)\.attn\.in_proj_", r"\1.attn.qkv."),
    (r"^(image\..*)\.attn\.out_proj\.", r"\1.attn.proj."),
    (r"^(image\..*)\.mlp\.c_fc\.", r"\1.mlp.fc1."),
    (r"^(image\..*)\.mlp\.c_proj\.", r"\1.mlp.fc2."),
)
NO_WEIGHTS = r"^text_model\.pooler\.|position_ids$|token_type_ids$"
LINK = re.compile(r"(?<=_link_tower\.)\d+")


def bridgetower_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of BridgeTowerModel, by role."""
    # Theirs are counted from the second fusion layer, ours by fusion layer.
    counted = {LINK.sub(lambda n: str(int(n[0]) + 1), name): x for name, x in state.items()}
    found = tensors(counted, RULES, NO_WEIGHTS)
    for table in ("image.vit.cls_token", "image.vit.pos_embed"):
        found[table] = found[table].view(1, -1, found[table].shape[-1])
    types = found.pop("token_type_embeddings.weight")
    return {**found, "types.text.weight": types[:1], "types.image.weight": types[1:2]}
