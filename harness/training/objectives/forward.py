"""Runs one batch through a design and its active objectives, and returns the terms of the loss.

Each state is computed once: text states of the whole caption serve ITC and ITM, image states serve
all objectives. MLM reads masked captions, which are encoded beside the whole ones, LM whole ones
under a causal mask. The momentum teacher reads the batch before all this, once.

Letters: B rows (the batch), K candidates of ITC, the batch's own first, E width of a feature,
N masked positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from architectures.contract import FusionDesign, ImageStates, TextStates
from architectures.layers.heads import itc_head
from architectures.layers.similarity import Similarity
from harness.training.data.batches import Batch
from harness.training.data.identity import Identity
from harness.training.objectives import itc, itm
from harness.training.objectives.captions import captions
from harness.training.objectives.itc import Scores
from harness.training.objectives.lm import captioned
from harness.training.objectives.mlm import hidden_words, masked_words
from harness.training.objectives.pairs import Pairs
from harness.training.objectives.state import ObjectiveState
from harness.training.objectives.teacher import Taught
from harness.training.objectives.term import Losses, Term, classified, full
from harness.training.objectives.together import (
    draws_from_all,
    own_rows,
    square,
    whole,
    with_those_of_all,
)
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
    """Computes the term of every objective with a weight above 0, and curves that are only shown.

    `negatives`: the ITM pairs to use (validation), or the generator to draw them with. `taught`:
    the teacher's outputs for the batch; with None, as in validation, candidates and targets are the
    batch's own. `packed`: padding is left out of every layer, which changes no value.
    """
    objectives = state.settings
    active = objectives.active()
    by_objective: dict[str, Term] = {}
    notes: dict[str, Tensor] = {}
    image = design.encode_image(batch.pixels())
    encoded = captions(design, batch, active, packed=packed)
    text, masked = encoded.whole, encoded.masked
    both_ways = None
    if "itc" in active:
        assert text is not None
        head = itc_head(design)
        features = head.features(image, text)
        both_ways = compared(features, batch.identity, state, taught, head.similarity)
        alpha = 0.0 if taught is None else objectives.itc.distil * state.ramp
        by_objective["itc"], parts = itc.aligned(
            *both_ways, state.temperature, objectives.itc, alpha, state.bias
        )
        notes |= parts
        notes["itc_pair_cosine"] = both_ways[0].cosine_BK.detach().diagonal().mean()
    if "itm" in active:
        assert text is not None
        from_all = isinstance(negatives, torch.Generator) and draws_from_all(objectives)
        cosines = None if both_ways is None else _squares(both_ways, from_all=from_all)
        if isinstance(negatives, torch.Generator):
            match_NN = batch.match_BB if batch.match_NN is None or not from_all else batch.match_NN
            negatives = _drawn(cosines, state, match_NN, negatives)
        if cosines is not None:
            notes["itm_negative_cosine"] = _negative_cosine(cosines, negatives)
        seen = image
        if from_all:
            negatives = own_rows(negatives, len(batch))
            seen, text, negatives = with_those_of_all(image, text, negatives)
        if encoded.swapped is not None:
            assert batch.swapped_at_B is not None
            negatives = negatives.with_swaps(batch.swapped_at_B, len(text.text_is_real_BL))
            text = TextStates.join([text, encoded.swapped])
        by_objective["itm"] = matching(design, seen, text, negatives)
    if masked is not None:
        taught_NV = None if taught is None else taught.words_NV
        labels_N = batch.mask_labels_BR.flatten().index_select(0, batch.hidden_N)
        logits_NV = hidden_words(design, image, masked, batch)
        by_objective["mlm"], parts = masked_words(
            logits_NV, labels_N, taught_NV, objectives.mlm.distil * state.ramp
        )
        notes |= parts
    if "lm" in active:
        smoothing = objectives.lm.smoothing if design.training else 0.0
        by_objective["lm"] = captioned(design, image, batch, smoothing=smoothing, packed=packed)
    return whole(Losses(by_objective, notes))


def compared(
    features: tuple[Tensor, Tensor],
    identity: Identity,
    state: ObjectiveState,
    taught: Taught | None,
    how: Similarity = "pooled",
) -> tuple[Scores, Scores]:
    """Compares every row of the batch with every candidate: images with texts, texts with images.

    `features`, `how`: see `ITCHead`.
    `identity`: what the rows are (`data.identity`). The candidates are, in this order: the features
    of the batch, its own or the teacher's; those of other workers, where they are gathered; the
    queue.
    """
    itc = state.settings.itc
    rows = Pairs(image_NE=features[0], text_NE=features[1], identity=identity)
    soft: tuple[Tensor | None, Tensor | None] = (None, None)
    candidates = rows
    if taught is not None and taught.image_BE is not None and taught.text_BE is not None:
        teacher = Pairs(image_NE=taught.image_BE, text_NE=taught.text_BE, identity=identity)
        theirs = state.candidates(teacher, queue=True)
        soft = teacher.cosines_with(theirs, how) if itc.distil else soft
        candidates = theirs if itc.candidates == "teacher" else rows
    candidates = state.candidates(rows, queue=False) if candidates is rows else candidates
    both = zip(rows.cosines_with(candidates, how), rows.matches_with(candidates), soft, strict=True)
    one, other = (Scores(cosine_BK=full(c), match_BK=m, taught_BK=t) for c, m, t in both)
    return one, other


def _squares(both_ways: tuple[Scores, Scores], *, from_all: bool) -> tuple[Tensor, Tensor]:
    """Returns the cosines (B, B) of both directions that negatives are drawn by, without gradient:
    of the batch alone, the first B of ITC's candidates. `from_all`: of all workers' rows.
    """
    to_text_BK, to_image_BK = (way.cosine_BK.detach() for way in both_ways)
    if from_all:
        return square(to_text_BK), square(to_image_BK)
    rows = len(to_text_BK)
    return to_text_BK[:, :rows], to_image_BK[:, :rows]


def _drawn(
    cosines: tuple[Tensor, Tensor] | None,
    state: ObjectiveState,
    match_BB: Tensor,
    generator: torch.Generator,
) -> itm.Negatives:
    """Draws the negatives of ITM from a batch.

    cosines:  (B, B) of both directions; None without ITC, and then every draw is uniform
    match_BB: (B, B) bool, images by texts: they describe each other
    """
    to_text_BB = to_image_BB = torch.zeros(match_BB.shape, device=match_BB.device)
    if cosines is not None:  # without ITC there is nothing to be hard by
        to_text_BB, to_image_BB = (its / state.temperature.detach() for its in cosines)
    return itm.draw_negatives(to_text_BB, to_image_BB, match_BB, state.settings.itm, generator)


def _negative_cosine(cosines: tuple[Tensor, Tensor], negatives: itm.Negatives) -> Tensor:
    """Returns the mean cosine of the drawn negatives, how hard they are; rows without one do not
    count.
    """
    drawn_2B = torch.stack([negatives.text_for_image_B, negatives.image_for_text_B])
    cosine_2BB = torch.stack(cosines)
    negative_2B = cosine_2BB.gather(2, drawn_2B.clamp(min=0)[..., None]).squeeze(2)
    there_2B = drawn_2B >= 0
    return (negative_2B * there_2B).sum() / there_2B.sum().clamp(min=1)


def matching(
    design: FusionDesign, image: ImageStates, text: TextStates, negatives: itm.Negatives
) -> Term:
    """Computes ITM over positives and negatives, fused in one call of 3 B rows, read at [CLS]."""
    image_rows, text_rows, labels = itm.rows_of(image, text, negatives)
    fused = design.fuse(image_rows, text_rows, read_at_BR=labels.new_zeros(len(labels), 0))
    return classified(design.heads["itm"](fused.pooled_BD), labels)


def total(by_objective: Mapping[str, Term], objectives: Objectives) -> Tensor:
    """Returns the weighted sum of the mean losses, what is minimised."""
    weighted = [getattr(objectives, name).weight * term.loss for name, term in by_objective.items()]
    return torch.stack(weighted).sum()
