"""Stored pictures to model input: training augmentation, and bytes to floats.

Letters: B rows, H W height and width, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from PIL import Image
from torch import Tensor

from architectures.frozen import Frozen, SettingError

Fit = Literal["squash", "crop", "pad"]
CROP_MODES: dict[Fit, str] = {"squash": "squash", "crop": "center", "pad": "border"}
"""How a picture becomes square -> how timm names it."""


class Augment(Frozen):
    """This happens to a training picture each time it is seen."""

    kind: Literal["none", "crop", "crop_flip"] = "none"
    """Nothing, a random resized crop, or that and a left-right flip of every other picture."""
    smallest_crop: float = 1.0
    """Smallest area of a crop, as a share of the picture."""


def augmented(images_BHWC: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """Cuts pictures (area uniform, aspect 3/4 to 4/3 on a log scale), resizes and flips them.

    uint8 (B, H, W, C) in and out, H = W. The cut is Inception's (Szegedy et al. 2015).

    All draws come first and depend on B only; `rng` is the stream of this step.
    """
    if augment.kind == "none":
        return images_BHWC
    area_B, aspect_B, left_B, top_B, flip_B = rng.random((5, len(images_BHWC)))
    area_B = augment.smallest_crop + (1 - augment.smallest_crop) * area_B
    stretch_B = np.sqrt((4 / 3) ** (2 * aspect_B - 1))
    width_B = np.minimum(np.sqrt(area_B) * stretch_B, 1)
    height_B = np.minimum(np.sqrt(area_B) / stretch_B, 1)
    left_B, top_B = left_B * (1 - width_B), top_B * (1 - height_B)
    box_B4 = np.stack([left_B, top_B, left_B + width_B, top_B + height_B], axis=1)
    out_BHWC = np.stack([_cut(i, b) for i, b in zip(images_BHWC, box_B4, strict=True)])
    if augment.kind == "crop_flip":
        flipped_B = flip_B < 0.5
        out_BHWC[flipped_B] = out_BHWC[flipped_B, :, ::-1]
    return out_BHWC


def normalised(image_BCHW: Tensor) -> Tensor:
    """Turns uint8 into float32 from -1 to 1 (mean and deviation 0.5, as of timm's ViTs)."""
    return image_BCHW.float() / 127.5 - 1


def _cut(image_HWC: np.ndarray, box: np.ndarray) -> np.ndarray:
    size, channels = image_HWC.shape[0], image_HWC.shape[2]
    picture = Image.fromarray(image_HWC if channels == 3 else image_HWC[..., 0])
    cut = picture.resize((size, size), Image.Resampling.BICUBIC, box=tuple(box * size))
    return np.asarray(cut).reshape(size, size, channels)


def pixels(settings: Frozen, channels: int) -> dict[str, object]:
    """Says what `harness.training.data` makes of a picture, in timm's words. `settings`: of data or
    of a task; pictures are square already where they have no field `fit`.
    """
    return _pixels(getattr(settings, "fit", "squash"), channels)


def fit_of(record: Mapping[str, object], channels: int) -> Fit:
    """Returns how pictures become square, of what `pixels` said. Raises `SettingError` where they
    are to become something else than here.
    """
    for fit in CROP_MODES:
        if record == _pixels(fit, channels):
            return fit
    raise SettingError(f"it reads pictures made in a way that is none of ours: {dict(record)}")


def _pixels(fit: Fit, channels: int) -> dict[str, object]:
    half = [0.5] * channels
    constant = {"mean": half, "std": half, "interpolation": "bicubic", "crop_pct": 1.0}
    return {**constant, "crop_mode": CROP_MODES[fit]}
