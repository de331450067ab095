"""Masked language modelling with the picture in view: logits and loss at the masked positions.

The objective is BERT's (Devlin et al. 2019), read from fused states. Momentum distillation is
ALBEF's (Li et al. 2021), with the teacher's softmax over the vocabulary: the published code took it
over the positions of the text until March 2022 (salesforce/ALBEF, commit b726f8e).

Letters: B rows, R predictions of a row, N predictions of the batch, V vocabulary, D width.
"""

from __future__ import annotations

from torch import Tensor

from architectures.contract import FusionDesign, ImageStates, TextStates
from harness.training.data.batches import Batch
from harness.training.objectives.term import Term, classified, full, soft_cross_entropy


def hidden_words(
    design: FusionDesign, image: ImageStates, text: TextStates, batch: Batch
) -> Tensor:
    """Fuses masked captions (`text`) with their own pictures and returns the logits (N, V) of the
    masked positions, row after row.
    """
    fused = design.fuse(image, text, read_at_BR=batch.mask_positions_BR)
    states_ND = fused.text_BRD.flatten(0, 1).index_select(0, batch.hidden_N)
    return design.heads["mlm"](states_ND)


def masked_words(
    logits_NV: Tensor, labels_N: Tensor, taught_NV: Tensor | None = None, alpha: float = 0.0
) -> tuple[Term, dict[str, Tensor]]:
    """Returns the term of MLM, whose items are the N predictions, and the curves of its parts.

    The loss is (1 - alpha) x cross-entropy with the labels + alpha x cross-entropy with the
    teacher's softmax. The curves are the means of the two parts; without a teacher there are none.

    logits_NV: (N, V) the model's logits
    labels_N:  (N,) int64 token ids
    taught_NV: (N, V) the teacher's logits, or None; no gradient reaches them
    """
    term = classified(logits_NV, labels_N)
    if taught_NV is None:
        return term, {}
    taught_NV = full(taught_NV.detach()).softmax(dim=-1)
    distil_sum = soft_cross_entropy(full(logits_NV), taught_NV)
    items = term.items.clamp(min=1)
    parts = {
        "mlm_hard_loss": term.loss.detach(),
        "mlm_distil_loss": (distil_sum / items).detach(),
    }
    mixed = (1 - alpha) * term.loss_sum + alpha * distil_sum
    return Term(mixed, term.correct, term.items), parts
