"""Lessons of tasks whose items have one right label, and what all lessons share.

Letters: N items, B rows, L tokens, K labels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from architectures.contract import FusionDesign
from architectures.downstream.model import TaskModel
from architectures.downstream.record import TaskRecord
from architectures.frozen import SettingError
from harness.training.data.corpus import Corpus
from harness.training.data.items.batches import ItemBatch, ReadyItems
from harness.training.data.items.item_floors import item_floors, majority_of
from harness.training.data.items.item_sets import item_sets
from harness.training.data.items.items import Items, ItemSets
from harness.training.data.items.tokens import tokens_of
from harness.training.loop.finetune import FineTuner, FineTuneSpec, Lesson, Loss
from harness.training.objectives.labels import expected_worth, labelled
from harness.training.objectives.term import Term
from harness.training.randomness import stream
from harness.training.scoring.contract import TaskScores
from harness.training.scoring.labels import label_scores
from harness.training.settings.spec import TrainSpec
from harness.training.settings.task import FineTune
from harness.training.settings.tasks import NLVR2, VQA, Entailment, Sentences

BATCH = 256
"""Items scored at once."""

Labelled = Entailment | NLVR2 | Sentences


def own_copy(design: FusionDesign) -> FusionDesign:
    """Returns a design of the same weights, so that the trained one stays; what is frozen in it
    stays frozen.
    """
    return copy.deepcopy(design).cpu()


def ready(items: Items, corpus: Corpus, design: FusionDesign, **right: np.ndarray) -> ReadyItems:
    """Makes items ready to be fed: their tokens, and the targets `right`."""
    ids_NL = tokens_of(corpus.tokenizer, items.texts, design.longest_text)
    return ReadyItems(items=items, ids_NL=ids_NL, pad_id=corpus.tokenizer.pad_id, right=right)


def started(model: TaskModel, train: TrainSpec) -> TaskModel:
    """Draws the new parts of a task's model by seed and role."""
    model.start(lambda role: stream(train.seed, "initial weights of a task", role))
    return model


def loop_of(lesson: Lesson, settings: FineTune, train: TrainSpec) -> FineTuner:
    """Makes the loop of a lesson, with seed and numerics of the run."""
    spec = FineTuneSpec(settings=settings, seed=train.seed, numerics=train.numerics)
    return FineTuner(spec, lesson)


def scored(
    model: TaskModel, items: ReadyItems, device: torch.device
) -> Iterator[tuple[ItemBatch, np.ndarray]]:
    """Yields batches of the items, on the device, and their rows."""
    model.eval()
    for batch in items.pieces(BATCH):
        yield batch.to(device), batch.rows_B.numpy()


def logits_of(model: TaskModel, batch: ItemBatch, *, packed: bool = False) -> Tensor:
    """Returns a classifier's logits (B, K) of a batch."""
    image = batch.pixels() if batch.image_BICHW.shape[1] else None
    logits_BK: Tensor = model(image, batch.ids_BL, batch.text_is_real_BL, packed=packed)
    return logits_BK


def read(model: TaskModel, batch: ItemBatch, packed: bool) -> Tensor:
    """Reads a classifier's logits (B, K) of a training batch."""
    return logits_of(model, batch, packed=packed)


# -- one right label


def label_record(corpus: Corpus, task: Labelled) -> TaskRecord:
    """Says what the model of a task is and what its labels mean."""
    sets = item_sets(corpus, task)
    return TaskRecord(
        name=task.name,
        title=task.title,
        form=getattr(task, "form", "classifier"),
        head=task.head,
        labels=sets.labels,
        images=int(sets.train.picture_NI.shape[1]),
        picture_types=getattr(task, "picture_types", "one"),
        texts=len(getattr(task, "text", ("sentence",))),
    )


def label_loop(design: FusionDesign, corpus: Corpus, task: Labelled, train: TrainSpec) -> FineTuner:
    """Makes the loop that teaches a design the labels of a task."""
    sets = item_sets(corpus, task)
    lesson = Lesson(
        model=started(label_record(corpus, task).model(own_copy(design)), train),
        train=_with_labels(sets.train, sets, corpus, design),
        val=_with_labels(sets.val, sets, corpus, design),
        reads=read,
        loss=label_loss(task.finetune.distil),
    )
    return loop_of(lesson, task.finetune, train)


def label_loss(distil: float) -> Loss:
    """Returns the loss of a classifier."""

    def loss(logits_BK: Tensor, batch: ItemBatch, taught_BK: Tensor | None) -> Term:
        return labelled(logits_BK, batch.right["label"], taught_BK, distil)

    return loss


def _with_labels(items: Items, sets: ItemSets, corpus: Corpus, design: FusionDesign) -> ReadyItems:
    numbers = {label: number for number, label in enumerate(sets.labels)}
    label_N = np.array([numbers[label] for label in items.labels], dtype=np.int64)
    return ready(items, corpus, design, label=label_N)


@torch.no_grad()
def score_labels(
    model: TaskModel, corpus: Corpus, task: Labelled, device: torch.device
) -> TaskScores:
    """Scores the items of a task by the labels that a fine-tuned model gives them."""
    sets = item_sets(corpus, task)
    items = _with_labels(sets.test, sets, corpus, model.design)
    logits_NK = np.zeros((len(sets.test), len(sets.labels)), dtype=np.float32)
    right_N = np.zeros(len(sets.test), dtype=np.float64)
    for batch, rows_B in scored(model, items, device):
        logits_BK = logits_of(model, batch).double()
        right_BK = torch.nn.functional.one_hot(batch.right["label"], logits_BK.shape[1])
        right_N[rows_B] = expected_worth(logits_BK, right_BK.double()).cpu().numpy()
        logits_NK[rows_B] = logits_BK.cpu().numpy()
    floors = item_floors(sets, corpus.cache) if task.floors else None
    predictions = {"label": items.right["label"], "logits": logits_NK}
    return label_scores(right_N, majority_of(sets.test), floors, predictions)


def refuse_items(corpus: Corpus, task: Labelled | VQA) -> None:
    """Raises `SettingError` or `DataError` where the items cannot be used, before a run trains."""
    sets = item_sets(corpus, task)
    if task.finetune.batch_size > len(sets.train):
        raise SettingError(
            f"{task.title}: finetune.batch_size {task.finetune.batch_size} is more than its "
            f"{len(sets.train)} training items"
        )
