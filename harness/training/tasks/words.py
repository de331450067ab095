"""Words by kind: masked colours, shapes, places, directions and numbers, each kind apart.

One word of a caption is masked, all its pieces, and named beside the caption's own picture; it is
right where every piece has the highest logit. The cheapest look at what fused text sees of a
picture, also of designs without ITC. Chance is the share of the kind's commonest word.
"""

from __future__ import annotations

import numpy as np
import torch

from architectures.contract import Facts, FusionDesign
from architectures.frozen import SettingError
from harness.training.data.corpus import Corpus
from harness.training.data.masked_kinds import MaskedKind, masked_kinds
from harness.training.data.scenes.kinds import kinds, kinds_in
from harness.training.data.splits import Split
from harness.training.objectives.compared import words_right
from harness.training.scoring.contract import Level, TaskScores, percent
from harness.training.settings.data import Data, Scenes
from harness.training.settings.objectives import Objectives
from harness.training.settings.tasks import Words

VERSION = "1"
"""Raised when the same weights score differently than before."""

PROTOCOL = "masked, beside the own picture"


def why_not(facts: Facts, objectives: Objectives, task: Words) -> str:
    """Returns why a run cannot be scored, as the end of 'not applicable, because ...', or "" where
    it can.
    """
    if why := facts.why_not("mlm"):
        return why
    return "" if objectives.mlm.weight else "words are named by the MLM head, and MLM is off"


def refuse(facts: Facts, objectives: Objectives, corpus: Corpus, task: Words) -> None:
    """Raises `SettingError` where no caption has a word to mask, before a run trains."""
    _masked(corpus, task)


def names(task: Words, data: Data) -> tuple[str, ...]:
    """Returns the names of its scores: the kinds, of scenes those that captions say, and their
    mean.
    """
    return (*(task.words or (kinds_in(data) if isinstance(data, Scenes) else ())), "mean")


def score(design: FusionDesign, corpus: Corpus, task: Words, device: torch.device) -> TaskScores:
    """Scores every kind, and their mean in which each counts alike."""
    split: Split = getattr(corpus, task.split)
    masked = _masked(corpus, task)
    right = {
        kind: words_right(design, split.images_NHWC, its, corpus.tokenizer, device)
        for kind, its in masked.items()
    }
    values = {kind: 100 * float(right_N.mean()) for kind, right_N in right.items()}
    values["mean"] = float(np.mean(list(values.values())))
    return TaskScores(
        protocol=PROTOCOL,
        scores=tuple(percent(name, value, PROTOCOL) for name, value in values.items()),
        levels=tuple(
            Level(
                name=kind,
                successes=int(right_N.sum()),
                items=len(right_N),
                chance=masked[kind].commonest,
            )
            for kind, right_N in right.items()
        ),
        predictions={kind: right_N.astype(np.float32) for kind, right_N in right.items()},
    )


def _masked(corpus: Corpus, task: Words) -> dict[str, MaskedKind]:
    words = task.words
    if not words and not isinstance(corpus.data, Scenes):
        raise SettingError(
            "words: only scenes know the kinds of their words; list them in the task's `words`, as "
            '{"colour": ["red", "blue"]}'
        )
    split: Split = getattr(corpus, task.split)
    masked = masked_kinds(split, task.captions, corpus.tokenizer, words or kinds(), task.items)
    if missing := [kind for kind in words if kind not in masked]:
        raise SettingError(f"words: no caption of {task.split} has a word of {missing[0]!r}")
    if not masked:
        raise SettingError(f"words: no caption of {task.split} has a word of any kind")
    return masked
