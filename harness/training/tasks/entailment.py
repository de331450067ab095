"""Visual entailment: does a sentence follow from a picture, contradict it, or neither?

SNLI-VE (Xie et al. 2019) as ALBEF fine-tunes for it (Li et al. 2021, model_ve.py in
salesforce/ALBEF): a head on the fused [CLS], cross-entropy. Chance is the majority's label; floors
read the sentence alone and the picture alone.
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
from harness.training.settings.tasks import Entailment

VERSION = "1"
"""Raised when the same weights score differently than before."""


def why_not(facts: Facts, objectives: Objectives, task: Entailment) -> str:
    """Returns why a run cannot be scored, as the end of 'not applicable, because ...', or "" where
    it can: without fusion the head reads both towers' vectors.
    """
    return classifier.why_not(facts)


def names(task: Entailment, data: Data) -> tuple[str, ...]:
    """Returns the names of the scores."""
    return labels.names(task.floors)


def refuse(facts: Facts, objectives: Objectives, corpus: Corpus, task: Entailment) -> None:
    """Raises `SettingError` or `DataError` where the items cannot be used, before a run trains."""
    lessons.refuse_items(corpus, task)


def loop(design: FusionDesign, corpus: Corpus, task: Entailment, train: TrainSpec) -> FineTuner:
    """Makes the loop that teaches the task."""
    return lessons.label_loop(design, corpus, task, train)


def record(corpus: Corpus, task: Entailment) -> TaskRecord:
    """Says what the model of the task is and what its labels mean, for an export."""
    return lessons.label_record(corpus, task)


def score(model: TaskModel, corpus: Corpus, task: Entailment, device: torch.device) -> TaskScores:
    """Scores what was fine-tuned."""
    return lessons.score_labels(model, corpus, task, device)
