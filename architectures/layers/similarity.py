"""Similarity says how alike images and texts are, by what the ITC head makes of them.

Pooled: the cosine of two vectors (CLIP). Late: every token of the one that asks takes the closest
token of the other, added up over the words of a text (ColBERT, Khattab and Zaharia 2020; of images
ColPali, Faysse et al. 2024), or as a mean, images and texts asking in turn (FILIP, Yao et al.
2021).

Shape suffixes: I images, T texts, Q vectors of an image, P image tokens, L text positions, E common
width of ITC.
"""

from __future__ import annotations

import contextlib
from typing import Literal

import torch
from torch import Tensor

Similarity = Literal["pooled", "late_mean", "late_sum"]
Asks = Literal["image", "text"]

IMAGES_AT_ONCE = 256
"""Images whose every vector is compared at once."""
TOKENS_AT_ONCE = 2**24
"""Pairs of an image token and a word that are compared at once."""


def similarities(
    image: Tensor, text: Tensor, how: Similarity = "pooled", asks: Asks | None = None
) -> Tensor:
    """Returns the similarities (I, T) of images with texts, in full precision under autocast too.

    image: unit vectors (I, E) or (I, Q, E); late (I, P, E), one for each token
    text: unit vectors (T, E); late (T, L, E), 0 at padding
    asks: whose tokens look for the closest of the other; None: the mean of both ways, the one score
        of a pair. Where there is one way only (`pooled`; `late_sum`, where words ask) it says
        nothing.
    """
    kind = image.device.type
    exact = torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else None
    with exact or contextlib.nullcontext():  # the meta device, where costs are counted, has none
        return cosines(image, text) if how == "pooled" else _late(image, text, how, asks)


def cosines(image: Tensor, text_TE: Tensor) -> Tensor:
    """Returns the cosines (I, T); of an image with several vectors (I, Q, E) the closest counts."""
    if image.ndim == 2:
        return image @ text_TE.T
    parts = [
        (part_IQE.flatten(0, 1) @ text_TE.T).unflatten(0, part_IQE.shape[:2]).amax(1)
        for part_IQE in image.split(IMAGES_AT_ONCE)
    ]
    return torch.cat(parts)


def _late(image_IPE: Tensor, text_TLE: Tensor, how: Similarity, asks: Asks | None) -> Tensor:
    """Compares tokens piece by piece: all of them at once would be I x P x T x L numbers."""
    each = image_IPE.shape[1] * text_TLE.shape[1]
    texts = min(max(TOKENS_AT_ONCE // each, 1), max(len(text_TLE), 1))
    images = max(TOKENS_AT_ONCE // (each * texts), 1)
    rows = [
        torch.cat(
            [_of_tokens(some_IPE, few_TLE, how, asks) for few_TLE in text_TLE.split(texts)], 1
        )
        for some_IPE in image_IPE.split(images)
    ]
    return torch.cat(rows)


def _of_tokens(image_IPE: Tensor, text_TLE: Tensor, how: Similarity, asks: Asks | None) -> Tensor:
    real_TL = text_TLE.detach().any(-1)
    words_NE = text_TLE.flatten(0, 1)
    cosine_IPTL = (image_IPE.flatten(0, 1) @ words_NE.T).view(
        *image_IPE.shape[:2], *text_TLE.shape[:2]
    )
    ways = []
    if asks != "image" or how == "late_sum":
        sum_IT = cosine_IPTL.amax(1).masked_fill(~real_TL, 0.0).sum(-1)
        ways.append(sum_IT if how == "late_sum" else sum_IT / real_TL.sum(-1))
    if asks != "text" and how == "late_mean":
        ways.append(cosine_IPTL.masked_fill(~real_TL, -torch.inf).amax(-1).mean(1))
    return sum(ways[1:], ways[0]) / len(ways)
