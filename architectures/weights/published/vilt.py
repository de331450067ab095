"""The format of ViLT's checkpoints (Kim et al. 2021, as transformers names them) is read by the
roles of `single_stream`.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue
from torch import Tensor

from architectures.backbone import TEXT_KINDS
from architectures.weights.pixels import HALF
from architectures.weights.published.format import (
    Config,
    Format,
    Roles,
    constant,
    embedding_sizes,
    image_sizes,
    square,
)
from architectures.weights.published.names import joined_qkv, tensors

RULES = (
    (r"^vilt\.", ""),
    (r"^embeddings\.text_embeddings\.(word|position)_embeddings\.", r"embeddings.\1."),
    (r"^embeddings\.text_embeddings\.token_type_embeddings\.", "embeddings.token_type."),
    (r"^embeddings\.text_embeddings\.LayerNorm\.", "embeddings.norm."),
    (r"^embeddings\.cls_token$", "image.vit.cls_token"),
    (r"^embeddings\.position_embeddings$", "image.vit.pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "image.vit.patch_embed.proj."),
    (r"^encoder\.layer\.(\d+)\.", r"image.vit.blocks.\1."),
    (r"\.attention\.attention\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"^layernorm\.", "image.vit.norm."),
    (r"^pooler\.dense\.", "pooler."),
    (r"^mlm_score\.transform\.dense\.", "heads.mlm.dense."),
    (r"^mlm_score\.transform\.LayerNorm\.", "heads.mlm.norm."),
    (r"^mlm_score\.decoder\.", "heads.mlm.decoder."),
    (r"^mlm_score\.bias$", "heads.mlm.decoder.bias"),
    (r"^(rank_output|classifier)\.", r"heads.task.\1."),
)
TYPES = "embeddings.token_type_embeddings.weight"
"""Rows of both modalities in one table: text, image, and a second image in some checkpoints."""


def vilt_roles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict of ViltModel by role, with or without `vilt.` before its names and heads
    beside; a second image's row is `types.second_image.weight`.
    """
    roles = tensors(joined_qkv(state), RULES)
    if TYPES in roles:
        rows = roles.pop(TYPES).split(1)
        parts = ("text", "image", "second_image")
        roles |= {f"types.{p}.weight": row for p, row in zip(parts, rows, strict=False)}
    return roles


def vilt_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a state dict by role, without those that no design has."""
    return WHOLE.tensors(state)


def _sizes(config: Config, roles: Roles) -> dict[str, JsonValue]:
    """Tells the sizes. ViLT has no layer of text alone, so no text encoder can be taken from it."""
    eps = TEXT_KINDS["bert"].eps
    constant(config, {"hidden_act": "gelu", "layer_norm_eps": eps, "qkv_bias": True}, "a vilt")
    heads = config.get("num_attention_heads", 12)
    fixed = {"text": "bert", "image_heads": heads, "image_norm_eps": eps}
    square(config.get("image_size"), "it")
    return {**image_sizes(roles), **embedding_sizes(roles), **fixed}


def _design(config: Config, roles: Roles) -> tuple[str, dict[str, JsonValue]]:
    return "single_stream", {}


WHOLE = Format(
    kind="vilt",
    roles=vilt_roles,
    left_out={"types.second_image.*": "a design reads one image"},
    sizes=_sizes,
    pixels=lambda config: HALF,
    resize="bilinear",
    design=_design,
)
