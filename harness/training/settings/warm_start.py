"""The settings of warm starts: what towers are trained on before the runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from architectures.frozen import Frozen
from harness.training.settings.data import Positive
from harness.training.settings.loop import Optimizer

ALIGNED_AS = "dual_encoder"
"""The design that an alignment trains, by its name in the registry: both towers whole, no fusion.
"""


class WarmStart(Frozen, allow_inf_nan=False):
    """BERT, DistilBERT and ViT trained before the runs, on the study's own training data alone.
    They stand in for pretrained weights, for all designs alike. A design that has a text stage
    (`multiway`, after VLMo) takes its text parts from that, and not from the BERT."""

    bert_samples: Positive = 12_800
    """Captions that BERT learns masked words from."""
    distil_samples: Positive = 6_400
    """Captions by which half of its layers learn from it to be a DistilBERT."""
    vit_samples: Positive = 12_800
    """Pictures that the ViT learns from."""
    text_stage_samples: Annotated[int, Field(ge=0)] = 12_800
    """Captions that the text parts of a design with a text stage then learn masked words from, on
    top of the ViT, whose attention stays as it is; 0: no such stage. Other designs ignore it."""
    align_samples: Annotated[int, Field(ge=0)] = 0
    """Pairs by which BERT and ViT then learn ITC together, as towers of one dual encoder, before
    every design starts from them (published work starts from CLIP); 0: they meet in the runs."""
    vit_task: Literal["auto", "classes", "patches"] = "auto"
    """`classes`: which group a picture is of; `patches`: the pixels of hidden patches; `auto`:
    classes where a group has four training pictures or more, on average, else patches."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Captions or pictures a step."""
    optimizer: Optimizer = Optimizer(learning_rate=1e-3)
    """AdamW's settings, of each of them."""
    seed: int = 20_000
    """Seed of weights, batches and masks, apart from the runs' seeds, which share the result."""


SHORT_START = WarmStart(
    bert_samples=6_400,
    distil_samples=3_200,
    vit_samples=6_400,
    text_stage_samples=6_400,
    align_samples=38_400,
)
"""The start of `nano` in a few hundred steps on two objects (`graded_scenes("binding")`): the
towers bind colours to shapes before any design begins, so that what differs is what designs make of
them and not the moment at which ITC leaves its plateau (LOG.md).
"""
