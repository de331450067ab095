"""The format of GIT's checkpoints (Wang et al. 2022, as transformers names them) is read by the
roles of `token_insertion` under its prefix mask.

Its image tower is CLIP's, its stack BERT's without token types, whose rows become zeros.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue
from torch import Tensor

from architectures.backbone import TEXT_KINDS
from architectures.frozen import SettingError
from architectures.weights.pixels import CLIP
from architectures.weights.published import bert, clip
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
    (r"^visual_projection\.visual_projection\.0\.", "connector.inner."),
    (r"^visual_projection\.visual_projection\.1\.", "connector.norm."),
    (r"^output\.", "heads.next_word."),
    *bert.RULES,
)
TOWER = "image_encoder."
WORDS, TYPES = "embeddings.word.weight", "embeddings.token_type.weight"
VISION_EPS = 1e-5


def git_roles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names a state dict of GitModel or GitForCausalLM by role."""
    state = {name.removeprefix("git."): value for name, value in state.items()}
    tower = {n.removeprefix(TOWER): value for n, value in state.items() if n.startswith(TOWER)}
    roles = tensors({n: x for n, x in state.items() if not n.startswith(TOWER)}, RULES)
    if WORDS in roles:
        words = roles[WORDS]
        roles[TYPES] = words.new_zeros(TEXT_KINDS["bert"].types, words.shape[1])
    return roles | clip.clip_roles(tower)


def git_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a state dict by role, without those that no design has."""
    return WHOLE.tensors(state)


def _sizes(config: Config, roles: Roles) -> dict[str, JsonValue]:
    vision = config.get("vision_config", {})
    constant(config, {"hidden_act": "gelu", "layer_norm_eps": TEXT_KINDS["bert"].eps}, "its text")
    constant(vision, {"hidden_act": "quick_gelu", "layer_norm_eps": VISION_EPS}, "its image tower")
    return {
        **image_sizes(roles),
        **text_sizes(roles),
        "text": "bert",
        "text_heads": config.get("num_attention_heads", 12),
        "vision": "vit_base_patch16_clip_quickgelu_224",
        "image_heads": vision.get("num_attention_heads", 12),
        "image_norm_eps": VISION_EPS,
    }


def _design(config: Config, roles: Roles) -> tuple[str, dict[str, JsonValue]]:
    if config.get("num_image_with_embedding"):
        raise SettingError("it reads the frames of a video; take a GIT of pictures, as git-base")
    return "token_insertion", {"mask": "prefix"}


WHOLE = Format(
    kind="git",
    roles=git_roles,
    left_out={"heads.next_word.*": "no head of a design says the next word"},
    sizes=_sizes,
    pixels=lambda config: CLIP,
    design=_design,
)
