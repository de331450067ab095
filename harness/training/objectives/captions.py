"""The captions of a batch, whole and with words hidden, through a text encoder in one call."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from architectures.contract import FusionDesign, TextStates
from harness.training.data.batches import Batch


def captions(
    design: FusionDesign, batch: Batch, objectives: Collection[str], *, packed: bool
) -> tuple[TextStates | None, TextStates | None]:
    """Whole captions, which ITC and ITM read, and those with hidden words, which MLM reads; None
    where none of these is among the objectives.

    Both at once: larger matrix products, each weight's gradient made once. Not where a pass for ITC
    alone is made later (joint stacks), which would then also be made of the hidden words.
    """
    whole, hidden = "itc" in objectives or "itm" in objectives, "mlm" in objectives
    real_BL = batch.text_is_real_BL

    def encoded(*ids_BL: Tensor) -> TextStates:
        real = torch.cat([real_BL] * len(ids_BL))
        return design.encode_text(torch.cat(ids_BL), real, packed=packed)

    if whole and hidden and not design.facts(design.config, design.backbone).itc_own_pass:
        return encoded(batch.ids_BL, batch.masked_ids_BL).split(len(batch))
    return (
        encoded(batch.ids_BL) if whole else None,
        encoded(batch.masked_ids_BL) if hidden else None,
    )
