"""Image-text matching: B true pairs, B captions with a wrong picture, B with a wrong caption.

ALBEF's form (Li et al. 2021): labels 1, 0, 0; negatives drawn inside the batch by ITC similarity.
Matching pairs (same group, picture or caption) are taken out before the softmax, so a drawn
negative is never a true pair, and a row without any candidate is left out of the loss.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from architectures.contract import ImageStates, TextStates
from harness.objectives.term import full


@dataclasses.dataclass(frozen=True)
class Negatives:
    """For each row of the batch, a row of the other modality that does not match it, or -1."""

    image_for_text_B: Tensor
    text_for_image_B: Tensor


def draw_rows(
    logits_BB: Tensor, match_BB: Tensor, hard_share: float, generator: torch.Generator | None
) -> Tensor:
    """One column per row among those that do not match, or -1 where all do.

    Drawn by the softmax of the logits with chance `hard_share`, else uniformly.
    """
    none_B1 = match_BB.all(dim=1, keepdim=True)
    hard_BB = full(logits_BB).masked_fill(match_BB, -torch.inf).softmax(dim=1)
    free_BB = (~match_BB).to(hard_BB.dtype)
    uniform_BB = free_BB / free_BB.sum(dim=1, keepdim=True)
    weights_BB = hard_share * hard_BB + (1 - hard_share) * uniform_BB
    # NaN: a row without candidates (-1 follows), or a model that has diverged (its loss says so).
    # Equal weights keep the draw defined.
    weights_BB = torch.where(weights_BB.isfinite(), weights_BB, 1.0)
    drawn_B1 = torch.multinomial(weights_BB, 1, generator=generator)
    return torch.where(none_B1, -1, drawn_B1).squeeze(1)


@torch.no_grad()
def draw_negatives(
    logits_BB: Tensor,
    match_BB: Tensor,
    hard_share: float,
    generator: torch.Generator | None = None,
) -> Negatives:
    """Negatives for both sides. `logits_BB`: images by texts, after temperature."""
    return Negatives(
        image_for_text_B=draw_rows(logits_BB.T, match_BB.T, hard_share, generator),
        text_for_image_B=draw_rows(logits_BB, match_BB, hard_share, generator),
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
