"""Visual question answering, by a classifier of answers or a decoder that ranks them.

`classifier`: a logit for each of the commonest training answers, binary cross-entropy with soft
targets (METER, BridgeTower). `decoder`: a causal decoder over the fused question learns every
answer by its weight, and ranks the answers (ALBEF, Li et al. 2021, model_vqa.py in
salesforce/ALBEF). Accuracy is VQA's (Antol et al. 2015): an answer that three of ten people give is
right. Equal answers earn their mean, so a constant model earns what an answer earns on average.
Floors are measured by the same rule.

Letters: N questions, K answers that can be given, M answers of one question, A answers of a batch,
S tokens of an answer.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from architectures.contract import Facts, FusionDesign
from architectures.downstream import answers as decoding
from architectures.downstream import classifier
from architectures.downstream.answers import AnswerModel
from architectures.downstream.model import TaskModel
from architectures.downstream.record import TaskRecord
from harness.training.data.corpus import Corpus
from harness.training.data.items.answers import answer_list, targets_of
from harness.training.data.items.batches import ItemBatch, ReadyItems
from harness.training.data.items.item_floors import item_floors, majority_of
from harness.training.data.items.item_sets import item_sets
from harness.training.data.items.items import Items
from harness.training.data.items.tokens import tokens_of
from harness.training.loop import lessons
from harness.training.loop.finetune import FineTuner, Lesson, Loss
from harness.training.objectives.candidates import Candidates
from harness.training.objectives.labels import answered, expected_worth, multi_labelled
from harness.training.objectives.term import Term
from harness.training.scoring import labels
from harness.training.scoring.contract import TaskScores
from harness.training.settings.data import Data
from harness.training.settings.objectives import Objectives
from harness.training.settings.spec import TrainSpec
from harness.training.settings.tasks import VQA

VERSION = "1"
"""Raised when the same weights score differently than before."""


def why_not(facts: Facts, objectives: Objectives, task: VQA) -> str:
    """Returns why a run cannot be scored, as the end of 'not applicable, because ...', or "" where
    it can.
    """
    if task.form == "decoder":
        return decoding.why_not(facts)
    return classifier.why_not(facts)


def names(task: VQA, data: Data) -> tuple[str, ...]:
    """Returns the names of the scores."""
    return labels.names(task.floors)


def refuse(facts: Facts, objectives: Objectives, corpus: Corpus, task: VQA) -> None:
    """Raises `SettingError` or `DataError` where the items cannot be used, before a run trains."""
    lessons.refuse_items(corpus, task)


def loop(design: FusionDesign, corpus: Corpus, task: VQA, train: TrainSpec) -> FineTuner:
    """Makes the loop that teaches the task."""
    sets, its = item_sets(corpus, task), record(corpus, task)
    if task.form == "decoder":
        right, reads, loss = _to_decode, _spelt, _decoded(task.finetune.distil)
    else:
        right, reads, loss = _to_choose, lessons.read, _chosen
    lesson = Lesson(
        model=lessons.started(its.model(lessons.own_copy(design)), train),
        train=right(sets.train, corpus, design, its.labels),
        val=right(sets.val, corpus, design, its.labels),
        reads=reads,
        loss=loss,
    )
    return lessons.loop_of(lesson, task.finetune, train)


def record(corpus: Corpus, task: VQA) -> TaskRecord:
    """Says what the model of the task is and what its answers are, for an export."""
    return TaskRecord(
        name=task.name,
        title=task.title,
        form=task.form,
        head=task.head,
        labels=answer_list(item_sets(corpus, task).train, task.answers),
        rank=task.rank,
        first_token_twice=task.first_token_twice,
    )


def _to_choose(
    items: Items, corpus: Corpus, design: FusionDesign, answers: tuple[str, ...]
) -> ReadyItems:
    return lessons.ready(items, corpus, design, worth=targets_of(items, answers))


def _chosen(logits_BK: Tensor, batch: ItemBatch, taught_BK: Tensor | None) -> Term:
    return multi_labelled(logits_BK, batch.right["worth"])


def _to_decode(
    items: Items, corpus: Corpus, design: FusionDesign, answers: tuple[str, ...]
) -> ReadyItems:
    """Makes every answer of a question a target, with the share of people who give it."""
    most = max(len(of_item) for of_item in items.answers) if len(items) else 0
    words = dict.fromkeys(answer for of_item in items.answers for answer, _ in of_item)
    ids_WS = tokens_of(corpus.tokenizer, tuple(words), design.longest_text)
    place = {answer: number for number, answer in enumerate(words)}
    ids_NMS = np.full((len(items), most, ids_WS.shape[1]), corpus.tokenizer.pad_id, dtype=np.int64)
    weight_NM = np.zeros((len(items), most), dtype=np.float32)
    for row, of_item in enumerate(items.answers):
        for number, (answer, share) in enumerate(of_item):
            ids_NMS[row, number], weight_NM[row, number] = ids_WS[place[answer]], share
    is_real_NMS = ids_NMS != corpus.tokenizer.pad_id
    return lessons.ready(
        items, corpus, design, answers=ids_NMS, is_real=is_real_NMS, weight=weight_NM
    )


def _asked(batch: ItemBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns all answers of a batch: their ids (A, S), which of these are real, their weights (A,)
    and the rows of their questions (A,).
    """
    weight_BM = batch.right["weight"]
    question_A, place_A = weight_BM.nonzero(as_tuple=True)
    of_answers = (batch.right[name][question_A, place_A] for name in ("answers", "is_real"))
    ids_AS, is_real_AS = of_answers
    return ids_AS, is_real_AS, weight_BM[question_A, place_A], question_A


