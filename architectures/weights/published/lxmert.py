"""The format of LXMERT's checkpoints (Tan and Bansal 2019, as transformers names them) is read by
the roles of `co_attention`: language layers as the text tower, cross layers as the two streams.

Its image side begins with the regions of a detector, so no image tower comes with it; the image
stream's last layer, which nothing reads, is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import JsonValue
from torch import Tensor

from architectures.weights.published import bert
from architectures.weights.published.format import (
    Config,
    Format,
    Roles,
    constant,
    count,
    text_sizes,
)
from architectures.weights.published.names import tensors

CROSS_RULES = (
    (r"^(\d+)\.visual_attention\.att\.", r"text_fusion.\1.cross_attention."),
    (r"^(\d+)\.visual_attention\.output\.dense\.", r"text_fusion.\1.cross_attention.output."),
    (r"^(\d+)\.visual_attention\.output\.LayerNorm\.", r"text_fusion.\1.cross_norm."),
    (r"^(\d+)\.lang_", r"text_fusion.\1."),
    (r"^(\d+)\.visn_", r"image_fusion.\1."),
    (r"\.self_att\.self\.", ".self_attention."),
    (r"\.self_att\.output\.dense\.", ".self_attention.output."),
    (r"\.self_att\.output\.LayerNorm\.", ".self_norm."),
    (r"\.inter\.dense\.", ".mlp.inner."),
    (r"(\d)\.output\.dense\.", r"\1.mlp.outer."),
    (r"(\d)\.output\.LayerNorm\.", r"\1.mlp_norm."),
)
"""Names of a list of LxmertXLayer -> our roles; both streams share cross-attention."""
RULES = (
    (r"^lxmert\.", "bert."),
    (r"^(?:bert\.)?encoder\.(r_layers|visn_fc)\.", r"regions.\1."),
    (r"^cls\.seq_relationship\.", "heads.itm."),
    (r"^(obj_predict|answer)_head\.", r"heads.task.\1."),
    *bert.RULES,
)
STREAM = r"image_fusion\.(\d+)\."
CROSS = re.compile(r"^(?:lxmert\.)?encoder\.x_layers\.")
LEFT_OUT = {
    "regions.*": "it reads the regions of a detector, a design reads image tokens",
    "unread.*": "nothing reads the last layer of the image stream",
}


def lxmert_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict of a list of LxmertXLayer by role."""
    return tensors(state, CROSS_RULES)


def lxmert_roles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict of LxmertModel by role, with or without `lxmert.` before its names and
    heads beside.
    """
    cross = {CROSS.sub("", name): x for name, x in state.items() if CROSS.match(name)}
    streams = lxmert_tensors(cross)
    last = f"image_fusion.{count(streams, STREAM) - 1}."
    streams = {f"unread.{r}" if r.startswith(last) else r: x for r, x in streams.items()}
    return {
        **tensors({name: x for name, x in state.items() if not CROSS.match(name)}, RULES),
        **streams,
    }


def _sizes(config: Config, roles: Roles) -> dict[str, JsonValue]:
    constant(config, {"hidden_act": "gelu", "type_vocab_size": 2}, "a lxmert")
    sizes = text_sizes(roles)
    return {
        **sizes,
        "text": "bert",
        "text_layers": config.get("l_layers", sizes["text_layers"]),
        "text_heads": config.get("num_attention_heads", 12),
        "image_width": sizes["text_width"],  # it has no projection
    }


def _design(config: Config, roles: Roles) -> tuple[str, dict[str, JsonValue]]:
    fields = {"order": "lxmert", "tied": "cross", "pooled": "text"}
    absent = {"projections": False, "type_embeddings": False}
    layers = count(roles, r"text_fusion\.(\d+)\.")
    return "co_attention", {**fields, **absent, "fusion_layers": layers}


WHOLE = Format(kind="lxmert", roles=lxmert_roles, left_out=LEFT_OUT, sizes=_sizes, design=_design)
