"""What sources of weights were fed and what they do not tell is said of a backbone and a design."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from architectures.backbone import Backbone
from architectures.weights import checkpoints, sources
from architectures.weights.from_timm import vision_tensors


def remarks(backbone: Backbone, fields: Mapping[str, object]) -> list[str]:
    """Says what is taken for granted of the sources that a backbone and a design's fields name.

    Raises `SettingError` where one cannot be read.
    """
    named = _opened(backbone, fields)
    return list(dict.fromkeys(note for _, source in named for note in source.remarks(backbone)))


def pixels_read(backbone: Backbone, fields: Mapping[str, object]) -> dict[str, str]:
    """Says, by setting, what pixels the image tower of a source was fed, and where that stands.

    Raises `SettingError` where a source cannot be read.
    """
    return {
        setting: f"{source.pixels} ({source.pixels.by})"
        for setting, source in _opened(backbone, fields)
        if source.pixels is not None and not setting.endswith("text_weights")
    }


def _opened(
    backbone: Backbone, fields: Mapping[str, Any]
) -> Iterator[tuple[str, checkpoints.Published]]:
    if backbone.vision_weights != "random":
        yield "backbone.vision_weights", vision_tensors(backbone)
    if backbone.text_weights != "random":
        yield "backbone.text_weights", sources.published(backbone.text_weights, "text_weights")
    whole = fields.get("whole_weights", "random")
    if whole != "random":
        yield "whole_weights", sources.published(whole, "whole_weights")
