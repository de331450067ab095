"""Makes of what each worker computes on its part of a batch what one worker makes of all of it.

The parts are equally long, but how many words are hidden in each, and how many rows have a
negative, is not: means are taken over the items of all parts. Negatives of ITM are drawn from the
whole batch by every worker, with the same draws as one worker; the states of those that another
worker has encoded are gathered (as in salesforce/LAVIS's BLIP-2), with gradients.

Letters: W workers, B rows of one worker, N = W B rows of the batch, K candidates of ITC.
"""

from __future__ import annotations

import torch
from torch import Tensor

from architectures.contract import ImageStates, TextStates
from architectures.layout import Layout
from harness.training.objectives.gather import gathered, rank, summed, workers
from harness.training.objectives.itm import Negatives
from harness.training.objectives.term import Losses, Term
from harness.training.settings.objectives import Objectives


def draws_from_all(objectives: Objectives) -> bool:
    """Says whether ITM draws its negatives among the rows of all workers, and there are several."""
    return workers() > 1 and objectives.itm.gather and objectives.itc.gather


def square(cosine_BK: Tensor) -> Tensor:
    """Returns the cosines (N, N) of all rows with all rows' own candidates, in the order of the
    workers, without gradient. `cosine_BK`: own rows with candidates, the own ones first, those of
    the next workers after them.
    """
    rows = len(cosine_BK)
    ring_BN = cosine_BK.detach()[:, : rows * workers()]
    return gathered(ring_BN.roll(rank() * rows, dims=1), own_first=False)


def own_rows(negatives: Negatives, rows: int) -> Negatives:
    """Returns the negatives of this worker's `rows` rows, of those drawn for the whole batch."""
    own = slice(rank() * rows, (rank() + 1) * rows)
    return Negatives(negatives.image_for_text_B[own], negatives.text_for_image_B[own])


def with_those_of_all(
    image: ImageStates, text: TextStates, negatives: Negatives
) -> tuple[ImageStates, TextStates, Negatives]:
    """Puts the states of the rows' negatives behind the own B rows, whoever encoded them: row i's
    is row B + i. `negatives`: rows of the whole batch; returned are rows of these states.
    """
    wrong_image_B, wrong_text_B = negatives.image_for_text_B, negatives.text_for_image_B
    others_B = len(wrong_image_B) + torch.arange(len(wrong_image_B), device=wrong_image_B.device)
    return (
        ImageStates.join([image, _images(image).take(wrong_image_B.clamp(min=0))]),
        TextStates.join([text, _texts(text).take(wrong_text_B.clamp(min=0))]),
        Negatives(
            image_for_text_B=torch.where(wrong_image_B < 0, -1, others_B),
            text_for_image_B=torch.where(wrong_text_B < 0, -1, others_B),
        ),
    )


def _images(image: ImageStates) -> ImageStates:
    """Gathers the states of all workers' images, in the order of the workers."""
    return ImageStates(
        distinct_UPD=gathered(image.tokens_BPD, own_first=False),
        pooled=lambda: gathered(image.pooled_BD, own_first=False),
        layers=tuple(gathered(image.by_row(layer), own_first=False) for layer in image.layers),
    )


def _texts(text: TextStates) -> TextStates:
    """Gathers the states of all workers' texts, in the order of the workers."""
    own = text.layout
    is_real_NL = gathered(own.is_real_BL.byte(), own_first=False).bool()
    layout = Layout.of(is_real_NL, packed=own.flat_T is not None)

    def of_all(x_TD: Tensor) -> Tensor:
        return layout.pack(gathered(own.unpack(x_TD), own_first=False))

    return TextStates(
        tokens_TD=of_all(text.tokens_TD),
        layout=layout,
        pooled=lambda: gathered(text.pooled_BD, own_first=False),
        layers=tuple(of_all(layer) for layer in text.layers),
    )


def whole(losses: Losses) -> Losses:
    """Returns the losses of the whole batch, on every worker alike. The gradient of each is that of
    the own part times W, so that the mean of the workers' gradients is the gradient of the whole.
    """
    if workers() == 1:
        return losses
    own = [
        torch.stack([term.loss_sum.detach(), term.correct, term.items]).double()
        for term in losses.terms.values()
    ]
    sums = dict(zip(losses.terms, summed(torch.stack(own)), strict=True))
    terms = {
        name: Term(
            sums[name][0].to(term.loss_sum) + workers() * (term.loss_sum - term.loss_sum.detach()),
            sums[name][1].to(term.correct),
            sums[name][2].to(term.items),
        )
        for name, term in losses.terms.items()
    }
    return Losses(terms, _notes(losses, terms))


def _notes(losses: Losses, terms: dict[str, Term]) -> dict[str, Tensor]:
    """Returns the means of what is only shown, each worker's weighed by the items of the objective
    that its name begins with.
    """
    if not losses.notes:
        return {}
    shares = []
    for name, note in losses.notes.items():
        objective = name.partition("_")[0]
        share = losses.terms[objective].items / terms[objective].items.clamp(min=1)
        shares.append(note.detach().double() * share)
    values = summed(torch.stack(shares)).float()
    return dict(zip(losses.notes, values, strict=True))
