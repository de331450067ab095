"""One batch through a design and the objectives that are on: the terms of the loss.

One pass where one will do: text states of the whole caption serve ITC and ITM, image states serve
all three objectives. MLM reads masked captions, which need a text pass of their own. What the
momentum teacher says of the batch is asked for once, before.

Letters: B rows (the batch), K keys of ITC, the batch's own first, E width of a feature.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from architectures.contract import FusionDesign, ImageStates, TextStates
from harness.training.data.batches import Batch
from harness.training.data.identity import Identity
from harness.training.objectives import itc, itm
from harness.training.objectives.captions import captions
from harness.training.objectives.itc import Scores
from harness.training.objectives.mlm import hidden_words, masked_words
from harness.training.objectives.pairs import Pairs
from harness.training.objectives.state import ObjectiveState
from harness.training.objectives.teacher import Taught
from harness.training.objectives.term import Losses, Term, classified, full
from harness.training.settings.objectives import Objectives

VERSION = "2"
"""Raised when the same settings train differently than before."""


def terms(
    design: FusionDesign,
    state: ObjectiveState,
    batch: Batch,
    *,
    negatives: itm.Negatives | torch.Generator,
    taught: Taught | None = None,
    packed: bool = False,
) -> Losses:
    """The terms of every objective with a weight above 0.

    `negatives`: the ITM pairs to use (validation), or the generator to draw them with. `taught`:
    what the teacher says of the batch; None: keys and targets are the batch's own, as in
    validation. `packed`: padding is left out of every layer, which changes no value.
    """
    objectives = state.settings
    active = objectives.active()
    found: dict[str, Term] = {}
    notes: dict[str, Tensor] = {}
    image = design.encode_image(batch.pixels())
    text, masked = captions(design, batch, active, packed=packed)
    both_ways = None
    if "itc" in active:
        assert text is not None
        features = design.heads["itc"](image.pooled_BD, text.pooled_BD)
        both_ways = compared(features, batch.identity, state, taught)
        alpha = 0.0 if taught is None else objectives.itc.distil * state.ramp
        found["itc"], parts = itc.aligned(*both_ways, state.temperature, objectives.itc, alpha)
        notes |= parts
        notes["itc_pair_cosine"] = both_ways[0].cosine_BK.detach().diagonal().mean()
    if "itm" in active:
        assert text is not None
        if isinstance(negatives, torch.Generator):
            negatives = _drawn(both_ways, state, batch.match_BB, negatives)
        found["itm"] = matching(design, image, text, negatives)
        if both_ways is not None:
            notes["itm_negative_cosine"] = _negative_cosine(both_ways, negatives)
    if masked is not None:
        words = None if taught is None else taught.words_NV
        labels_N = batch.mask_labels_BR.flatten().index_select(0, batch.hidden_N)
        logits_NV = hidden_words(design, image, masked, batch)
        found["mlm"], parts = masked_words(
            logits_NV, labels_N, words, objectives.mlm.distil * state.ramp
        )
        notes |= parts
    return Losses(found, notes)


def compared(
    features: tuple[Tensor, Tensor],
    identity: Identity,
    state: ObjectiveState,
    taught: Taught | None,
) -> tuple[Scores, Scores]:
    """Images with texts, and texts with images: the rows of the batch with every key.

    Identity are, in this order: the features of the batch, its own or the teacher's; those of other
    workers, where they are gathered; the queue.
    """
    itc = state.settings.itc
    rows = Pairs(image_NE=features[0], text_NE=features[1], identity=identity)
    soft: tuple[Tensor | None, Tensor | None] = (None, None)
    others = rows
    if taught is not None and taught.image_BE is not None and taught.text_BE is not None:
        teacher = Pairs(image_NE=taught.image_BE, text_NE=taught.text_BE, identity=identity)
        theirs = state.keys(teacher, queue=True)
        soft = teacher.cosines_with(theirs) if itc.distil else soft
        others = theirs if itc.keys == "teacher" else rows
    others = state.keys(rows, queue=False) if others is rows else others
    both = zip(rows.cosines_with(others), rows.matches_with(others), soft, strict=True)
    one, other = (Scores(cosine_BK=full(c), match_BK=m, taught_BK=t) for c, m, t in both)
    return one, other


def _drawn(
    both_ways: tuple[Scores, Scores] | None,
    state: ObjectiveState,
    match_BB: Tensor,
    generator: torch.Generator,
) -> itm.Negatives:
    """From the batch alone: of the keys the first B."""
    rows = len(match_BB)
    to_text_BB = to_image_BB = torch.zeros(match_BB.shape, device=match_BB.device)
    if both_ways is not None:  # without ITC there is nothing to be hard by
        to_text_BB, to_image_BB = (
            way.cosine_BK[:, :rows].detach() / state.temperature.detach() for way in both_ways
        )
    return itm.draw_negatives(to_text_BB, to_image_BB, match_BB, state.settings.itm, generator)


def _negative_cosine(both_ways: tuple[Scores, Scores], negatives: itm.Negatives) -> Tensor:
    """Mean cosine of the negatives, how hard they are, of those that there are."""
    drawn_2B = torch.stack([negatives.text_for_image_B, negatives.image_for_text_B])
    cosine_2BK = torch.stack([way.cosine_BK.detach() for way in both_ways])
    found_2B = cosine_2BK.gather(2, drawn_2B.clamp(min=0)[..., None]).squeeze(2)
    there_2B = drawn_2B >= 0
    return (found_2B * there_2B).sum() / there_2B.sum().clamp(min=1)


def matching(
    design: FusionDesign, image: ImageStates, text: TextStates, negatives: itm.Negatives
) -> Term:
    """ITM over positives and negatives, fused in one call of 3 B rows, read at [CLS] only."""
    image_rows, text_rows, labels = itm.rows_of(image, text, negatives)
    fused = design.fuse(image_rows, text_rows, read_at_BR=labels.new_zeros(len(labels), 0))
    return classified(design.heads["itm"](fused.pooled_BD), labels)


def total(found: Mapping[str, Term], objectives: Objectives) -> Tensor:
    """Weighted sum of the mean losses."""
    weighted = [getattr(objectives, name).weight * term.loss for name, term in found.items()]
    return torch.stack(weighted).sum()
