"""The format of BridgeTower's checkpoints (Xu et al. 2023, as transformers names them) is read by
the roles of `bridge`.

The text tower's pooler, which nothing reads, is left out, and so are the ITC heads, which read
projected tokens and the fused ones; the one table of types becomes a row of text and a row of the
image; class token and position table become timm's (1, 1, D) and (1, P, D).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from architectures.frozen import SettingError
from architectures.weights.pixels import CLIP
from architectures.weights.published import bert, roberta
from architectures.weights.published.format import (
    Config,
    Format,
    Roles,
    constant,
    count,
    image_sizes,
)
from architectures.weights.published.names import tensors

RULES = (
    (r"^bridgetower\.", ""),
    (r"^text_model\.pooler\.", "text_pooler."),
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
    (r"^mlm_score\.transform\.dense\.", "heads.mlm.dense."),
    (r"^mlm_score\.transform\.LayerNorm\.", "heads.mlm.norm."),
    (r"^mlm_score\.decoder\.", "heads.mlm.decoder."),
    (r"^mlm_score\.bias$", "heads.mlm.decoder.bias"),
    (r"^itm_score\.fc\.", "heads.itm."),
    (r"^itc_(\w+)_head\.fc\.", r"heads.itc_of_bridgetower.\1."),
    (r"^logit_scale$", "temperature"),
)
LEFT_OUT = {
    "text_pooler.*": "nothing reads it",
    "heads.itc_of_bridgetower.*": "it reads other states than a design's ITC head, the towers' own",
}
TYPES = "token_type_embeddings.weight"
EPS = 1e-5
VISION = "vit_base_patch16_clip_quickgelu_224"
"""CLIP's image tower; 64 columns make a head."""
LINK = re.compile(r"(?<=_link_tower\.)\d+")


def bridgetower_roles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict of BridgeTowerModel by role, with or without `bridgetower.` before its
    names and heads beside.
    """
    # Theirs are counted from the second fusion layer, ours by fusion layer.
    counted = {LINK.sub(lambda n: str(int(n[0]) + 1), name): x for name, x in state.items()}
    roles = tensors(counted, RULES)
    for table in ("image.vit.cls_token", "image.vit.pos_embed"):
        if table in roles:
            roles[table] = roles[table].view(1, -1, roles[table].shape[-1])
    if TYPES in roles:
        types = roles.pop(TYPES)
        roles |= {"types.text.weight": types[:1], "types.image.weight": types[1:2]}
    return roles


def bridgetower_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a state dict by role, without those that no design has."""
    return WHOLE.tensors(state)


def _sizes(config: Config, roles: Roles) -> dict[str, Any]:
    silent = {"layer_norm_eps": EPS, "type_vocab_size": 1}
    sizes = roberta.WHOLE.sizes({**silent, **config.get("text_config", {})}, roles)
    image = image_sizes(roles)
    constant(config.get("vision_config", {}), {"layer_norm_eps": EPS}, "its image tower")
    image |= {"image_heads": max(image["image_width"] // 64, 1), "image_norm_eps": EPS}
    return {**sizes, **image, "vision": VISION}


def _reads(layers: int, text: int, roles: Roles) -> dict[str, Any]:
    """Returns which image blocks the fusion layers read where the towers are not equally deep.

    BridgeTower runs block i beside text layer i, so that the first fusion layer reads block
    text - layers and the last one block text - 1, however many there are.
    Raises `SettingError` where there are too few of either.
    """
    blocks = count(roles, r"image\.vit\.blocks\.(\d+)\.")
    if layers > text:
        raise SettingError(f"it has {layers} fusion layers, but {text} text layers to feed them")
    if blocks == text:
        return {}
    if layers == 1:  # both towers are run to their end, or to the text tower's
        return {"image_reads": (min(blocks, text) - 1,)}
    if blocks < text:
        raise SettingError(
            f"its fusion layers read image blocks up to {text - 1}, counted from 0, but it has "
            f"{blocks}"
        )
    return {"image_reads": tuple(range(text - layers, text))}


def _design(config: Config, roles: Roles) -> tuple[str, dict[str, Any]]:
    heads = config.get("text_config", {}).get("num_attention_heads", 12)
    fixed = {"layer_norm_eps": EPS, "hidden_act": "gelu", "num_attention_heads": heads}
    constant(config, fixed, "its fusion layers")
    link = config.get("link_tower_type", "add")
    layers = count(roles, r"text_fusion\.(\d+)\.")
    fields = {
        "fusion_layers": layers,
        **_reads(layers, count(roles, r"layers\.(\d+)\."), roles),
        "kind": link,
        "share_norms": config.get("share_link_tower_layers", False),
        "share_projections": config.get("share_cross_modal_transformer_layers", True),
    }
    return "bridge", fields


WHOLE = Format(
    kind="bridgetower",
    roles=bridgetower_roles,
    left_out=LEFT_OUT,
    sizes=_sizes,
    pixels=lambda config: CLIP,
    design=_design,
)
