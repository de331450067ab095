"""The format of VisualBERT's checkpoints (Li et al. 2019, as transformers names them) is read by
the roles of `merged_attention` over patches.

They hold no image tower: VisualBERT reads the regions of a detector, so the weights of the patch
embedding come from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue
from torch import Tensor

from architectures.weights.published import bert
from architectures.weights.published.format import Config, Format, Roles
from architectures.weights.published.names import tensors

RULES = (
    (r"^visual_bert\.", ""),
    (r"^embeddings\.visual_projection\.", "image_projection."),
    (r"^pooler\.dense\.", "pooler."),
    (r"^(embeddings|encoder)\.", r"bert.\1."),
    *bert.RULES,
    (r"^cls\.(?=weight$|bias$)", "heads.task."),
)
PLACE = "bert.embeddings.visual_position_embeddings.weight"
TYPE = "bert.embeddings.visual_token_type_embeddings.weight"
"""Of image tokens."""


def visual_bert_roles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict of VisualBertModel by role, with or without `visual_bert.` before its
    names and heads beside.

    Every region has position 0 and type 1: two rows whose sum is the type row of the image.
    """
    roles = tensors(state, RULES)
    if PLACE in roles and TYPE in roles:
        roles["types.image.weight"] = roles.pop(PLACE)[:1] + roles.pop(TYPE)[1:2]
    return roles


def visual_bert_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a state dict by role, without those that no design has."""
    return WHOLE.tensors(state)


def _sizes(config: Config, roles: Roles) -> dict[str, JsonValue]:
    return {**bert.WHOLE.sizes(config, roles), **_regions(roles)}


def _regions(roles: Roles) -> dict[str, JsonValue]:
    """Tells the width of image tokens: patches stand where its regions stood, and are as wide."""
    role = "image_projection.weight"
    return {"image_width": roles[role].shape[1]} if role in roles else {}


def _design(config: Config, roles: Roles) -> tuple[str, dict[str, JsonValue]]:
    return "merged_attention", {"over": "patches"}


WHOLE = Format(
    kind="visual_bert",
    roles=visual_bert_roles,
    left_out={"heads.next_sentence.*": "it tells which of two captions fits, and its class 0 does"},
    sizes=_sizes,
    design=_design,
)
