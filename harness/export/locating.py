"""A trained design shows where in a new picture a named thing is, as grounding is scored."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from architectures.contract import FusionDesign
from architectures.downstream import gradcam
from architectures.downstream.joint import facts_of
from architectures.frozen import SettingError
from harness.export.new_items import Picture, Reader
from harness.training.data.items.boxes import point_in_picture
from harness.training.data.items.tokens import tokens_of
from harness.training.objectives.maps import maps_of
from harness.training.scoring.pointing import pointed, upsampled


class Located(NamedTuple):
    """Where the thing is that an expression names."""

    map_hw: np.ndarray
    """float64 (h, w): how much each patch of the square speaks for the expression, top row first;
    its scale means nothing."""
    point: tuple[float, float]
    """Pixels from the left and the top of the upright picture: the maximum of the map, stretched to
    the picture."""


def located(
    design: FusionDesign,
    reader: Reader,
    device: torch.device,
    placed: tuple[str, Picture],
    expression: str,
    layer: int | None,
) -> Located:
    """Looks at one picture, by ITM, or by ITC where the design has no map by ITM.

    placed: the picture with its place
    layer: see `gradcam.layer_of`
    Raises `SettingError` where the design has no map, or none of that layer.
    """
    heads = list(design.heads)
    by = gradcam.way(facts_of(design), heads, "itm")
    if by is None:
        raise SettingError(f"locate: {gradcam.why_neither(facts_of(design), heads)}")
    seen = reader.decoded(*placed)
    ids_1L = tokens_of(reader.tokenizer, [expression], reader.longest)
    map_hw = maps_of(
        design,
        seen.image_SSC[None],
        np.zeros(1, dtype=np.int64),
        ids_1L,
        reader.tokenizer.pad_id,
        device,
        by=by,
        layer=layer,
    )[0]
    share = pointed(upsampled(map_hw[None], reader.square.side)[0])
    return Located(map_hw, point_in_picture(share, seen.size, reader.square.fit))
