"""BERT's checkpoints (Devlin et al. 2019, as transformers names them) by our roles."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from architectures.backbone import TEXT_KINDS
from architectures.published.names import tensors
from architectures.published.text_format import TextFormat

RULES = (
    (r"^bert\.embeddings\.(word|position)_embeddings\.", r"embeddings.\1."),
    (r"^bert\.embeddings\.token_type_embeddings\.", "embeddings.token_type."),
    (r"^bert\.embeddings\.LayerNorm\.", "embeddings.norm."),
    (r"^bert\.encoder\.layer\.(\d+)\.", r"layers.\1."),
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
)
"""BERT's names -> our roles."""


def bert_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of BertModel under `bert.`, with or without `cls.` (its MLM head), by role."""
    return tensors(state, RULES)


FORMAT = TextFormat(
    model_type="bert",
    reader="BertForMaskedLM",
    constants={
        "hidden_act": "gelu",
        "layer_norm_eps": TEXT_KINDS["bert"].eps,
        "type_vocab_size": TEXT_KINDS["bert"].types,
    },
    roles=bert_tensors,
)
