"""The format of salesforce/ALBEF's checkpoints (Li et al. 2021) is read by the roles of
`split_bert`: those of pre-training, and as far as names tell the fine-tuned ones (retrieval,
SNLI-VE, VQA, NLVR2).

A file says no number of heads: where nothing else does, 64 columns make a head, as in every ViT
and BERT that ALBEF was published with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from pydantic import JsonValue
from torch import Tensor

from architectures.frozen import SettingError
from architectures.weights.pixels import CLIP
from architectures.weights.published import bert
from architectures.weights.published.format import Config, Format, Roles, image_sizes, text_sizes
from architectures.weights.published.names import renamed, tensors

RULES = (
    (r"^text_encoder\.", ""),
    *bert.RULES,
    (r"^visual_encoder\.", "image.vit."),
    (r"^vision_proj\.", "heads.itc.image."),
    (r"^text_proj\.", "heads.itc.text."),
    (r"^itm_head\.", "heads.itm."),
    (r"^cls_head\.", "heads.task."),
    (r"^temp$", "temperature"),
    (r"^(image|text)_queue$", r"queue.\1"),
    (r"^queue_ptr$", "queue.place"),
    (r"^idx_queue$", "queue.groups"),
)
TWIN = re.compile(r"^(visual_encoder|text_encoder|text_decoder|vision_proj|text_proj|cls_head)_m\.")
LEFT_OUT = {
    "momentum.*": "a momentum twin is a state of the training, not of a design",
    "queue.*": "the queue is a state of the objective, not of a design",
    "decoder.*": "the answer decoder of VQA is none of the design's parts",
    **bert.POOLER,
}


def albef_roles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict by role: momentum twins as `momentum.ROLE`, the answer decoder as
    `decoder.ROLE`.
    """
    twins = {TWIN.sub(r"\1.", name): x for name, x in state.items() if TWIN.match(name)}
    own = {name: x for name, x in state.items() if not TWIN.match(name)}
    return {**_roles(own), **{f"momentum.{role}": x for role, x in _roles(twins).items()}}


def _roles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    decoder, prefix = {}, "text_decoder."
    for name, value in state.items():
        if name.startswith(prefix):
            decoder[f"decoder.{renamed(name.removeprefix(prefix), RULES)}"] = value
    model = {name: x for name, x in state.items() if not name.startswith(prefix)}
    return {**tensors(model, RULES), **decoder}


def albef_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the online weights of a checkpoint by role, without those that no design has."""
    return WHOLE.tensors(state)


def _sizes(config: Config, roles: Roles) -> dict[str, JsonValue]:
    """Tells the sizes; ALBEF's ViT and BERT have these constants whatever the file."""
    sizes = {**image_sizes(roles), **text_sizes(roles), "text": "bert", "image_norm_eps": 1e-6}
    if "heads.itc.image.weight" in roles:
        sizes["itc_width"] = len(roles["heads.itc.image.weight"])
    return sizes


def _design(config: Config, roles: Roles) -> tuple[str, dict[str, JsonValue]]:
    matches = [re.match(r"layers\.(\d+)\.cross_attention\.key\.weight", role) for role in roles]
    crossing = sorted(int(match[1]) for match in matches if match)
    if not crossing:
        raise SettingError("no layer has cross-attention; take it as text_weights")
    keys = [roles[f"layers.{layer}.cross_attention.key.weight"] for layer in crossing[:2]]
    if len(keys) == 2 and torch.equal(*keys):
        raise SettingError(
            "it is fine-tuned for NLVR2: every other fusion layer reads a second image, which no "
            "design does; its towers can be taken as vision_weights and text_weights"
        )
    return "split_bert", {"text_layers": crossing[0]}


WHOLE = Format(
    kind="albef",
    roles=albef_roles,
    left_out=LEFT_OUT,
    sizes=_sizes,
    pixels=lambda config: CLIP,
    design=_design,
)
