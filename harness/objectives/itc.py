"""Image-text contrastive learning over the batch: with a learnable temperature, or with a margin.

Symmetric cross-entropy of cosine / temperature (CLIP, Radford et al. 2021; ALBEF, Li et al. 2021),
or VSE++'s hinges (Faghri et al. 2018; fartashf/vsepp), with the rule of identity: a caption that
also describes another picture of the batch is not its negative.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.objectives.term import Term, full, soft_cross_entropy
from harness.settings import ITC


def targets(match_BB: Tensor, same: str) -> tuple[Tensor, Tensor]:
    """What each row should point to, and which columns are left out.

    `match_BB`: True where column's item matches the row's. Returns targets (rows sum to 1) and a
    mask of columns to leave out. `same`: see `settings.ITC`.
    """
    own_BB = torch.eye(len(match_BB), dtype=torch.bool, device=match_BB.device)
    nothing_BB = torch.zeros_like(own_BB)
    if same == "positive":
        wanted_BB = (match_BB | own_BB).double()
        return wanted_BB / wanted_BB.sum(dim=1, keepdim=True), nothing_BB
    left_out_BB = match_BB & ~own_BB if same == "masked" else nothing_BB
    return own_BB.float(), left_out_BB


def one_way(logits_BB: Tensor, match_BB: Tensor, same: str) -> Term:
    """Cross-entropy of rows over columns; right where the best column matches the row."""
    targets_BB, left_out_BB = targets(match_BB, same)
    logits_BB = full(logits_BB).masked_fill(left_out_BB, -torch.inf)
    return _term(soft_cross_entropy(logits_BB, targets_BB.to(logits_BB)), logits_BB, match_BB)


def _term(loss_sum: Tensor, scores_BB: Tensor, match_BB: Tensor) -> Term:
    """A row is right where its best column matches it."""
    best_B1 = scores_BB.argmax(dim=1, keepdim=True)
    own_BB = torch.eye(len(match_BB), dtype=torch.bool, device=match_BB.device)
    correct = (match_BB | own_BB).gather(1, best_B1).sum()
    return Term(loss_sum, correct, torch.tensor(len(match_BB), device=scores_BB.device))


def contrastive(similarity_BB: Tensor, temperature: Tensor, match_BB: Tensor, same: str) -> Term:
    """Mean of image-to-text and text-to-image.

    `similarity_BB`: cosines, rows images, columns texts. `match_BB`: text of the column describes
    the image of the row. The term counts 2 B items.
    """
    logits_BB = similarity_BB / temperature
    return one_way(logits_BB, match_BB, same) + one_way(logits_BB.T, match_BB.T, same)


def hinge_one_way(similarity_BB: Tensor, match_BB: Tensor, settings: ITC) -> Term:
    """Sum over rows of max(0, margin - own cosine + negative's): of all negatives of a row, or of
    the largest.
    """
    similarity_BB = full(similarity_BB)
    own_BB = torch.eye(len(match_BB), dtype=torch.bool, device=match_BB.device)
    spared_BB = own_BB if settings.same == "negative" else own_BB | match_BB
    above_BB = settings.margin - similarity_BB.diagonal()[:, None] + similarity_BB
    above_BB = above_BB.clamp(min=0).masked_fill(spared_BB, 0.0)
    loss_B = above_BB.amax(dim=1) if settings.loss == "hinge_max" else above_BB.sum(dim=1)
    left_out_BB = targets(match_BB, settings.same)[1]
    return _term(loss_B.sum(), similarity_BB.masked_fill(left_out_BB, -torch.inf), match_BB)


def hinge(similarity_BB: Tensor, match_BB: Tensor, settings: ITC) -> Term:
    """Image-to-text and text-to-image, added up as VSE++ does. The term counts 2 B items, as
    `contrastive` does, so its mean is VSE++'s sum over the batch divided by 2 B.
    """
    image_to_text = hinge_one_way(similarity_BB, match_BB, settings)
    return image_to_text + hinge_one_way(similarity_BB.T, match_BB.T, settings)


def aligned(similarity_BB: Tensor, temperature: Tensor, match_BB: Tensor, settings: ITC) -> Term:
    """The loss that the settings name. Arguments as in `contrastive`."""
    if settings.loss == "softmax":
        return contrastive(similarity_BB, temperature, match_BB, settings.same)
    return hinge(similarity_BB, match_BB, settings)
