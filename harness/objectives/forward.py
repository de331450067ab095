"""One batch through a design and the objectives that are on: the terms of the loss.

One pass where one will do: text states of the whole caption serve ITC and ITM, image states serve
all three objectives. MLM reads masked captions, which need a text pass of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from architectures.contract import FusionDesign, ImageStates, TextStates
from architectures.heads import cosines
from harness.data.batches import Batch
from harness.objectives import itc, itm
from harness.objectives.term import Term, classified, full
from harness.settings import Objectives

VERSION = "1"
"""Raised when the same settings train differently than before."""


class ObjectiveState(nn.Module):
    """What objectives learn or remember between steps: the temperature of ITC."""

    def __init__(self, objectives: Objectives) -> None:
        super().__init__()
        self.bounds = objectives.itc.temperature_range
        self.temperature = nn.Parameter(torch.tensor(objectives.itc.temperature))

    @torch.no_grad()
    def before_step(self) -> None:
        """Clamp the temperature, as ALBEF does at the start of every step."""
        self.temperature.clamp_(*self.bounds)


def terms(
    design: FusionDesign,
    state: ObjectiveState,
    batch: Batch,
    objectives: Objectives,
    *,
    negatives: itm.Negatives | torch.Generator,
) -> dict[str, Term]:
    """The objective's name -> its term, for every objective with a weight above 0.

    `negatives`: the ITM pairs to use (validation), or the generator to draw them with.
    """
    active = objectives.active()
    found: dict[str, Term] = {}
    image = design.encode_image(batch.pixels())
    text = similarity_BB = None
    if "itc" in active or "itm" in active:
        text = design.encode_text(batch.ids_BL, batch.text_is_real_BL)
    if "itc" in active:
        assert text is not None
        image_BE, text_BE = design.heads["itc"](image.pooled_BD, text.pooled_BD)
        similarity_BB = cosines(full(image_BE), full(text_BE))
        found["itc"] = itc.aligned(similarity_BB, state.temperature, batch.match_BB, objectives.itc)
    if "itm" in active:
        assert text is not None
        if isinstance(negatives, torch.Generator):
            negatives = _drawn(similarity_BB, state, batch.match_BB, objectives, negatives)
        found["itm"] = matching(design, image, text, negatives)
    if "mlm" in active:
        found["mlm"] = masked_words(design, image, batch)
    return found


def _drawn(
    similarity_BB: Tensor | None,
    state: ObjectiveState,
    match_BB: Tensor,
    objectives: Objectives,
    generator: torch.Generator,
) -> itm.Negatives:
    if similarity_BB is None:  # without ITC there is nothing to be hard by
        logits_BB = torch.zeros(match_BB.shape, device=match_BB.device)
    else:
        logits_BB = similarity_BB.detach() / state.temperature.detach()
    return itm.draw_negatives(logits_BB, match_BB, objectives.itm.hard_share, generator)


def matching(
    design: FusionDesign, image: ImageStates, text: TextStates, negatives: itm.Negatives
) -> Term:
    """ITM over positives and negatives, fused in one call of 3 B rows, read at [CLS] only."""
    image_rows, text_rows, labels = itm.rows_of(image, text, negatives)
    fused = design.fuse(image_rows, text_rows, read_at_BR=labels.new_zeros(len(labels), 0))
    return classified(design.heads["itm"](fused.pooled_BD), labels)


def masked_words(design: FusionDesign, image: ImageStates, batch: Batch) -> Term:
    """MLM: the masked caption meets its own picture; logits only where a word is predicted."""
    text = design.encode_text(batch.masked_ids_BL, batch.text_is_real_BL)
    fused = design.fuse(image, text, read_at_BR=batch.mask_positions_BR)
    logits = design.heads["mlm"](fused.text_BRD.flatten(0, 1))
    return classified(logits, batch.mask_labels_BR.flatten())


def total(found: dict[str, Term], objectives: Objectives) -> Tensor:
    """Weighted sum of the mean losses."""
    weighted = [getattr(objectives, name).weight * term.loss for name, term in found.items()]
    return torch.stack(weighted).sum()
