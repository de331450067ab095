"""Image-text retrieval, both ways: R@1, R@5, R@10 and their mean, in percent.

Two protocols, both reported: ITC alone (cosine of the two towers), and, where the design can fuse,
the top k of that ranking scored again by the ITM head's logit for "match"; what was not scored
keeps its ITC order behind (ALBEF's evaluation, Li et al. 2021, with k = 128 or 256 there). Without
ITC a third: the ITM head scores every pair (ViLT's evaluation, Kim et al. 2021).
`mean_recall` is the design's own protocol: re-ranked where it can align and fuse, else the one.

A caption is right for a picture by the rule of identity: same group, same picture or same caption.
Ties count as their expectation over random orders, so a constant score earns exactly chance.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from architectures.contract import Facts, FusionDesign, ImageStates, TextStates
from architectures.frozen import SettingError
from architectures.layers.heads import cosines
from harness.training.data.corpus import Corpus
from harness.training.data.identity import matches
from harness.training.data.splits import Split
from harness.training.data.transforms import normalised
from harness.training.scoring.chance import recall_chance
from harness.training.settings.loop import Objectives, Retrieval

VERSION = "1"
"""Raised when the same weights score differently than before."""

CUTOFFS = (1, 5, 10)
PROTOCOLS = {"reranked": "re-ranked", "itc": "ITC alone", "every_pair": "every pair by ITM"}
"""How candidates were ranked -> what the report calls it; the first that there is, is the own."""
BATCH = 128


@dataclasses.dataclass(frozen=True)
class Scores:
    """Final values, what chance would give, and what was predicted for every item."""

    values: dict[str, float]
    levels: dict[str, dict[str, float]]
    """Level -> successes, items, chance (a share)."""
    protocol: str
    predictions: dict[str, np.ndarray]


def why_not(facts: Facts, objectives: Objectives) -> str:
    """Why a run cannot be scored, as the end of 'not applicable, because ...'; empty: it can."""
    if _every_pair(facts, objectives):
        if facts.no_fuse:
            return facts.no_align or facts.no_fuse
        if not objectives.itm.weight:
            return "retrieval ranks by ITC or ITM, and neither is on"
    return ""


def _every_pair(facts: Facts, objectives: Objectives) -> bool:
    """Whether there is no ITC to rank by."""
    return bool(facts.no_align) or not objectives.itc.weight


def refuse(facts: Facts, objectives: Objectives, corpus: Corpus, task: Retrieval) -> None:
    """Raises `SettingError` where scoring would take too long, before a run trains."""
    split: Split = getattr(corpus, task.split)
    pairs = len(split) * len(split.texts(task.captions)[0])
    if _every_pair(facts, objectives) and pairs > task.every_pair:
        raise SettingError(
            f"retrieval without ITC scores every picture with every caption, here {pairs:,} pairs "
            f"of {task.split}, and the task's every_pair is {task.every_pair:,}: raise it, take a "
            "smaller split, or leave the task out for such designs"
        )


@torch.no_grad()
def score(design: FusionDesign, corpus: Corpus, task: Retrieval, device: torch.device) -> Scores:
    """Score one split. A level pools the queries of both directions."""
    image, text, match_IT = _states(design, corpus, task, device)
    expected = {}
    if "itc" in design.heads:
        image_IE, text_TE = design.heads["itc"](image.pooled_BD, text.pooled_BD)
        similarity_IT = cosines(image_IE.float(), text_TE.float())
        expected["itc"] = _both_ways(similarity_IT, similarity_IT, match_IT)
    else:
        every_I, every_T = (torch.arange(n, device=device) for n in match_IT.shape)
        pairs_IT = torch.cartesian_prod(every_I, every_T).unbind(1)
        logits_IT = _match_logits(design, image, text, *pairs_IT).view(match_IT.shape)
        expected["every_pair"] = _both_ways(logits_IT, logits_IT, match_IT)
    if "itc" in expected and "itm" in design.heads:
        by_image = _rerank(design, image, text, similarity_IT, task.rerank, of_images=True)
        by_text = _rerank(design, image, text, similarity_IT, task.rerank, of_images=False)
        expected["reranked"] = _both_ways(by_image, by_text, match_IT)
    own = next(name for name in PROTOCOLS if name in expected)
    hits = expected[own]
    values = {"mean_recall": _percent(hits)}
    values |= {f"mean_recall_{name}": _percent(found) for name, found in expected.items()}
    levels = {}
    for k in CUTOFFS:
        for way in ("i2t", "t2i"):
            values[f"{way}_r_at_{k}"] = 100 * float(hits[f"{way}_{k}"].mean())
        levels[f"r_at_{k}"] = _level(hits, match_IT, k)
    predictions = {name: found.astype(np.float32) for name, found in hits.items()}
    return Scores(values=values, levels=levels, protocol=PROTOCOLS[own], predictions=predictions)


def _states(
    design: FusionDesign, corpus: Corpus, task: Retrieval, device: torch.device
) -> tuple[ImageStates, TextStates, Tensor]:
    """States of every picture and caption of the split, and which caption fits which picture."""
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
        split.keys(picture_rows, np.zeros_like(picture_rows)), split.keys(rows_T, choice_T)
    )
    return ImageStates.join(images), TextStates.join(texts), match_IT


@torch.no_grad()
def _rerank(
    design: FusionDesign,
    image: ImageStates,
    text: TextStates,
    similarity_IT: Tensor,
    k: int,
    *,
    of_images: bool,
) -> Tensor:
    """Similarities with the top k of each query replaced by ITM logits, lifted above the rest.

    Returns I x T scores whose order within a query (row if `of_images`, else column) is the final
    ranking; scores of different queries are not comparable.
    """
    scores_QC = similarity_IT if of_images else similarity_IT.T
    k = min(k, scores_QC.shape[1])
    best_QK = scores_QC.topk(k, dim=1).indices
    queries = torch.arange(len(scores_QC), device=scores_QC.device).repeat_interleave(k)
    candidates = best_QK.flatten()
    image_rows, text_rows = (queries, candidates) if of_images else (candidates, queries)
    matched_QK = _match_logits(design, image, text, image_rows, text_rows).view(-1, k)
    # Cosines lie in [-1, 1], so the smallest match logit, moved to 3, stands above all the rest.
    lifted_QK = matched_QK - matched_QK.amin(dim=1, keepdim=True) + 3.0
    final_QC = scores_QC.scatter(1, best_QK, lifted_QK)
    return final_QC if of_images else final_QC.T


@torch.no_grad()
def _match_logits(
    design: FusionDesign, image: ImageStates, text: TextStates, image_N: Tensor, text_N: Tensor
) -> Tensor:
    """The ITM head's logit for "match" of N pairs of rows, less that for "no match"."""
    logits = []
    for images, texts in zip(image_N.split(4 * BATCH), text_N.split(4 * BATCH), strict=True):
        fused = design.fuse(
            image.take(images), text.take(texts), read_at_BR=images.new_zeros(len(images), 0)
        )
        two_way = design.heads["itm"](fused.pooled_BD).float()
        logits.append(two_way[:, 1] - two_way[:, 0])
    return torch.cat(logits)


