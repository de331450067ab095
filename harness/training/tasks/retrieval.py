"""Image-text retrieval, both ways: R@1, R@5, R@10 and their mean, in percent.

Two protocols, both reported: ITC alone (how alike the towers find them), and, where the design can
fuse, the top k of that ranking in the order of the ITM head's logit of "match", all else tied
behind them (ALBEF's evaluation, Li et al. 2021, `evaluation` in salesforce/ALBEF's Retrieval.py,
with k = 128 or 256 there). Without ITC a third: the ITM head scores every pair (ViLT's evaluation,
Kim et al. 2021). `mean_recall` is the design's own protocol: re-ranked where it can align and fuse,
else the only one.

A caption is right for a picture by the rule of identity: same group, same picture or same caption.
Ties count as their expectation over random orders, in the choice of the top k too, so that a
constant score earns exactly chance.

Letters: I images, T texts, Q queries (the one or the other), C candidates, N pairs.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import torch

from architectures.contract import Facts, FusionDesign, ImageStates, TextStates
from architectures.frozen import SettingError
from harness.training.data.corpus import Corpus
from harness.training.data.identity import matches
from harness.training.data.splits import Split
from harness.training.data.transforms import normalised
from harness.training.loop.contrast import contrast_loop
from harness.training.loop.trainer import Trainer
from harness.training.objectives.compared import BATCH, alike_both_ways, match_logits
from harness.training.randomness import stream
from harness.training.scoring.contract import Score, TaskScores
from harness.training.scoring.ranking import (
    Shortlist,
    hits_at,
    level_of,
    mean_percent,
    reranked_hits_at,
)
from harness.training.settings.data import Data
from harness.training.settings.objectives import Objectives
from harness.training.settings.spec import TrainSpec
from harness.training.settings.tasks import Retrieval

VERSION = "2"
"""Raised when the same weights score differently than before."""

CUTOFFS = (1, 5, 10)
PROTOCOLS = {"reranked": "re-ranked", "itc": "ITC alone", "every_pair": "every pair by ITM"}
"""Protocol -> what the report calls it; a design's own is the first of those that it can serve."""


def why_not(facts: Facts, objectives: Objectives, task: Retrieval) -> str:
    """Returns why a run cannot be scored, as the end of 'not applicable, because ...', or "" where
    it can.
    """
    if _every_pair(facts, objectives):
        if facts.no_fuse:
            return facts.no_align or facts.no_fuse
        if not objectives.itm.weight:
            return "retrieval ranks by ITC or ITM, and neither is on"
    return ""


def _every_pair(facts: Facts, objectives: Objectives) -> bool:
    """Returns whether there is no ITC to rank by."""
    return bool(facts.no_align) or not objectives.itc.weight


def names(task: Retrieval, data: Data) -> tuple[str, ...]:
    """Returns the names of the scores that some design gets, so that a study may ask for one."""
    ways = tuple(f"{way}_r_at_{k}" for k in CUTOFFS for way in ("i2t", "t2i"))
    return ("mean_recall", *(f"mean_recall_{name}" for name in PROTOCOLS), *ways)


def refuse(facts: Facts, objectives: Objectives, corpus: Corpus, task: Retrieval) -> None:
    """Raises `SettingError` where scoring would take too long, before a run trains."""
    split: Split = getattr(corpus, task.split)
    pairs = len(split) * len(split.texts(task.captions)[0])
    if task.finetune and task.finetune.batch_size > len(corpus.train):
        raise SettingError(
            f"{task.title}: finetune.batch_size {task.finetune.batch_size} is more than the "
            f"{len(corpus.train)} training pictures"
        )
    if _every_pair(facts, objectives) and pairs > task.every_pair:
        raise SettingError(
            f"retrieval without ITC scores every picture with every caption, here {pairs:,} pairs "
            f"of {task.split}, and the task's every_pair is {task.every_pair:,}: raise it, take a "
            "smaller split, or leave the task out for such designs"
        )


def loop(design: FusionDesign, corpus: Corpus, task: Retrieval, train: TrainSpec) -> Trainer:
    """Makes the loop that fine-tunes ITC and ITM on the training captions, identity by identity."""
    assert task.finetune is not None
    return contrast_loop(design, corpus, task.finetune, train, corpus.train, corpus.val)


