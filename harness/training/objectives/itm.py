"""Image-text matching: B true pairs, B captions with a wrong picture, B with a wrong caption.

ALBEF's form (Li et al. 2021): labels 1, 0, 0; negatives drawn inside the batch by ITC similarity.
Matching pairs (same group, picture or caption) are taken out before the softmax, so a drawn
negative is never a true pair, unless the settings ask for the published form; a row without any
candidate is left out of the loss.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from architectures.contract import ImageStates, TextStates
from harness.training.objectives.term import full
from harness.training.settings.objectives import ITM


@dataclasses.dataclass(frozen=True)
class Negatives:
    """For each row of the batch, a row of the other modality that does not match it, or -1."""

    image_for_text_B: Tensor
    text_for_image_B: Tensor


def weights(logits_BB: Tensor, match_BB: Tensor, settings: ITM) -> Tensor:
    """With what weight each column is drawn for each row; a row of zeros has no candidate.

    Hard ones by the softmax of the logits over the candidates. `same` = negative, as published:
    the softmax is over all, the own pair's weight set to 0 afterwards, the rest not divided again,
    and other pairs that match are drawn like any.
    """
    own_BB = torch.eye(len(match_BB), dtype=torch.bool, device=match_BB.device)
    never_BB = own_BB if settings.same == "negative" else match_BB | own_BB
    logits_BB = full(logits_BB)
    if settings.same == "negative":
        hard_BB = logits_BB.softmax(dim=1).masked_fill(never_BB, 0.0)
    else:
        hard_BB = logits_BB.masked_fill(never_BB, -torch.inf).softmax(dim=1)
    if settings.hard_share < 1:
        free_BB = (~never_BB).to(hard_BB.dtype)
        uniform_BB = free_BB / free_BB.sum(dim=1, keepdim=True)
        hard_BB = settings.hard_share * hard_BB + (1 - settings.hard_share) * uniform_BB
    return hard_BB.masked_fill(never_BB.all(dim=1, keepdim=True), 0.0)


def draw_rows(weights_BB: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One column per row by its weight, or -1 where all are 0: no candidate, or, in the published
    form, none that a float can tell from 0.
    """
    # NaN: a model that has diverged (its loss says so). Equal weights keep the draw defined.
    weights_BB = torch.where(weights_BB.isfinite(), weights_BB, 1.0)
    largest_B1 = weights_BB.amax(dim=1, keepdim=True)
    none_B1 = largest_B1 == 0
    # A share of the largest: torch draws columns of weight 0 where all are near the least float.
    weights_BB = (weights_BB / largest_B1).masked_fill(none_B1, 1.0)
    drawn_B1 = torch.multinomial(weights_BB, 1, generator=generator)
    return torch.where(none_B1, -1, drawn_B1).squeeze(1)


@torch.no_grad()
def draw_negatives(
    image_to_text_BB: Tensor,
    text_to_image_BB: Tensor,
    match_BB: Tensor,
    settings: ITM,
    generator: torch.Generator | None = None,
) -> Negatives:
    """Negatives for both sides. The first two: logits of each image with the texts of the batch and
    of each text with its images; `match_BB`: images by texts.
    """
    return Negatives(
        image_for_text_B=draw_rows(weights(text_to_image_BB, match_BB.T, settings), generator),
        text_for_image_B=draw_rows(weights(image_to_text_BB, match_BB, settings), generator),
    )


def rows_of(
    image: ImageStates, text: TextStates, negatives: Negatives
) -> tuple[ImageStates, TextStates, Tensor]:
    """The 3 B pairs to be fused and their labels: 1 match, 0 no match, -100 no negative."""
    wrong_image_B, wrong_text_B = negatives.image_for_text_B, negatives.text_for_image_B
    own_B = torch.arange(len(wrong_image_B), device=wrong_image_B.device)
    image_rows = torch.cat([own_B, wrong_image_B.clamp(min=0), own_B])
    text_rows = torch.cat([own_B, own_B, wrong_text_B.clamp(min=0)])
    zeros = torch.zeros_like(own_B)
    labels = torch.cat(
        [
            zeros + 1,
            torch.where(wrong_image_B < 0, -100, zeros),
            torch.where(wrong_text_B < 0, -100, zeros),
        ]
    )
    return image.take(image_rows), text.take(text_rows), labels
