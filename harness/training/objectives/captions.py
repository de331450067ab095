"""Encodes the captions of a batch, whole, masked and in another arrangement, in as few calls of the
text encoder as it can.

Letters: B rows (the batch), L text positions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import torch
from torch import Tensor

from architectures.contract import FusionDesign, TextStates
from harness.training.data.batches import Batch


@dataclasses.dataclass(frozen=True)
class Captions:
    """The states of the captions of a batch; each is None where no objective reads it."""

    whole: TextStates | None
    """As they are: ITC and ITM read them."""
    masked: TextStates | None
    """With words hidden: MLM reads them."""
    swapped: TextStates | None
    """Of the rows that bring one, in another arrangement: negatives of ITM."""


def captions(
    design: FusionDesign, batch: Batch, objectives: Collection[str], *, packed: bool
) -> Captions:
    """Returns the states that `objectives` read. `packed`: padding is left out of every layer.

    Where several are read, one call encodes all captions: the matrix products are larger, and the
    gradient of each weight is computed once. Designs whose ITC needs a text pass of its own (joint
    stacks) take a call each, because that later pass would else run over the other captions too.
    """
    reads_whole, reads_masked = "itc" in objectives or "itm" in objectives, "mlm" in objectives
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    if not reads_whole and not reads_masked:
        return Captions(None, None, None)
    if reads_whole:
        parts["whole"] = batch.ids_BL, batch.text_is_real_BL
    if reads_masked:
        parts["masked"] = batch.masked_ids_BL, batch.text_is_real_BL
    if "itm" in objectives and batch.swapped_ids_SL is not None and len(batch.swapped_ids_SL):
        assert batch.swapped_is_real_SL is not None
        parts["swapped"] = batch.swapped_ids_SL, batch.swapped_is_real_SL
    states: dict[str, TextStates | None] = {"whole": None, "masked": None, "swapped": None}
    if design.facts(design.config, design.backbone).itc_own_pass:
        for name, (ids, real) in parts.items():
            states[name] = design.encode_text(ids, real, packed=packed)
        return Captions(**states)
    ids, real = (torch.cat(each) for each in zip(*parts.values(), strict=True))
    rest = design.encode_text(ids, real, packed=packed)
    for name, (ids, _) in list(parts.items())[:-1]:
        states[name], rest = rest.split(len(ids))
    states[list(parts)[-1]] = rest
    return Captions(**states)