@torch.no_grad()
def score(
    design: FusionDesign, corpus: Corpus, task: Retrieval, device: torch.device
) -> TaskScores:
    """Scores one split. A level pools the queries of both directions. Seconds are those of encoding
    all pictures and captions, and of ranking them by each protocol.
    """
    begun = time.perf_counter()
    image, text, match_IT = _states(design, corpus, task, device)
    hits, seconds = {}, {}
    if "itc" in design.heads:
        by_image_IT, by_text_IT = alike_both_ways(design, image, text)
        seconds["itc"] = time.perf_counter() - begun
        hits["itc"] = _both_ways(by_image_IT, by_text_IT, match_IT)
    else:
        logits_IT = match_logits(design, image, text, np.ones_like(match_IT))
        seconds["every_pair"] = time.perf_counter() - begun
        hits["every_pair"] = _both_ways(logits_IT, logits_IT, match_IT)
    if "itc" in hits and "itm" in design.heads:
        by_image = _reranked(design, image, text, by_image_IT, match_IT, task, of_images=True)
        by_text = _reranked(design, image, text, by_text_IT, match_IT, task, of_images=False)
        hits["reranked"] = by_image | by_text
        seconds["reranked"] = time.perf_counter() - begun
    return dataclasses.replace(_scores(hits, match_IT), seconds=seconds)


def _scores(hits: dict[str, dict[str, np.ndarray]], match_IT: np.ndarray) -> TaskScores:
    """Puts together what the task says; `hits`: way of `PROTOCOLS` -> its hits of `_both_ways`."""
    own = next(name for name in PROTOCOLS if name in hits)
    means = {name: mean_percent(its) for name, its in hits.items()}
    scores = [_percent("mean_recall", means[own], own)]
    scores += [_percent(f"mean_recall_{name}", mean, name) for name, mean in means.items()]
    scores += [
        _percent(f"{way}_r_at_{k}", 100 * float(hits[own][f"{way}_{k}"].mean()), own)
        for k in CUTOFFS
        for way in ("i2t", "t2i")
    ]
    return TaskScores(
        protocol=PROTOCOLS[own],
        scores=tuple(scores),
        levels=tuple(level_of(hits[own], match_IT, k) for k in CUTOFFS),
        predictions={name: its.astype(np.float32) for name, its in hits[own].items()},
    )


def _percent(name: str, value: float, protocol: str) -> Score:
    return Score(
        name=name,
        value=value,
        unit="percent",
        higher_is_better=True,
        protocol=PROTOCOLS[protocol],
    )


def _states(
    design: FusionDesign, corpus: Corpus, task: Retrieval, device: torch.device
) -> tuple[ImageStates, TextStates, np.ndarray]:
    """Returns the states of all I pictures and T captions of the split, and an (I, T) bool: the
    caption is right for the picture.
    """
    split: Split = getattr(corpus, task.split)
    picture_rows = np.arange(len(split))
    rows_T, choice_T = split.texts(task.captions)
    images, texts = [], []
    for rows_B in np.array_split(picture_rows, -(-len(picture_rows) // BATCH)):
        image_BCHW = torch.from_numpy(split.images_NHWC[rows_B]).permute(0, 3, 1, 2)
        images.append(design.encode_image(normalised(image_BCHW.to(device))))
    for chunk in np.array_split(np.arange(len(rows_T)), -(-len(rows_T) // BATCH)):
        ids_BL = torch.from_numpy(split.ids(rows_T[chunk], choice_T[chunk])).to(device)
        texts.append(design.encode_text(ids_BL, ids_BL != corpus.tokenizer.pad_id))
    match_IT = matches(
        split.identity(picture_rows, np.zeros_like(picture_rows)), split.identity(rows_T, choice_T)
    )
    return ImageStates.join(images), TextStates.join(texts), match_IT.numpy()


def _reranked(
    design: FusionDesign,
    image: ImageStates,
    text: TextStates,
    similarity_IT: np.ndarray,
    match_IT: np.ndarray,
    task: Retrieval,
    *,
    of_images: bool,
) -> dict[str, np.ndarray]:
    """Returns the hits of one direction, `i2t_1`, ... if `of_images`, else `t2i_1`, ...: the best
    `task.rerank` candidates by similarity in the order of their match logits.
    """
    way = "i2t" if of_images else "t2i"
    turned = (lambda x_IT: x_IT) if of_images else np.transpose
    similarity_QC, right_QC = turned(similarity_IT), turned(match_IT)
    shortlist = Shortlist.of(similarity_QC, right_QC, task.rerank)
    if shortlist.surplus > task.every_pair:  # a model that gives nearly everything one cosine
        shortlist = shortlist.drawn(lambda query: stream(0, "retrieval ties", way, query))
    logits_QC = turned(match_logits(design, image, text, turned(shortlist.scored_QC)))
    return {f"{way}_{k}": reranked_hits_at(shortlist, logits_QC, right_QC, k) for k in CUTOFFS}


def _both_ways(
    by_image_IT: np.ndarray, by_text_IT: np.ndarray, match_IT: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns `i2t_1`, ..., `t2i_10` -> for every query (I,) or (T,) the chance that a right item
    is in the top k.
    """
    hits = {f"i2t_{k}": hits_at(by_image_IT, match_IT, k) for k in CUTOFFS}
    return hits | {f"t2i_{k}": hits_at(by_text_IT.T, match_IT.T, k) for k in CUTOFFS}
