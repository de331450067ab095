"""Image-text contrastive learning over the batch, with a learnable temperature.

Symmetric cross-entropy of cosine / temperature (CLIP, Radford et al. 2021; ALBEF, Li et al. 2021),
with the rule of identity: a caption that also describes another picture of the batch is not its
negative.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.objectives.term import Term, full, soft_cross_entropy


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
    best_B1 = logits_BB.argmax(dim=1, keepdim=True)
    own_BB = torch.eye(len(match_BB), dtype=torch.bool, device=match_BB.device)
    correct = (match_BB | own_BB).gather(1, best_B1).sum()
    items = torch.tensor(len(match_BB), device=logits_BB.device)
    return Term(soft_cross_entropy(logits_BB, targets_BB.to(logits_BB)), correct, items)


def contrastive(similarity_BB: Tensor, temperature: Tensor, match_BB: Tensor, same: str) -> Term:
    """Mean of image-to-text and text-to-image.

    `similarity_BB`: cosines, rows images, columns texts. `match_BB`: text of the column describes
    the image of the row. The term counts 2 B items.
    """
    logits_BB = similarity_BB / temperature
    return one_way(logits_BB, match_BB, same) + one_way(logits_BB.T, match_BB.T, same)
