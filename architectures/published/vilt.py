"""ViLT's checkpoints (Kim et al. 2021, as transformers names them) by the roles of
`single_stream`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from architectures.published.names import joined_qkv, tensors

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
)
TYPES = "embeddings.token_type_embeddings.weight"
"""Rows of both modalities in one table: text, image, and a second image in some checkpoints."""


def vilt_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of ViltModel or ViltForMaskedLM, by role, without a second image's row."""
    found = tensors(joined_qkv(state), RULES, r"\.position_ids$")
    found["types.text.weight"], found["types.image.weight"] = found.pop(TYPES)[:2].split(1)
    return found
