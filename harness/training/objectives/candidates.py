"""The answers that a decoder ranks, as tokens. Letters: K answers, S tokens of an answer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from architectures.downstream.answers import AnswerModel, Ranked
from architectures.downstream.record import TaskRecord
from harness.training.data.items.batches import ItemBatch
from harness.training.data.items.tokens import tokens_of
from harness.training.data.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """All answers that can be given, on the model's device."""

    ids_KS: Tensor
    """(K, S) int64 token ids, [CLS] first and [SEP] last."""
    is_real_KS: Tensor
    """(K, S) bool."""
    record: TaskRecord

    @staticmethod
    def of(record: TaskRecord, tokenizer: Tokenizer, most: int, device: torch.device) -> Candidates:
        """Makes tokens of the answers of a record, at most `most` of each."""
        ids_KS = torch.from_numpy(tokens_of(tokenizer, record.labels, most)).to(device).long()
        return Candidates(ids_KS=ids_KS, is_real_KS=ids_KS != tokenizer.pad_id, record=record)

    def ranked(self, model: AnswerModel, batch: ItemBatch) -> Ranked:
        """Ranks the answers to each question of a batch, as the record says it."""
        questions = model.question_states(batch.pixels()[:, 0], batch.ids_BL, batch.text_is_real_BL)
        return model.rank(
            questions,
            self.ids_KS,
            self.is_real_KS,
            self.record.rank,
            first_token_twice=self.record.first_token_twice,
        )
