"""This is the format of BERT's checkpoints (Devlin et al. 2019, as transformers names them)."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue
from torch import Tensor

from architectures.backbone import TEXT_KINDS
from architectures.weights.published.format import Config, Format, Roles, text_sizes
from architectures.weights.published.names import tensors
from architectures.weights.published.text_format import TextFormat

RULES = (
    (r"\bLayerNorm\.gamma$", "LayerNorm.weight"),  # the first files, converted from TensorFlow
    (r"\bLayerNorm\.beta$", "LayerNorm.bias"),
    (r"^(?:bert\.)?embeddings\.(word|position)_embeddings\.", r"embeddings.\1."),
    (r"^(?:bert\.)?embeddings\.token_type_embeddings\.", "embeddings.token_type."),
    (r"^(?:bert\.)?embeddings\.LayerNorm\.", "embeddings.norm."),
    (r"^(?:bert\.)?encoder\.layer\.(\d+)\.", r"layers.\1."),
    (r"^(?:bert\.)?pooler\.dense\.", "pooler."),
    (r"\.attention\.self\.(query|key|value)\.", r".self_attention.\1."),
    (r"\.attention\.output\.dense\.", ".self_attention.output."),
    (r"\.attention\.output\.LayerNorm\.", ".self_norm."),
    (r"\.crossattention\.self\.(query|key|value)\.", r".cross_attention.\1."),
    (r"\.crossattention\.output\.dense\.", ".cross_attention.output."),
    (r"\.crossattention\.output\.LayerNorm\.", ".cross_norm."),
    (r"\.intermediate\.dense\.", ".mlp.inner."),
    (r"(layers\.\d+)\.output\.dense\.", r"\1.mlp.outer."),
    (r"(layers\.\d+)\.output\.LayerNorm\.", r"\1.mlp_norm."),
    (r"^cls\.predictions\.transform\.dense\.", "heads.mlm.dense."),
    (r"^cls\.predictions\.transform\.LayerNorm\.", "heads.mlm.norm."),
    (r"^cls\.predictions\.decoder\.", "heads.mlm.decoder."),
    (r"^cls\.predictions\.bias$", "heads.mlm.decoder.bias"),
    (r"^cls\.seq_relationship\.", "heads.next_sentence."),
    (r"^(classifier|qa_outputs)\.", r"heads.task.\1."),
)
"""BERT's names -> our roles."""

POOLER = {"pooler.*": "BERT's pooler saw sentence pairs only; a design's is of both modalities"}


def bert_roles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict of BertModel by role, with or without `bert.` before its names and heads
    beside.
    """
    return tensors(state, RULES)


def bert_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a state dict by role, without those that no design has."""
    return WHOLE.tensors(state)


FORMAT = TextFormat(
    model_type="bert",
    reader="BertForMaskedLM",
    constants={
        "hidden_act": "gelu",
        "layer_norm_eps": TEXT_KINDS["bert"].eps,
        "type_vocab_size": TEXT_KINDS["bert"].types,
    },
    roles=bert_roles,
)


def _sizes(config: Config, roles: Roles) -> dict[str, JsonValue]:
    return {"text": "bert", **text_sizes(roles), **FORMAT.sizes_of(config)}


WHOLE = Format(kind="bert", roles=bert_roles, left_out=POOLER, sizes=_sizes)
