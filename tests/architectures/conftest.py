"""A backbone small enough for the default tests, batches, and designs built on it."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from architectures import build
from architectures.backbone import Backbone
from architectures.contract import FusionDesign
from architectures.facts import USUAL_OBJECTIVES
from harness.training.randomness import stream

VOCABULARY = 50

SMALL = Backbone(
    vision="vit_tiny_patch16_224",
    image_size=16,
    patch_size=8,
    image_width=24,
    image_layers=2,
    image_heads=2,
    text_width=16,
    text_layers=8,
    text_heads=2,
    text_mlp=32,
    max_positions=12,
    dropout=0.0,
    init_std=0.2,  # large enough that a wrong order of sub-layers shows
    itc_width=8,
)


def seeded(seed: int) -> Callable[[str], np.random.Generator]:
    return lambda role: stream(seed, "init", role)


@pytest.fixture
def small() -> Backbone:
    return SMALL


@pytest.fixture
def make() -> Callable[..., FusionDesign]:
    """`make(name, fields, seed=0, **changes of the backbone)`, in float64 and with the usual heads
    unless told.
    """

    def built(
        name: str,
        fields: dict[str, Any],
        *,
        seed: int = 0,
        dtype: Any = torch.float64,
        objectives: Collection[str] = USUAL_OBJECTIVES,
        **sizes: Any,
    ) -> FusionDesign:
        backbone = Backbone(**{**dict(SMALL), **sizes})
        draw = seeded(seed)
        design = build.design(name, fields, backbone, VOCABULARY, draw=draw, objectives=objectives)
        return design.eval().to(dtype)

    return built


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Images (8, 3, 16, 16), ids (8, 7) and which of them are real, 3 to 7 a row."""
    draw = stream(1, "batch")
    images = torch.from_numpy(draw.standard_normal((8, 3, 16, 16)))
    ids = torch.from_numpy(draw.integers(4, VOCABULARY, (8, 7)))
    lengths = torch.tensor([7, 3, 5, 4, 6, 7, 3, 5])
    real = torch.arange(7) < lengths[:, None]
    return images, ids.where(real, 0), real
