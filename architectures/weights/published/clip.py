"""The format of CLIP's checkpoints (Radford et al. 2021, as transformers names them) is read by the
roles of `dual_encoder`.

CLIP projects without a bias, our ITC head with one: its bias is zero here. The class token, kept as
a row, and the position table become timm's (1, 1, D) and (1, P, D).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import JsonValue
from torch import Tensor

from architectures.backbone import TEXT_KINDS
from architectures.weights.pixels import CLIP
from architectures.weights.published.format import Config, Format, Roles, image_sizes, text_sizes
from architectures.weights.published.names import joined_qkv, tensors
from architectures.weights.published.text_format import TextFormat

RULES = (
    (r"self_attn\.q_proj\.", "self_attention.query."),
    (r"self_attn\.k_proj\.", "self_attention.key."),
    (r"self_attn\.v_proj\.", "self_attention.value."),
    (r"self_attn\.out_proj\.", "self_attention.output."),
    (r"^text_model\.embeddings\.token_embedding\.", "embeddings.word."),
    (r"^text_model\.embeddings\.position_embedding\.", "embeddings.position."),
    (r"^text_model\.final_layer_norm\.", "text_norm."),
    (r"^text_model\.encoder\.(layers\.\d+)\.layer_norm1\.", r"\1.self_norm."),
    (r"^text_model\.encoder\.(layers\.\d+)\.layer_norm2\.", r"\1.mlp_norm."),
    (r"^text_model\.encoder\.(layers\.\d+)\.mlp\.fc1\.", r"\1.mlp.inner."),
    (r"^text_model\.encoder\.(layers\.\d+)\.mlp\.fc2\.", r"\1.mlp.outer."),
    (r"^text_model\.encoder\.", ""),
    (r"^vision_model\.embeddings\.class_embedding$", "image.vit.cls_token"),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "image.vit.pos_embed"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "image.vit.patch_embed.proj."),
    (r"^vision_model\.pre_layrnorm\.", "image.vit.norm_pre."),
    (r"^vision_model\.post_layernorm\.", "image.vit.norm."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.", r"image.vit.blocks.\1."),
    (r"^(image\..*)\.layer_norm([12])\.", r"\1.norm\2."),
    (r"^(image\..*)\.self_attention\.output\.", r"\1.attn.proj."),
    (r"^(image\..*)\.self_attention\.", r"\1.attn."),
    (r"^visual_projection\.", "heads.itc.image."),
    (r"^text_projection\.", "heads.itc.text."),
    (r"^logit_scale$", "temperature"),
    (r"^classifier\.", "heads.task."),
)
TEXT = r"^(?=embeddings\.(token|position_ids)|final_layer_norm)"
IMAGE = r"^(?=embeddings\.(class|patch)|pre_layrnorm|post_layernorm)"


def clip_roles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict of CLIPModel, or of one tower, by role, with or without `text_model.` or
    `vision_model.` before its names.
    """
    for tower, own in (("text_model.", TEXT), ("vision_model.", IMAGE)):
        if any(re.search(own, name) for name in state):
            bare = r"^(embeddings|encoder|final_layer_norm|pre_layrnorm|post_layernorm)\."
            state = {re.sub(bare, rf"{tower}\1.", name): x for name, x in state.items()}
    roles = tensors(state, RULES)
    image = {role: roles.pop(role) for role in list(roles) if role.startswith("image.")}
    roles |= joined_qkv(image)
    for table in ("image.vit.cls_token", "image.vit.pos_embed"):
        if table in roles:
            roles[table] = roles[table].view(1, -1, roles[table].shape[-1])
    for head in ("heads.itc.image", "heads.itc.text"):
        if f"{head}.weight" in roles:
            weight = roles[f"{head}.weight"]
            roles[f"{head}.bias"] = weight.new_zeros(len(weight))
    return roles


def clip_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a state dict by role, without those that no design has."""
    return WHOLE.tensors(state)


def _text(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict of CLIPTextModel by role."""
    return clip_roles({f"text_model.{name}": value for name, value in state.items()})


FORMAT = TextFormat(
    model_type="clip_text_model",
    reader="CLIPTextModel",
    constants={
        "hidden_act": TEXT_KINDS["clip"].act,
        "layer_norm_eps": TEXT_KINDS["clip"].eps,
    },
    roles=_text,
)


def _sizes(config: Config, roles: Roles) -> dict[str, JsonValue]:
    """Tells the sizes of both towers, or of the one that the weights are of."""
    sizes: dict[str, JsonValue] = {}
    if "embeddings.word.weight" in roles:
        stated = FORMAT.sizes_of(config.get("text_config") or config)
        sizes |= {"text": "clip", **text_sizes(roles), **stated}
    if "image.vit.cls_token" in roles:
        own = config.get("vision_config") or config
        quick = own.get("hidden_act", "quick_gelu") == "quick_gelu"
        sizes |= image_sizes(roles) | {
            "vision": f"vit_base_patch16_clip_{'quickgelu_' if quick else ''}224",
            "image_heads": own.get("num_attention_heads", 12),
            "image_norm_eps": own.get("layer_norm_eps", 1e-5),
        }
    if "heads.itc.image.weight" in roles:
        sizes["itc_width"] = len(roles["heads.itc.image.weight"])
    return sizes


def _design(config: Config, roles: Roles) -> tuple[str, dict[str, JsonValue]]:
    return "dual_encoder", {}


WHOLE = Format(
    kind="clip", roles=clip_roles, sizes=_sizes, pixels=lambda config: CLIP, design=_design
)
