"""Image-text matching: B true pairs, B captions with a wrong picture, B with a wrong caption.

The form is ALBEF's (Li et al. 2021): labels 1, 0, 0, and negatives drawn inside the batch by ITC
similarity. Matching pairs (same group, picture or caption) are taken out before the softmax, so
that a drawn negative is never a true pair, unless the settings ask for the published form. A share
of the wrong captions may be the own ones in another arrangement (NegCLIP, Yuksekgonul et al. 2023).
A row without any negative is left out of the loss.

Letters: B rows (the batch).
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
    """For each row of the batch the row of its negative, or -1 where there is none.

    image_for_text_B: (B,) int64, the picture that is wrong for each caption
    text_for_image_B: (B,) int64, the caption that is wrong for each picture
    """

    image_for_text_B: Tensor
    text_for_image_B: Tensor

    def with_swaps(self, swapped_at_B: Tensor, behind: int) -> Negatives:
        """Puts the caption in another arrangement in the place of the wrong caption, for the rows
        that bring one: those captions stand behind as many others.
        """
        text_B = torch.where(swapped_at_B < 0, self.text_for_image_B, behind + swapped_at_B)
        return dataclasses.replace(self, text_for_image_B=text_B)


def weights(logits_BB: Tensor, match_BB: Tensor, settings: ITM) -> Tensor:
    """Returns the (B, B) weights by which each column is drawn for each row; a row of zeros has no
    column to draw.

    A share `hard_share` of the weight is the softmax of the logits over the columns that may be
    drawn, the rest is uniform over them. With `same` = "negative", as published, the softmax runs
    over all columns, the own pair's weight is set to 0 afterwards without dividing the rest again,
    and other pairs that match are drawn like any.

    logits_BB: (B, B) cosine / temperature
    match_BB:  (B, B) bool, row and column match
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
    """Draws one column for each row by its weights (B, B): int64 (B,), -1 where all weights are 0
    (nothing may be drawn or, in the published form, no weight that a float can tell from 0).
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
    """Draws the negatives of both sides, those of the texts first.

    image_to_text_BB: (B, B) logits of each image with the texts of the batch
    text_to_image_BB: (B, B) logits of each text with the images of the batch
    match_BB:         (B, B) bool, images by texts: they match
    """
    return Negatives(
        image_for_text_B=draw_rows(weights(text_to_image_BB, match_BB.T, settings), generator),
        text_for_image_B=draw_rows(weights(image_to_text_BB, match_BB, settings), generator),
    )


def rows_of(
    image: ImageStates, text: TextStates, negatives: Negatives
) -> tuple[ImageStates, TextStates, Tensor]:
    """Returns the states of the 3 B pairs to be fused and their labels (3 B,): 1 match, 0 no match,
    -100 no negative. The order is: true pairs, captions with a wrong picture, pictures with a wrong
    caption.
    """
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
