"""Courses: what each model of a warm start learns. A course is a module of a model and its loss; it
reads a batch and returns the loss to minimise and the term to measure.

Letters: B rows, L text positions, R positions read, N rows times positions read, K classes, T flat
tokens, V vocabulary, D width.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from architectures.contract import FusionDesign, LearnsFromText
from harness.training.data.batches import Batch
from harness.training.objectives.forward import terms
from harness.training.objectives.state import ObjectiveState
from harness.training.objectives.term import Term, classified, full
from harness.training.one_modality.models import FillsPatches, MaskedWords, NamesClasses, halved
from harness.training.randomness import stream
from harness.training.settings.objectives import Objectives

TEMPERATURE = 2.0
SOFT, HARD, COSINE = 5.0, 2.0, 1.0
"""DistilBERT's temperature and weights of its three losses (Sanh et al. 2019, their code)."""
HIDDEN_SHARE = 0.6
"""Of the patches (Xie et al. 2022)."""


class Words(nn.Module):
    """Masked language modelling on captions alone (BERT, Devlin et al. 2019)."""

    def __init__(self, model: MaskedWords) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> tuple[Tensor, Term]:
        """Returns the mean loss and the term of the masked positions."""
        logits_NV, _ = self.model(
            batch.masked_ids_BL, batch.text_is_real_BL, batch.mask_positions_BR
        )
        term = classified(logits_NV, batch.mask_labels_BR.flatten())
        return term.loss, term


class Distilled(nn.Module):
    """DistilBERT's three losses (Sanh et al. 2019), weighted by `SOFT`, `HARD` and `COSINE`: the
    divergence from the teacher's softened words at masked positions (the paper: at all positions),
    the cross-entropy with the true words, and 1 - cosine between the last states of the two.
    """

    def __init__(self, teacher: MaskedWords) -> None:
        super().__init__()
        self.model = halved(teacher)
        self.teacher = copy.deepcopy(teacher).requires_grad_(False)

    def forward(self, batch: Batch) -> tuple[Tensor, Term]:
        masked = (batch.masked_ids_BL, batch.text_is_real_BL, batch.mask_positions_BR)
        labels_N = batch.mask_labels_BR.flatten()
        logits_NV, states_TD = self.model(*masked)
        with torch.no_grad():
            taught_NV, taught_TD = self.teacher.eval()(*masked)
        soft_N = F.kl_div(
            (full(logits_NV) / TEMPERATURE).log_softmax(-1),
            (full(taught_NV) / TEMPERATURE).softmax(-1),
            reduction="none",
        ).sum(-1)
        apart_T = 1 - F.cosine_similarity(full(states_TD), full(taught_TD), dim=-1)
        soft = TEMPERATURE**2 * _mean(soft_N, labels_N != -100)
        term = classified(logits_NV, labels_N)
        apart = _mean(apart_T, batch.text_is_real_BL.flatten())
        return SOFT * soft + HARD * term.loss + COSINE * apart, term


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Returns the mean of the values that are counted; 0 where none is."""
    return (values * counted).sum() / counted.sum().clamp(min=1)


class Classes(nn.Module):
    """Classification: the course names the group that a picture is of."""

    def __init__(self, model: NamesClasses, groups_K: Tensor) -> None:
        """`groups_K`: (K,) int64, the group of each class, ascending."""
        super().__init__()
        self.model = model
        self.register_buffer("groups_K", groups_K)

    def labels(self, batch: Batch) -> Tensor:
        """Returns the class (B,) int64 of every picture."""
        return torch.searchsorted(self.get_buffer("groups_K"), batch.identity.group_B)

    def forward(self, batch: Batch) -> tuple[Tensor, Term]:
        term = classified(self.model(batch.pixels()), self.labels(batch))
        return term.loss, term


class Patches(nn.Module):
    """The pixels of hidden patches, predicted from the others (SimMIM, Xie et al. 2022)."""

    def __init__(self, model: FillsPatches, patches: int, seed: int) -> None:
        super().__init__()
        self.model, self.patches, self.seed = model, patches, seed

    def forward(self, batch: Batch) -> tuple[Tensor, Term]:
        """Returns mean squared error and term. The term's `correct` is no count here: it is the
        squared error of predicting every patch by its own mean, to compare with.
        """
        draw_BP = stream(self.seed, "hidden patches", batch.step).random((len(batch), self.patches))
        hidden = max(1, round(HIDDEN_SHARE * self.patches))
        at_BR = torch.from_numpy(np.argsort(draw_BP, axis=1, kind="stable")[:, :hidden].copy())
        predicted_NK, true_NK = self.model(batch.pixels(), at_BR.to(batch.ids_BL.device))
        error = F.mse_loss(full(predicted_NK), true_NK, reduction="sum")
        items = torch.tensor(true_NK.numel(), device=true_NK.device)
        return error / items, Term(error, true_NK.square().sum(), items)


class Aligned(nn.Module):
    """The contrastive loss between two towers (CLIP, Radford et al. 2021; ITC as runs have it)."""

    def __init__(self, design: FusionDesign) -> None:
        super().__init__()
        alone = Objectives().with_fields({"itm.weight": 0.0, "mlm.weight": 0.0})
        self.design, self.state = design, ObjectiveState(alone, design)

    def forward(self, batch: Batch) -> tuple[Tensor, Term]:
        self.state.clamp()  # the temperature, which learns too
        term = terms(self.design, self.state, batch, negatives=torch.Generator()).terms["itc"]
        return term.loss, term


class TextAlone(nn.Module):
    """Masked language modelling by the text parts of a design; what images share is frozen."""

    def __init__(self, model: FusionDesign, trains: tuple[str, ...]) -> None:
        """Freezes every parameter of `model` whose role begins with no prefix in `trains`."""
        super().__init__()
        self.model = model
        for role, parameter in model.named_parameters():
            parameter.requires_grad_(role.startswith(trains))

    def forward(self, batch: Batch) -> tuple[Tensor, Term]:
        model = self.model
        assert isinstance(model, LearnsFromText)
        masked = (batch.masked_ids_BL, batch.text_is_real_BL, batch.mask_positions_BR)
        logits_NV = model.heads["mlm"](model.text_alone(*masked))
        term = classified(logits_NV, batch.mask_labels_BR.flatten())
        return term.loss, term


Course = Words | Distilled | Classes | Patches | Aligned | TextAlone


def flops_of(course: Course, batch: Batch) -> float:
    """Returns the FLOPs of one step, forward and backward, counted on the meta device."""
    on_meta = copy.deepcopy(course).to("meta").train()
    with FlopCounterMode(display=False) as counter:
        on_meta(batch.to("meta"))[0].backward()
    return float(counter.get_total_flops())
