"""Checkpoints of CLIP (Radford et al. 2021, as transformers names them) by the roles of
`dual_encoder`.

CLIP projects without a bias, our ITC head with one: its bias is zero here. The class token, kept as
a row, and the position table become timm's (1, 1, D) and (1, P, D).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from architectures.backbone import TEXT_KINDS
from architectures.published.names import joined_qkv, tensors
from architectures.published.text_format import TextFormat

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
)
NO_WEIGHTS = r"^logit_scale$|position_ids$"
"""The temperature is a state of the objective, not of a design."""


def clip_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of CLIPModel, or one tower's under `text_model.` or `vision_model.`, by role."""
    found = tensors(state, RULES, NO_WEIGHTS)
    image = {role: found.pop(role) for role in list(found) if role.startswith("image.")}
    found |= joined_qkv(image)
    for table in ("image.vit.cls_token", "image.vit.pos_embed"):
        if table in found:
            found[table] = found[table].view(1, -1, found[table].shape[-1])
    for head in ("heads.itc.image", "heads.itc.text"):
        if f"{head}.weight" in found:
            weight = found[f"{head}.weight"]
            found[f"{head}.bias"] = weight.new_zeros(len(weight))
    return found


def _text(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of CLIPTextModel, by role."""
    return clip_tensors({f"text_model.{name}": value for name, value in state.items()})


FORMAT = TextFormat(
    model_type="clip_text_model",
    reader="CLIPTextModel",
    constants={
        "hidden_act": TEXT_KINDS["clip"].act,
        "layer_norm_eps": TEXT_KINDS["clip"].eps,
    },
    roles=_text,
)
