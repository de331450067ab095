"""Checkpoints of BLIP-2's first stage (Li et al. 2023, as transformers names them) by the roles of
`query_bottleneck`.

BLIP-2 took BERT's token types out: their rows become zeros.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from architectures.backbone import TEXT_KINDS
from architectures.published import bert
from architectures.published.names import tensors

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


def blip2_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of Blip2ForImageTextRetrieval, by role."""
    found = tensors(state, RULES)
    found["queries.weight"] = found["queries.weight"].flatten(0, 1)
    width = found["embeddings.word.weight"].shape[1]
    types = torch.zeros(TEXT_KINDS["bert"].types, width)
    return {**found, "embeddings.token_type.weight": types}
