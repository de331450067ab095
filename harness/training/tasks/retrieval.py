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
from harness.training.scoring.contract import Level, TaskScores, percent
from harness.training.scoring.ranking import hits_at, level_of, mean_percent
from harness.training.settings.objectives import Objectives
from harness.training.settings.tasks import Retrieval

VERSION = "1"
"""Raised when the same weights score differently than before."""

CUTOFFS = (1, 5, 10)
PROTOCOLS = {"reranked": "re-ranked", "itc": "ITC alone", "every_pair": "every pair by ITM"}
"""How candidates were ranked -> what the report calls it; the first that there is, is the own."""
BATCH = 128


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
def score(
    design: FusionDesign, corpus: Corpus, task: Retrieval, device: torch.device
) -> TaskScores:
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
    protocol = PROTOCOLS[own]
    scores = [percent("mean_recall", mean_percent(hits), protocol)]
    for name, hits_by_way in expected.items():
        value = mean_percent(hits_by_way)
        scores.append(percent(f"mean_recall_{name}", value, PROTOCOLS[name]))
    levels = []
    for k in CUTOFFS:
        for way in ("i2t", "t2i"):
            value = 100 * float(hits[f"{way}_{k}"].mean())
            scores.append(percent(f"{way}_r_at_{k}", value, protocol))
        levels.append(Level(name=f"r_at_{k}", **level_of(hits, match_IT, k)))
    predictions = {name: found.astype(np.float32) for name, found in hits.items()}
    return TaskScores(
        protocol=protocol, scores=tuple(scores), levels=tuple(levels), predictions=predictions
    )


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
        split.identity(picture_rows, np.zeros_like(picture_rows)), split.identity(rows_T, choice_T)
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
