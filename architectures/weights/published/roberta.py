"""This is the format of RoBERTa's checkpoints (Liu et al. 2019, as transformers names them).

Layers are BERT's. The position table has two rows that no word takes: words count from the row
after padding's, which is 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue
from torch import Tensor

from architectures.backbone import TEXT_KINDS
from architectures.weights.published import bert
from architectures.weights.published.format import Config, Format, Roles, text_sizes
from architectures.weights.published.names import tensors
from architectures.weights.published.text_format import TextFormat

KIND = TEXT_KINDS["roberta"]
RULES = (
    (r"^roberta\.", "bert."),
    *bert.RULES,
    (r"^lm_head\.dense\.", "heads.mlm.dense."),
    (r"^lm_head\.layer_norm\.", "heads.mlm.norm."),
    (r"^lm_head\.decoder\.", "heads.mlm.decoder."),
    (r"^lm_head\.bias$", "heads.mlm.decoder.bias"),
)
"""RoBERTa's names -> our roles."""


def roberta_roles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict of RobertaModel by role, with or without `roberta.` before its names and
    heads beside.
    """
    return tensors(state, RULES)


FORMAT = TextFormat(
    model_type="roberta",
    reader="RobertaForMaskedLM",
    constants={
        "hidden_act": "gelu",
        "layer_norm_eps": KIND.eps,
        "type_vocab_size": KIND.types,
        "pad_token_id": KIND.first_position - 1,
    },
    roles=roberta_roles,
)


def _sizes(config: Config, roles: Roles) -> dict[str, JsonValue]:
    # What transformers takes for granted where a configuration is silent is BERT's.
    silent = {"layer_norm_eps": 1e-12, "type_vocab_size": 2}
    return {"text": "roberta", **text_sizes(roles), **FORMAT.sizes_of({**silent, **config})}


WHOLE = Format(kind="roberta", roles=roberta_roles, left_out=bert.POOLER, sizes=_sizes)
