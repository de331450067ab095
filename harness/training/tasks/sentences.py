"""Sentence classification by the text stack alone, fine-tuned: what fusion did to it.

As BridgeTower's check on GLUE (Xu et al. 2023): no picture is read. On scenes the label hangs on
which of two things the sentence puts where. Chance is the majority's label, the floor a bag of
words and pairs of words.
"""

from __future__ import annotations

import torch

from architectures.contract import Facts, FusionDesign
from architectures.downstream import classifier
from architectures.downstream.model import TaskModel
from architectures.downstream.record import TaskRecord
from harness.training.data.corpus import Corpus
from harness.training.loop import lessons
from harness.training.loop.finetune import FineTuner
from harness.training.scoring import labels
from harness.training.scoring.contract import TaskScores
from harness.training.settings.data import Data
from harness.training.settings.objectives import Objectives
from harness.training.settings.spec import TrainSpec
from harness.training.settings.tasks import Sentences

VERSION = "1"
"""Raised when the same weights score differently than before."""


def why_not(facts: Facts, objectives: Objectives, task: Sentences) -> str:
    """Returns why a run cannot be scored, as the end of 'not applicable, because ...', or "" where
    it can.
    """
    return classifier.why_not(facts, images=0)


def names(task: Sentences, data: Data) -> tuple[str, ...]:
    """Returns the names of the scores."""
    return labels.names(task.floors)


def refuse(facts: Facts, objectives: Objectives, corpus: Corpus, task: Sentences) -> None:
    """Raises `SettingError` or `DataError` where the items cannot be used, before a run trains."""
    lessons.refuse_items(corpus, task)


def loop(design: FusionDesign, corpus: Corpus, task: Sentences, train: TrainSpec) -> FineTuner:
    """Makes the loop that teaches the task."""
    return lessons.label_loop(design, corpus, task, train)


def record(corpus: Corpus, task: Sentences) -> TaskRecord:
    """Says what the model of the task is and what its labels mean, for an export."""
    return lessons.label_record(corpus, task)


def score(model: TaskModel, corpus: Corpus, task: Sentences, device: torch.device) -> TaskScores:
    """Scores what was fine-tuned."""
    return lessons.score_labels(model, corpus, task, device)
