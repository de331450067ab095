"""Image-text contrastive learning: with a learnable temperature, pair by pair, or with a margin.

The loss is a symmetric cross-entropy of cosine / temperature (CLIP, Radford et al. 2021), over the
batch or over a momentum teacher's features of it and a queue, with soft targets (ALBEF, Li et al.
2021); SigLIP's sum over pairs (Zhai et al. 2023); or VSE++'s hinges (Faghri et al. 2018;
fartashf/vsepp). The rule of identity holds in batch and queue alike: a caption that also describes
another picture is not its negative, unless the setting `same` says so.

Letters: B rows (the batch), K candidates, of which the first B are the rows' own pairs in order.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.training.objectives.term import Term, full
from harness.training.settings.objectives import ITC


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """One direction, images to texts or texts to images: each row of the batch with all candidates.

    cosine_BK: (B, K) cosines, in [-1, 1]
    match_BK:  (B, K) bool, the candidate matches the row (`data.identity.matches`); column i of row
               i, the row's own pair, is taken to match whatever stands here
    taught_BK: (B, K) the teacher's cosines of the same rows with the same candidates, or None
    """

    cosine_BK: Tensor
    match_BK: Tensor
    taught_BK: Tensor | None = None

    def own_BK(self) -> Tensor:
        """Returns a (B, K) bool: the candidate is the row's own pair."""
        own_BK = torch.zeros_like(self.match_BK)
        own_BK.diagonal().fill_(True)
        return own_BK


def targets(scores: Scores, same: str) -> tuple[Tensor, Tensor]:
    """Returns the (B, K) shares that each row should give its candidates (rows sum to 1), and a
    (B, K) bool of candidates to leave out. `same`: see `settings.objectives.ITC`.
    """
    own_BK = scores.own_BK()
    nothing_BK = torch.zeros_like(own_BK)
    if same == "positive":
        wanted_BK = (scores.match_BK | own_BK).double()
        return wanted_BK / wanted_BK.sum(dim=1, keepdim=True), nothing_BK
    left_out_BK = scores.match_BK & ~own_BK if same == "masked" else nothing_BK
    return own_BK.float(), left_out_BK


def softened(scores: Scores, temperature: Tensor, left_out_BK: Tensor) -> Tensor:
    """Returns the teacher's (B, K) softmax over the candidates that are not left out; no gradient
    reaches the teacher or the temperature.
    """
    assert scores.taught_BK is not None
    logits_BK = full(scores.taught_BK.detach() / temperature.detach())
    return logits_BK.masked_fill(left_out_BK, -torch.inf).softmax(dim=1)


def one_way(
    scores: Scores, temperature: Tensor, same: str, alpha: float = 0.0
) -> tuple[Term, Tensor]:
    """Computes the cross-entropy of one direction, summed over its B rows. A row counts as correct
    where its best candidate matches it. A teacher's softmax is a share alpha of the targets.

    Also returns the two parts by themselves, [against the pairs, against the teacher], as sums over
    rows and without gradient; without a teacher the second is 0.
    """
    targets_BK, left_out_BK = targets(scores, same)
    logits_BK = full(scores.cosine_BK / temperature).masked_fill(left_out_BK, -torch.inf)
    log_BK = logits_BK.log_softmax(dim=1).masked_fill(left_out_BK, 0.0)  # else 0 * -inf
    targets_BK = targets_BK.to(log_BK)
    hard = distil = -(targets_BK * log_BK.detach()).sum()
    if scores.taught_BK is None:
        wanted_BK, distil = targets_BK, torch.zeros_like(hard)
    else:
        taught_BK = softened(scores, temperature, left_out_BK)
        wanted_BK = alpha * taught_BK + (1 - alpha) * targets_BK
        distil = -(taught_BK * log_BK.detach()).sum()
    loss = -(wanted_BK * log_BK).sum()
    return _term(loss, logits_BK, scores), torch.stack([hard, distil])


def _term(loss_sum: Tensor, scores_BK: Tensor, scores: Scores) -> Term:
    """Builds the term of B rows; a row is correct where its best candidate matches it."""
    best_B1 = scores_BK.argmax(dim=1, keepdim=True)
    correct = (scores.match_BK | scores.own_BK()).gather(1, best_B1).sum()
    return Term(loss_sum, correct, scores_BK.new_full((), len(best_B1), dtype=torch.int64))