def _spelt(model: TaskModel, batch: ItemBatch, packed: bool) -> Tensor:
    """Reads a decoder's logits (A, S, V) of all answers."""
    device = batch.ids_BL.device
    ids_AS, is_real_AS, _, question_A = (tensor.to(device) for tensor in _asked(batch))
    logits_ASV: Tensor = model(
        batch.pixels()[:, 0], batch.ids_BL, batch.text_is_real_BL,
        ids_AS, is_real_AS, question_A, packed=packed,
    )  # fmt: skip
    return logits_ASV


def _decoded(distil: float) -> Loss:
    def loss(logits_ASV: Tensor, batch: ItemBatch, taught_ASV: Tensor | None) -> Term:
        ids_AS, is_real_AS, weight_A, _ = _asked(batch)
        return answered(logits_ASV, ids_AS, is_real_AS, weight_A, len(batch), taught_ASV, distil)

    return loss


@torch.no_grad()
def score(model: TaskModel, corpus: Corpus, task: VQA, device: torch.device) -> TaskScores:
    """Scores what was fine-tuned: the worth of the answer that it gives to each question."""
    sets, its = item_sets(corpus, task), record(corpus, task)
    items = _to_choose(sets.test, corpus, model.design, its.labels)
    worth_N = np.zeros(len(sets.test), dtype=np.float64)
    given_N = np.zeros(len(sets.test), dtype=np.int64)
    most = model.design.longest_text
    candidates = Candidates.of(its, corpus.tokenizer, most, device)
    for batch, rows_B in lessons.scored(model, items, device):
        worth_BK = batch.right["worth"].double()
        if isinstance(model, AnswerModel):
            ranked = candidates.ranked(model, batch)
            worth_B, given_B = ranked.worth(worth_BK), ranked.best()[0][:, 0]
        else:
            logits_BK: Tensor = lessons.logits_of(model, batch)
            worth_B, given_B = expected_worth(logits_BK.double(), worth_BK), logits_BK.argmax(1)
        worth_N[rows_B], given_N[rows_B] = worth_B.cpu().numpy(), given_B.cpu().numpy()
    floors = item_floors(sets, corpus.cache) if task.floors else None
    return labels.label_scores(worth_N, majority_of(sets.test), floors, {"given": given_N})
