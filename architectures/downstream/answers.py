"""Questions are answered by a causal decoder over the fused question, which ranks answers.

ALBEF's VQA (Li et al. 2021; salesforce/ALBEF, models/model_vqa.py). Of all answers those with the
likeliest first token are listed, and ranked by the likelihood of all of their tokens. There the
first token's probability counts twice, which is a switch here.

Shape suffixes: B questions, C candidate answers, K listed ones of a question, A answers, L
positions, V vocabulary, N pairs of a question with a listed answer.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from architectures.contract import AnswerDecoding, DecodesAnswers, Facts, FusionDesign, TextStates
from architectures.downstream.joint import facts_of
from architectures.downstream.model import TaskModel, refuse

LOWEST = -1e30
"""Log-likelihood of what is no number, of a model that has diverged: such answers tie."""
LOGITS_AT_ONCE = 2**25
"""Logits of the vocabulary that ranking holds at a time (128 MiB in float32)."""


def why_not(facts: Facts) -> str:
    """Says why no decoder answers for a design, as the end of 'not applicable, because ...'; empty:
    one does.
    """
    return facts.no_fuse or facts.no_decoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranked:
    """The listed answers of each question, by the probability of their first token, and what they
    scored.

    Where answers tie with the k-th by their first token, all of them are listed, so no order of the
    candidates decides who is; a question with fewer than K ends in places that are -1.
    """

    listed_BK: Tensor
    """(B, K) int64 places among the candidates, -1 where there is none."""
    first_BK: Tensor
    """(B, K) log-probability of the first token."""
    likelihood_BK: Tensor
    """(B, K) log-likelihood of all tokens, [SEP] included; -inf where there is none."""
    score_BK: Tensor
    """(B, K) what they are ranked by: that, or with the first token twice."""

    def best(self) -> tuple[Tensor, Tensor]:
        """Returns the listed places (B, K), best first, and their log-probabilities among those
        listed. Of equal scores the one listed first comes first; `worth` is fair to them.
        """
        order_BK = self.score_BK.argsort(dim=1, descending=True, stable=True)
        log_BK = self.score_BK.log_softmax(1)
        return self.listed_BK.gather(1, order_BK), log_BK.gather(1, order_BK)

    def worth(self, worth_BC: Tensor) -> Tensor:
        """Returns (B,) what the best answer is worth, the mean over all that tie for it."""
        best_BK = self.score_BK == self.score_BK.amax(1, keepdim=True)
        worth_BK = worth_BC.gather(1, self.listed_BK.clamp(min=0))
        return (best_BK * worth_BK).sum(1) / best_BK.sum(1)


class AnswerModel(TaskModel):
    """A design with a decoder of answers, which starts from its fusion layers.

    Roles: `design.ROLE`, `decoder.embeddings`, `decoder.layers.i`, `decoder.head`.
    """

    decoder: AnswerDecoding

    def __init__(self, design: FusionDesign) -> None:
        """Takes `design` as its own part. Raises `SettingError` with the reason where it cannot."""
        super().__init__()
        refuse(design, why_not(facts_of(design)))
        assert isinstance(design, DecodesAnswers)
        self.design: FusionDesign = design
        self.decoder = design.answer_decoder()

    def question_states(
        self, image_BCHW: Tensor, ids_BL: Tensor, text_is_real_BL: Tensor, *, packed: bool = False
    ) -> TextStates:
        """Returns the question's states, fused with its picture, at all positions.

        image_BCHW: (B, C, H, W) normalised pixels, float
        ids_BL: (B, L) int64 token ids
        text_is_real_BL: (B, L) bool
        packed: leave padding out of every layer
        """
        image = self.design.encode_image(image_BCHW)
        text = self.design.encode_text(ids_BL, text_is_real_BL, packed=packed)
        fused = self.design.fuse(image, text)
        layout = text.layout
        tokens_TD = layout.pack(fused.text_BRD)
        return TextStates(tokens_TD=tokens_TD, layout=layout, pooled=fused.pooled_BD)

    def forward(
        self,
        image_BCHW: Tensor,
        ids_BL: Tensor,
        text_is_real_BL: Tensor,
        answer_ids_AL: Tensor,
        answer_is_real_AL: Tensor,
        question_A: Tensor,
        *,
        packed: bool = False,
    ) -> Tensor:
        """Returns logits (A, L, V) of answers; those at position p are of token p + 1.

        answer_ids_AL: (A, L) int64 token ids, [CLS] first and [SEP] last
        answer_is_real_AL: (A, L) bool
        question_A: (A,) int64, the row of the question that each answers
        The others are those of `question_states`.
        """
        questions = self.question_states(image_BCHW, ids_BL, text_is_real_BL, packed=packed)
        return self.decoder(answer_ids_AL, answer_is_real_AL, questions.take(question_A))

    @torch.no_grad()
    def rank(
        self,
        questions: TextStates,
        ids_CL: Tensor,
        is_real_CL: Tensor,
        k: int,
        *,
        first_token_twice: bool = False,
    ) -> Ranked:
        """Lists the k answers with the likeliest first token, and those that tie with the last of
        them, and scores them by all of their tokens.

        questions: of `question_states`
        ids_CL: (C, L) int64 token ids of the candidates, [CLS] first and [SEP] last
        is_real_CL: (C, L) bool
        first_token_twice: add the first token's log-probability once more, as published
        """
        first_BC = self._first_tokens(questions, ids_CL)
        listed_BK = _listed(first_BC, k)
        first_BK = first_BC.gather(1, listed_BK.clamp(min=0))
        likelihood_BK = self._likelihoods(questions, ids_CL, is_real_CL, listed_BK)
        return Ranked(
            listed_BK=listed_BK,
            first_BK=first_BK,
            likelihood_BK=likelihood_BK,
            score_BK=likelihood_BK + first_BK if first_token_twice else likelihood_BK,
        )

    def _first_tokens(self, questions: TextStates, ids_CL: Tensor) -> Tensor:
        """Returns (B, C) the log-probability of each candidate's first token."""
        rows = len(questions.text_is_real_BL)
        start_B1 = ids_CL[:1, :1].expand(rows, 1)
        logits_BV = _full(self.decoder(start_B1, torch.ones_like(start_B1).bool(), questions)[:, 0])
        return _number(logits_BV.log_softmax(-1)[:, ids_CL[:, 1]])

    def _likelihoods(
        self, questions: TextStates, ids_CL: Tensor, is_real_CL: Tensor, listed_BK: Tensor
    ) -> Tensor:
        """Returns (B, K) the log-likelihood of the listed candidates, -inf at -1."""
        vocabulary = self.design.vocabulary
        pair_N = (listed_BK.flatten() >= 0).nonzero().squeeze(1)
        at_once = max(LOGITS_AT_ONCE // (vocabulary * ids_CL.shape[1]), 1)
        parts = []
        for place_N in pair_N.split(at_once):
            candidate_N = listed_BK.flatten()[place_N]
            ids_NL, is_real_NL = ids_CL[candidate_N], is_real_CL[candidate_N]
            question = questions.take(place_N // listed_BK.shape[1])
            logits_NLV = _full(self.decoder(ids_NL, is_real_NL, question)[:, :-1])
            of_token_NL = logits_NLV.gather(-1, ids_NL[:, 1:, None]).squeeze(-1)
            log_NL = of_token_NL - logits_NLV.logsumexp(-1)
            parts.append(_number(log_NL.masked_fill(~is_real_NL[:, 1:], 0.0).sum(1)))
        flat_N = parts[0].new_full((listed_BK.numel(),), -torch.inf)
        return flat_N.index_copy(0, pair_N, torch.cat(parts)).view_as(listed_BK)

    def new_parts(self) -> tuple[str, ...]:
        return tuple(f"decoder.{part}" for part in self.decoder.fresh)


def _listed(first_BC: Tensor, k: int) -> Tensor:
    """Returns (B, K) the candidates at least as likely as the k-th, likeliest first, then -1."""
    k = min(k, first_BC.shape[1])
    cut_B1 = first_BC.topk(k, dim=1).values[:, -1:]
    count_B1 = (first_BC >= cut_B1).sum(1, keepdim=True)
    longest = int(count_B1.max())
    order_BK = first_BC.argsort(dim=1, descending=True, stable=True)[:, :longest]
    place_K = torch.arange(longest, device=first_BC.device)
    return order_BK.where(place_K < count_B1, -1)


def _full(x: Tensor) -> Tensor:
    """Casts to float32 where the type is smaller."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _number(log: Tensor) -> Tensor:
    return log.nan_to_num(nan=LOWEST, neginf=LOWEST)
