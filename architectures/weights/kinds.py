"""The kind of a source of weights is known by its configuration, or by the names in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from architectures.frozen import SettingError
from architectures.weights.digests import sealed
from architectures.weights.published import (
    albef,
    bert,
    blip,
    blip2,
    bridgetower,
    clip,
    distilbert,
    fuselab,
    git,
    lxmert,
    roberta,
    timm,
    vilt,
    visual_bert,
)
from architectures.weights.published.format import Config, Format
from architectures.weights.weight_files import CONFIG, WEIGHTS, json_of

BY_TYPE: Mapping[str, Format] = {
    "bert": bert.WHOLE,
    "roberta": roberta.WHOLE,
    "distilbert": distilbert.WHOLE,
    "clip": clip.WHOLE,
    "clip_text_model": clip.WHOLE,
    "clip_vision_model": clip.WHOLE,
    "bridgetower": bridgetower.WHOLE,
    "vilt": vilt.WHOLE,
    "visual_bert": visual_bert.WHOLE,
    "lxmert": lxmert.WHOLE,
    "blip": blip.WHOLE,
    "blip-2": blip2.WHOLE,
    "git": git.WHOLE,
}
"""`model_type` of a folder's configuration -> how its kind is read."""
BY_NAME: Mapping[str, Format] = {"visual_encoder.": albef.WHOLE, "patch_embed.": timm.WHOLE}
"""Beginning of a name in a file -> how its kind is read."""


def of_folder(path: Path, config: Config) -> Format:
    kind = str(config.get("model_type", ""))
    if kind in BY_TYPE:
        return BY_TYPE[kind]
    if not kind and "architecture" in config:
        return timm.WHOLE
    if "fuselab" in config:
        fuselab.check(path)
        return fuselab.WHOLE
    seems = f"is a {kind}" if kind else "has a config.json that names no model_type"
    raise SettingError(f"{path} {seems}; known: {', '.join(BY_TYPE)}, and folders of timm")


def of_file(path: Path, state: Mapping[str, Tensor]) -> Format:
    for beginning, form in BY_NAME.items():
        if any(name.startswith(beginning) for name in state):
            return blip.FILE if form is albef.WHOLE and blip.is_blip(state) else form
    if (path.parent / "config.json").is_file():
        raise SettingError(f"{path} alone tells no sizes; give its folder, {path.parent}")
    raise SettingError(
        f"{path} has the names of no known model ({', '.join(list(state)[:4])}, ...); known files "
        "are ALBEF's and timm's ViTs, other models come as the folder that `save_pretrained` writes"
    )


def beside(path: Path) -> Config:
    """Reads what is told of a file of timm's: by ourselves in its header, or by its folder."""
    config: Config = sealed(path).get("config", {})
    neighbour = path.parent / CONFIG
    if not config and path.name in WEIGHTS and neighbour.is_file():
        config = json_of(neighbour)
    return config if "architecture" in config else {}
