"""The format of BLIP-2's first stage (Li et al. 2023, as transformers names it) is read by the
roles of `query_bottleneck`.

BLIP-2 took BERT's token types out: their rows become zeros. Of its second stage, which generates
text, the image tower can be taken.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue
from torch import Tensor

from architectures.backbone import TEXT_KINDS
from architectures.frozen import SettingError
from architectures.weights.pixels import CLIP
from architectures.weights.published import bert
from architectures.weights.published.format import (
    Config,
    Format,
    Roles,
    constant,
    image_sizes,
    text_sizes,
)
from architectures.weights.published.names import tensors

RULES = (
    (r"^embeddings\.", "bert.embeddings."),
    (r"^qformer\.layernorm\.", "bert.embeddings.LayerNorm."),
    (r"^qformer\.encoder\.", "bert.encoder."),
    # theirs has `attention` where BERT has `self`, and `_query` at what words have no part in
    (r"\.crossattention\.", ".for_queries.crossattention."),
    (r"attention\.attention\.", "attention.self."),
    (r"\.(intermediate|output)_query\.", r".for_queries.\1."),
    *bert.RULES,
    (r"\.for_queries\.output\.dense\.", ".for_queries.mlp.outer."),
    (r"\.for_queries\.output\.LayerNorm\.", ".for_queries.mlp_norm."),
    (r"^query_tokens$", "queries.weight"),
    (r"^vision_model\.embeddings\.class_embedding$", "image.vit.cls_token"),
    (r"^vision_model\.embeddings\.position_embedding$", "image.vit.pos_embed"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "image.vit.patch_embed.proj."),
    (r"^vision_model\.encoder\.layers\.", "image.vit.blocks."),
    (r"^vision_model\.post_layernorm\.", "image.vit.norm."),
    (r"^(image\..*)\.layer_norm([12])\.", r"\1.norm\2."),
    (r"^(image\..*)\.self_attn\.qkv\.", r"\1.attn.qkv."),
    (r"^(image\..*)\.self_attn\.projection\.", r"\1.attn.proj."),
    (r"^vision_projection\.", "heads.itc.image."),
    (r"^text_projection\.", "heads.itc.text."),
    (r"^itm_head\.", "heads.itm."),
)

LEFT_OUT = {
    "language_model.*": "no design has a decoder that was trained apart",
    "language_projection.*": "no design has a decoder that was trained apart",
}
WORDS, TYPES = "embeddings.word.weight", "embeddings.token_type.weight"


def blip2_roles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict of Blip2ForImageTextRetrieval, or of a part of it, by role."""
    roles = tensors(state, RULES)
    if "queries.weight" in roles:
        roles["queries.weight"] = roles["queries.weight"].flatten(0, 1)
    if WORDS in roles:
        words = roles[WORDS]
        roles[TYPES] = words.new_zeros(TEXT_KINDS["bert"].types, words.shape[1])
    return roles


def blip2_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a state dict by role, without those that no design has."""
    return WHOLE.tensors(state)


def _sizes(config: Config, roles: Roles) -> dict[str, JsonValue]:
    """Tells the sizes of the parts that the weights hold."""
    sizes: dict[str, JsonValue] = {}
    if WORDS in roles:
        own = config.get("qformer_config", {})
        fixed = {"hidden_act": "gelu", "layer_norm_eps": TEXT_KINDS["bert"].eps}
        constant(own, fixed, "its Q-Former")
        sizes |= {"text": "bert", **text_sizes(roles)}
        sizes["text_heads"] = own.get("num_attention_heads", 12)
    if "image.vit.cls_token" in roles:
        own = config.get("vision_config", {})
        constant(own, {"hidden_act": "gelu", "qkv_bias": True}, "its image tower")
        sizes |= image_sizes(roles) | {
            "image_heads": own.get("num_attention_heads", 16),
            "image_norm_eps": own.get("layer_norm_eps", 1e-6),
        }
    if "heads.itc.image.weight" in roles:
        sizes["itc_width"] = len(roles["heads.itc.image.weight"])
    return sizes


def _design(config: Config, roles: Roles) -> tuple[str, dict[str, JsonValue]]:
    if WORDS not in roles or "queries.weight" not in roles:
        raise SettingError(
            "it is not the whole of BLIP-2's first stage (Blip2ForImageTextRetrieval), whose "
            "queries and words share layers; what it has of an image tower or of words can be "
            "taken as vision_weights or text_weights"
        )
    own = config.get("qformer_config", {})
    return "query_bottleneck", {
        "queries": len(roles["queries.weight"]),
        "fusion_layers": text_sizes(roles)["text_layers"],
        "cross_every": own.get("cross_attention_frequency", 2),
    }


WHOLE = Format(
    kind="blip-2",
    roles=blip2_roles,
    left_out=LEFT_OUT,
    sizes=_sizes,
    pixels=lambda config: CLIP,
    design=_design,
)
