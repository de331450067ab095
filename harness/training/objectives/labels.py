"""Labelled tasks learn by cross-entropy with labels, or by the likelihood of answers.

The losses are those of salesforce/ALBEF's fine-tuning (Li et al. 2021), whose momentum twin may
soften the labels, and of METER's VQA (Dou et al. 2022).

Letters: B rows, K labels, A answers, L answer positions, V vocabulary.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from harness.training.objectives.term import Term, full


def expected_worth(logits_BK: Tensor, worth_BK: Tensor) -> Tensor:
    """Returns (B,) what the label of the highest logit is worth, the mean over all that tie for it:
    equal logits earn the mean worth, whatever the labels' order.
    """
    best_BK = (logits_BK == logits_BK.amax(1, keepdim=True)).to(worth_BK.dtype)
    worth_B = (best_BK * worth_BK).sum(1) / best_BK.sum(1)
    return worth_B.nan_to_num()  # logits that are no number earn nothing


def labelled(
    logits_BK: Tensor, labels_B: Tensor, taught_BK: Tensor | None = None, distil: float = 0.0
) -> Term:
    """Returns the term of one right label a row.

    The loss of a row is (1 - distil) x cross-entropy with its label + distil x cross-entropy with
    the twin's softmax.

    logits_BK: (B, K)
    labels_B: (B,) int64
    taught_BK: (B, K) the twin's logits, or None; no gradient reaches them
    """
    logits_BK = full(logits_BK)
    loss_sum = F.cross_entropy(logits_BK, labels_B, reduction="sum")
    if taught_BK is not None:
        soft_BK = full(taught_BK.detach()).softmax(-1)
        soft_sum = F.cross_entropy(logits_BK, soft_BK, reduction="sum")
        loss_sum = (1 - distil) * loss_sum + distil * soft_sum
    right_BK = F.one_hot(labels_B, logits_BK.shape[1]).to(logits_BK)
    correct = expected_worth(logits_BK.detach(), right_BK).sum()
    return Term(loss_sum, correct, labels_B.new_tensor(len(labels_B)))


def multi_labelled(logits_BK: Tensor, targets_BK: Tensor) -> Term:
    """Returns the term of answers that are each right to a degree (METER's VQA): binary
    cross-entropy, summed over the answers. `correct` is what the likeliest answers are worth.

    logits_BK: (B, K)
    targets_BK: (B, K) float in [0, 1]
    """
    logits_BK = full(logits_BK)
    targets_BK = targets_BK.to(logits_BK)
    loss_sum = F.binary_cross_entropy_with_logits(logits_BK, targets_BK, reduction="sum")
    correct = expected_worth(logits_BK.detach(), targets_BK).sum()
    return Term(loss_sum, correct, logits_BK.new_tensor(len(logits_BK)).long())


def answer_losses(
    logits_ALV: Tensor,
    ids_AL: Tensor,
    is_real_AL: Tensor,
    taught_ALV: Tensor | None = None,
    distil: float = 0.0,
) -> Tensor:
    """Returns (A,) the loss of each answer, the sum over its tokens.

    logits_ALV: (A, L, V), those at position p predict token p + 1
    ids_AL: (A, L) int64, [CLS] first
    is_real_AL: (A, L) bool
    taught_ALV: (A, L, V) the twin's logits, or None; no gradient reaches them
    """
    logits_AVL = full(logits_ALV[:, :-1]).mT
    loss_AL = F.cross_entropy(logits_AVL, ids_AL[:, 1:], reduction="none")
    if taught_ALV is not None:
        soft_AVL = full(taught_ALV[:, :-1].detach()).softmax(-1).mT
        soft_AL = F.cross_entropy(logits_AVL, soft_AVL, reduction="none")
        loss_AL = (1 - distil) * loss_AL + distil * soft_AL
    return loss_AL.masked_fill(~is_real_AL[:, 1:], 0.0).sum(1)


def answered(
    logits_ALV: Tensor,
    ids_AL: Tensor,
    is_real_AL: Tensor,
    weight_A: Tensor,
    questions: int,
    taught_ALV: Tensor | None = None,
    distil: float = 0.0,
) -> Term:
    """Returns the term of answers that are decoded (ALBEF's VQA), whose items are the questions:
    the losses of `answer_losses`, weighted. `correct` is the weight of the answers every token of
    which is the likeliest.

    weight_A: (A,) float, the share of a question's people that gave the answer
    questions: how many questions the answers belong to
    The others are those of `answer_losses`.
    """
    loss_A = answer_losses(logits_ALV, ids_AL, is_real_AL, taught_ALV, distil)
    weight_A = weight_A.to(loss_A)
    likeliest_AL = logits_ALV[:, :-1].detach().argmax(-1)
    right_A = ((likeliest_AL == ids_AL[:, 1:]) | ~is_real_AL[:, 1:]).all(1)
    correct = weight_A[right_A].sum()
    return Term((weight_A * loss_A).sum(), correct, ids_AL.new_tensor(questions))