def _both_ways(by_image_IT: Tensor, by_text_IT: Tensor, match_IT: Tensor) -> dict[str, np.ndarray]:
    """`i2t_1`, ..., `t2i_10` -> for every query, the chance that a right item is in the top k."""
    match = match_IT.cpu().numpy()
    hits: dict[str, np.ndarray] = {}
    for way, scores, right in (
        ("i2t", by_image_IT.cpu().numpy(), match),
        ("t2i", by_text_IT.cpu().numpy().T, match.T),
    ):
        hits |= {f"{way}_{k}": hits_at(scores, right, k) for k in CUTOFFS}
    return hits


def hits_at(scores_QC: np.ndarray, right_QC: np.ndarray, k: int) -> np.ndarray:
    """Q expected hits in [0, 1]: a right candidate among the k best, ties in random order. A right
    one whose score is NaN is behind all wrong ones, a wrong one ahead of all right ones.
    """
    scores_QC = np.where(np.isnan(scores_QC), np.where(right_QC, -np.inf, np.inf), scores_QC)
    best_Q1 = np.where(right_QC, scores_QC, -np.inf).max(axis=1, keepdims=True)
    ahead_Q = ((scores_QC > best_Q1) & ~right_QC).sum(axis=1)
    tied_Q = (scores_QC == best_Q1).sum(axis=1)
    right_tied_Q = ((scores_QC == best_Q1) & right_QC).sum(axis=1)
    return np.array(
        [
            _found(right, tied, k - ahead)
            for right, tied, ahead in zip(right_tied_Q, tied_Q, ahead_Q, strict=True)
        ]
    )


def _found(right: int, tied: int, places: int) -> float:
    """The chance that one of the right ones among the tied comes in the places that are left."""
    if places < 1:
        return 0.0
    return 1.0 if right == tied else recall_chance(places, [right], tied)


def _percent(hits: dict[str, np.ndarray]) -> float:
    return 100 * float(np.mean([found.mean() for found in hits.values()]))


def _level(hits: dict[str, np.ndarray], match_IT: Tensor, k: int) -> dict[str, float]:
    match = match_IT.cpu().numpy()
    pooled = np.concatenate([hits[f"i2t_{k}"], hits[f"t2i_{k}"]])
    images, texts = match.shape
    chance = (
        images * recall_chance(k, match.sum(1), texts)
        + texts * recall_chance(k, match.sum(0), images)
    ) / (images + texts)
    return {"successes": int(pooled.sum()), "items": len(pooled), "chance": float(chance)}


def record(scores: Scores) -> dict[str, Any]:
    """The part of the scores that goes into the JSON file."""
    return {"values": scores.values, "levels": scores.levels, "protocol": scores.protocol}
