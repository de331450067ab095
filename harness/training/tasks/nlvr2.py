"""Reasoning over several pictures: is a sentence true of both? NLVR2 (Suhr et al. 2019).

Two forms: `pair` fuses the sentence with each picture and one head reads both vectors (UNITER,
BridgeTower, where the second picture has a type row of its own), which every design can;
`duplicated` makes of each fusion layer one for each picture (ALBEF, Li et al. 2021, model_nlvr.py
in salesforce/ALBEF). Chance is the majority's label.
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
from harness.training.settings.tasks import NLVR2

VERSION = "1"
"""Raised when the same weights score differently than before."""


def why_not(facts: Facts, objectives: Objectives, task: NLVR2) -> str:
    """Returns why a run cannot be scored, as the end of 'not applicable, because ...', or "" where
    it can.
    """
    types = task.picture_types
    return classifier.why_not(facts, images=2, form=task.form, picture_types=types)


def names(task: NLVR2, data: Data) -> tuple[str, ...]:
    """Returns the names of the scores."""
    return labels.names(task.floors)


def refuse(facts: Facts, objectives: Objectives, corpus: Corpus, task: NLVR2) -> None:
    """Raises `SettingError` or `DataError` where the items cannot be used, before a run trains."""
    lessons.refuse_items(corpus, task)


def loop(design: FusionDesign, corpus: Corpus, task: NLVR2, train: TrainSpec) -> FineTuner:
    """Makes the loop that teaches the task."""
    return lessons.label_loop(design, corpus, task, train)


def record(corpus: Corpus, task: NLVR2) -> TaskRecord:
    """Says what the model of the task is and what its labels mean, for an export."""
    return lessons.label_record(corpus, task)


def score(model: TaskModel, corpus: Corpus, task: NLVR2, device: torch.device) -> TaskScores:
    """Scores what was fine-tuned."""
    return lessons.score_labels(model, corpus, task, device)
