"""The heat maps of many pictures, each with an expression, are computed here in batches.

Letters: N pairs, P different pictures, L tokens, h w rows and columns of patches.
"""

from __future__ import annotations

import numpy as np
import torch

from architectures.contract import FusionDesign
from architectures.downstream import gradcam
from harness.training.data.items.tokens import tokens_of
from harness.training.data.tokenizer import Tokenizer
from harness.training.data.transforms import normalised
from harness.training.objectives.term import full

BATCH = 64


def maps_of(
    design: FusionDesign,
    images_PHWC: np.ndarray,
    picture_N: np.ndarray,
    ids_NL: np.ndarray,
    pad_id: int,
    device: torch.device,
    *,
    by: gradcam.By,
    layer: int | None = None,
) -> np.ndarray:
    """Computes the Grad-CAM map of every pair: float64 (N, h, w).

    images_PHWC: uint8 pictures; picture_N: which of them each pair shows
    ids_NL: tokens of each pair's text; padding that all share is left out, which only scales maps
    Raises `SettingError` as `gradcam.maps` does.
    """
    ids_NL = ids_NL[:, : max(int((ids_NL != pad_id).sum(axis=1).max()), 1)]
    pieces = []
    for rows_B in np.array_split(np.arange(len(ids_NL)), -(-len(ids_NL) // BATCH)):
        image_BCHW = torch.from_numpy(images_PHWC[picture_N[rows_B]]).permute(0, 3, 1, 2)
        ids_BL = torch.from_numpy(ids_NL[rows_B].astype(np.int64)).to(device)
        maps = gradcam.maps(
            design,
            normalised(image_BCHW.to(device)),
            ids_BL,
            ids_BL != pad_id,
            by=by,
            layer=layer,
        )
        pieces.append(full(maps.map_Bhw).double().cpu().numpy())
    return np.concatenate(pieces)


def map_of(
    design: FusionDesign,
    tokenizer: Tokenizer,
    image_HWC: np.ndarray,
    text: str,
    *,
    by: gradcam.By,
    layer: int | None = None,
) -> np.ndarray:
    """Computes the map of one picture for one text: float64 (h, w)."""
    ids_1L = tokens_of(tokenizer, [text], design.longest_text)
    pad_id, device = tokenizer.pad_id, torch.device("cpu")
    only = np.zeros(1, dtype=np.int64)
    return maps_of(design, image_HWC[None], only, ids_1L, pad_id, device, by=by, layer=layer)[0]
