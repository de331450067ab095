"""The format of BLIP's checkpoints (Li et al. 2022) is read by the roles of `shared_stack`: files
of salesforce/BLIP, which have ALBEF's names, and folders of transformers'
BlipForImageTextRetrieval.

BLIP adds two words to BERT's, [DEC] and [ENC], as the last rows of its table; [ENC]'s becomes
`encode`, [DEC]'s is of its captioner and left out. It took BERT's token types out: their rows
become zeros.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue
from torch import Tensor

from architectures.backbone import TEXT_KINDS
from architectures.frozen import SettingError
from architectures.weights.pixels import CLIP
from architectures.weights.published import albef, bert, blip2
from architectures.weights.published.format import (
    Config,
    Format,
    Roles,
    constant,
    image_sizes,
    text_sizes,
)
from architectures.weights.published.names import tensors

RULES = (
    (r"^text_encoder\.", ""),
    (r"^(vision|text)_proj\.", r"\1_projection."),
    *bert.RULES,
    *(rule for rule in blip2.RULES if "vision_" in rule[0] or "(image" in rule[0]),
    (r"^text_projection\.", "heads.itc.text."),
    (r"^itm_head\.", "heads.itm."),
)
NEW_WORDS = 2
"""[DEC], then [ENC]."""
WORDS, TYPES = "embeddings.word.weight", "embeddings.token_type.weight"


def is_blip(state: Mapping[str, Tensor]) -> bool:
    """Says whether a file with ALBEF's names is BLIP's: its lowest text layer crosses, or it has a
    captioner and no text encoder.
    """
    names = [name for name in state if name.startswith("text_encoder.")]
    return not names or any(".layer.0.crossattention." in name for name in names)


def _with_encode(roles: dict[str, Tensor]) -> dict[str, Tensor]:
    """Takes the rows of the new words out of the table."""
    if WORDS in roles:
        words = roles[WORDS]
        roles[WORDS], roles["encode.weight"] = words[:-NEW_WORDS], words[-1:]
        roles.setdefault(TYPES, words.new_zeros(TEXT_KINDS["bert"].types, words.shape[1]))
    return roles


def blip_roles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict of BlipForImageTextRetrieval by role."""
    return _with_encode(tensors(state, RULES))


def blip_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a state dict by role, without those that no design has."""
    return WHOLE.tensors(state)


def _of_file(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return _with_encode(albef.albef_roles(state))


def _sizes(config: Config, roles: Roles) -> dict[str, JsonValue]:
    """Tells the sizes. Raises `SettingError` for a model of BLIP's that has no text encoder."""
    if WORDS not in roles:
        raise SettingError(
            "it is BLIP's and has no text encoder that reads text alone (a captioner); no design "
            "computes it; take a checkpoint of retrieval or pre-training"
        )
    own, vision = config.get("text_config", {}), config.get("vision_config", {})
    constant(own, {"hidden_act": "gelu", "layer_norm_eps": TEXT_KINDS["bert"].eps}, "its text")
    constant(vision, {"hidden_act": "gelu"}, "its image tower")
    sizes: dict[str, JsonValue] = {
        **image_sizes(roles),
        **text_sizes(roles),
        "text": "bert",
        "image_norm_eps": vision.get("layer_norm_eps", 1e-5 if config else 1e-6),
    }
    if config:
        sizes["text_heads"] = own.get("num_attention_heads", 8)
        sizes["image_heads"] = vision.get("num_attention_heads", 12)
    if "heads.itc.image.weight" in roles:
        sizes["itc_width"] = len(roles["heads.itc.image.weight"])
    return sizes


def _design(config: Config, roles: Roles) -> tuple[str, dict[str, JsonValue]]:
    layers = {role.split(".")[1] for role in roles if role.startswith("layers.")}
    crossing = {role.split(".")[1] for role in roles if ".cross_attention." in role}
    if layers != crossing:
        raise SettingError("not every layer has cross-attention; take it as text_weights")
    return "shared_stack", {}


WHOLE = Format(
    kind="blip",
    roles=blip_roles,
    left_out=albef.LEFT_OUT,
    sizes=_sizes,
    pixels=lambda config: CLIP,
    design=_design,
)
"""Of a folder."""
FILE = Format(
    kind="blip",
    roles=_of_file,
    left_out=albef.LEFT_OUT,
    sizes=_sizes,
    pixels=lambda config: CLIP,
    design=_design,
)
"""Of a file of salesforce/BLIP."""