def contrastive(
    image_to_text: Scores, text_to_image: Scores, temperature: Tensor, same: str, alpha: float = 0.0
) -> tuple[Term, dict[str, Tensor]]:
    """Computes the softmax loss over both directions: the term counts 2 B items, so its mean is the
    mean of the two. With a teacher also returns the curves of the loss against the pairs and of the
    loss against its softmax (means).
    """
    one, one_parts = one_way(image_to_text, temperature, same, alpha)
    other, other_parts = one_way(text_to_image, temperature, same, alpha)
    term = one + other
    if image_to_text.taught_BK is None:
        return term, {}
    hard, distil = ((one_parts + other_parts) / term.items).unbind()
    return term, {"itc_hard_loss": hard, "itc_distil_loss": distil}


def hinge_one_way(scores: Scores, settings: ITC) -> Term:
    """Sums max(0, margin - own cosine + a negative's) over the rows of one direction: over all
    negatives of a row (`hinge_sum`), or the largest alone (`hinge_max`). The candidates are the
    batch (K = B).
    """
    similarity_BB = full(scores.cosine_BK)
    own_BB = scores.own_BK()
    spared_BB = own_BB if settings.same == "negative" else own_BB | scores.match_BK
    above_BB = settings.margin - similarity_BB.diagonal()[:, None] + similarity_BB
    above_BB = above_BB.clamp(min=0).masked_fill(spared_BB, 0.0)
    loss_B = above_BB.amax(dim=1) if settings.loss == "hinge_max" else above_BB.sum(dim=1)
    left_out_BB = targets(scores, settings.same)[1]
    return _term(loss_B.sum(), similarity_BB.masked_fill(left_out_BB, -torch.inf), scores)


def hinge(image_to_text: Scores, text_to_image: Scores, settings: ITC) -> Term:
    """Adds up the hinges of both directions, as VSE++ does. The term counts 2 B items, as that of
    `contrastive` does, so its mean is VSE++'s sum over the batch divided by 2 B.
    """
    return hinge_one_way(image_to_text, settings) + hinge_one_way(text_to_image, settings)


def sigmoid_one_way(scores: Scores, temperature: Tensor, bias: Tensor, same: str) -> Term:
    """Sums -log sigmoid(+-(cosine / temperature + bias)) over the rows of one direction and all
    their candidates, + where they match (SigLIP's loss, as its paper and `SiglipModel` have it).
    """
    logits_BK = full(scores.cosine_BK / temperature + bias)
    shares_BK, left_out_BK = targets(scores, same)
    sign_BK = torch.where(shares_BK > 0, 1.0, -1.0).to(logits_BK)
    loss_BK = -F.logsigmoid(sign_BK * logits_BK).masked_fill(left_out_BK, 0.0)
    return _term(loss_BK.sum(), logits_BK.masked_fill(left_out_BK, -torch.inf), scores)


def sigmoid(
    image_to_text: Scores, text_to_image: Scores, temperature: Tensor, bias: Tensor, same: str
) -> Term:
    """Adds up the pairs of both directions. The term counts 2 B items, so its mean is SigLIP's: the
    sum over the pairs of a batch, each once, divided by B.
    """
    one = sigmoid_one_way(image_to_text, temperature, bias, same)
    return one + sigmoid_one_way(text_to_image, temperature, bias, same)


def aligned(
    image_to_text: Scores,
    text_to_image: Scores,
    temperature: Tensor,
    settings: ITC,
    alpha: float = 0.0,
    bias: Tensor | None = None,
) -> tuple[Term, dict[str, Tensor]]:
    """Computes the loss that `settings.loss` names, and the curves of its parts. The arguments are
    those of `contrastive`; `bias`: of `sigmoid`, which learns.
    """
    if settings.loss == "sigmoid":
        assert bias is not None
        return sigmoid(image_to_text, text_to_image, temperature, bias, settings.same), {}
    if settings.loss == "softmax":
        return contrastive(image_to_text, text_to_image, temperature, settings.same, alpha)
    return hinge(image_to_text, text_to_image, settings), {}
