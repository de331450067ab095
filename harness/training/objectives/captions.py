"""Encodes the captions of a batch, whole and masked, in as few calls of the text encoder as it can.

Letters: B rows (the batch), L text positions.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from architectures.contract import FusionDesign, TextStates
from harness.training.data.batches import Batch


def captions(
    design: FusionDesign, batch: Batch, objectives: Collection[str], *, packed: bool
) -> tuple[TextStates | None, TextStates | None]:
    """Returns the states of the whole captions, which ITC and ITM read, and of the masked captions,
    which MLM reads; each is None where no objective in `objectives` reads it. `packed`: padding is
    left out of every layer.

    Where both are read, one call encodes 2 B captions: the matrix products are larger, and the
    gradient of each weight is computed once. Designs whose ITC needs a text pass of its own (joint
    stacks) take two calls, because that later pass would else run over the masked captions too.
    """
    reads_whole, reads_masked = "itc" in objectives or "itm" in objectives, "mlm" in objectives
    real_BL = batch.text_is_real_BL

    def encoded(*ids_BL: Tensor) -> TextStates:
        real = torch.cat([real_BL] * len(ids_BL))
        return design.encode_text(torch.cat(ids_BL), real, packed=packed)

    facts = design.facts(design.config, design.backbone)
    if reads_whole and reads_masked and not facts.itc_own_pass:
        return encoded(batch.ids_BL, batch.masked_ids_BL).split(len(batch))
    return (
        encoded(batch.ids_BL) if reads_whole else None,
        encoded(batch.masked_ids_BL) if reads_masked else None,
    )
