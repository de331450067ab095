"""LXMERT's cross layers (Tan and Bansal 2019, as transformers names them) by the roles of
`co_attention`.

Only the stack has a place here: LXMERT's image side begins with the regions of a detector.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from architectures.published.names import tensors

RULES = (
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


def lxmert_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of a list of LxmertXLayer, by role."""
    return tensors(state, RULES)
