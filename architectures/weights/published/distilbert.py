"""This is the format of DistilBERT's checkpoints (Sanh et al. 2019, as transformers names them)."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue
from torch import Tensor

from architectures.weights.published.format import Config, Format, Roles, text_sizes
from architectures.weights.published.names import tensors
from architectures.weights.published.text_format import TextFormat

RULES = (
    (r"^(?:distilbert\.)?embeddings\.(word|position)_embeddings\.", r"embeddings.\1."),
    (r"^(?:distilbert\.)?embeddings\.LayerNorm\.", "embeddings.norm."),
    (r"^(?:distilbert\.)?transformer\.layer\.(\d+)\.", r"layers.\1."),
    (r"\.attention\.q_lin\.", ".self_attention.query."),
    (r"\.attention\.k_lin\.", ".self_attention.key."),
    (r"\.attention\.v_lin\.", ".self_attention.value."),
    (r"\.attention\.out_lin\.", ".self_attention.output."),
    (r"\.sa_layer_norm\.", ".self_norm."),
    (r"\.ffn\.lin1\.", ".mlp.inner."),
    (r"\.ffn\.lin2\.", ".mlp.outer."),
    (r"\.output_layer_norm\.", ".mlp_norm."),
    (r"^vocab_transform\.", "heads.mlm.dense."),
    (r"^vocab_layer_norm\.", "heads.mlm.norm."),
    (r"^vocab_projector\.", "heads.mlm.decoder."),
    (r"^(pre_classifier|classifier|qa_outputs)\.", r"heads.task.\1."),
)
"""DistilBERT's names -> our roles."""


def distilbert_roles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict of DistilBertModel by role, with or without `distilbert.` before its names
    and heads beside.
    """
    return tensors(state, RULES)


def distilbert_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a state dict by role, without those that no design has."""
    return WHOLE.tensors(state)


FORMAT = TextFormat(
    model_type="distilbert",
    reader="DistilBertForMaskedLM",
    constants={"activation": "gelu"},
    roles=distilbert_roles,
    sizes={
        "text_width": "dim",
        "text_layers": "n_layers",
        "text_heads": "n_heads",
        "text_mlp": "hidden_dim",
        "max_positions": "max_position_embeddings",
        "vocabulary": "vocab_size",
    },
)


def _sizes(config: Config, roles: Roles) -> dict[str, JsonValue]:
    return {"text": "distilbert", **text_sizes(roles), **FORMAT.sizes_of(config)}


WHOLE = Format(kind="distilbert", roles=distilbert_roles, sizes=_sizes)
