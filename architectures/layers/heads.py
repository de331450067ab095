"""Heads of the pre-training objectives: ITC projections, ITM head, tied MLM head.

The temperature of ITC is a state of the objective, not of a head. Constants are ALBEF's and BERT's
(salesforce/ALBEF; Devlin et al. 2019).

Shape suffixes: B rows, I images, T texts, Q vectors of an image, N rows with a label, D width, E
common width of ITC, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.backbone import Backbone
from architectures.contract import OBJECTIVES, Facts, FusionDesign
from architectures.frozen import nearest

IMAGES_AT_ONCE = 256
"""Images whose every vector is compared at once."""


class ITCHead(nn.Module):
    """Two linear maps into a common space, onto the unit sphere."""

    node: ClassVar[str] = "head"

    def __init__(self, image_width: int, text_width: int, width: int) -> None:
        super().__init__()
        self.image = nn.Linear(image_width, width)
        self.text = nn.Linear(text_width, width)

    def embed_image(self, pooled_BD: Tensor) -> Tensor:
        """`ImageStates.pooled_BD` (B, D) or (B, Q, D) -> as many vectors of width E and length 1,
        at least float32.
        """
        return _unit(self.image(pooled_BD))

    def embed_text(self, pooled_BD: Tensor) -> Tensor:
        """`TextStates.pooled_BD` -> (B, E) of length 1, at least float32."""
        return _unit(self.text(pooled_BD))

    def forward(self, image_BD: Tensor, text_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Both at once."""
        return self.embed_image(image_BD), self.embed_text(text_BD)


def cosines(image: Tensor, text_TE: Tensor) -> Tensor:
    """Images by texts (I, T), of unit vectors. `image`: (I, E), or (I, Q, E), where of an image's
    vectors the closest to a text counts. As exact as they are, under autocast too.
    """
    with torch.autocast(image.device.type, enabled=False):
        if image.ndim == 2:
            return image @ text_TE.T
        parts = [
            (part_IQE.flatten(0, 1) @ text_TE.T).unflatten(0, part_IQE.shape[:2]).amax(1)
            for part_IQE in image.split(IMAGES_AT_ONCE)
        ]
        return torch.cat(parts)


def _unit(x_BE: Tensor) -> Tensor:
    # Cosines are divided by a small temperature: half precision would leave too few steps.
    return F.normalize(x_BE.to(torch.promote_types(x_BE.dtype, torch.float32)), dim=-1)


class ITMHead(nn.Linear):
    """`Fused.pooled_BD` -> two logits (B, 2); class 1 is a match."""

    node: ClassVar[str] = "head"

    def __init__(self, width: int) -> None:
        super().__init__(width, 2)


class MLMHead(nn.Module):
    """Dense, GELU, norm, then a decoder that is the word embedding itself, and a bias."""

    node: ClassVar[str] = "head"

    def __init__(self, word: nn.Embedding, eps: float) -> None:
        super().__init__()
        vocabulary, width = word.weight.shape
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.decoder = nn.Linear(width, vocabulary)
        self.decoder.weight = word.weight

    def forward(self, states_ND: Tensor) -> Tensor:
        """Fused states at the positions to predict -> logits (N, V)."""
        return self.decoder(self.norm(F.gelu(self.dense(states_ND))))


def applicable(facts: Facts, objectives: Collection[str]) -> tuple[str, ...]:
    """Those of the objectives that a design can serve, in a fixed order.

    Raises `SettingError` for a name that is no objective.
    """
    for name in objectives:
        if name not in OBJECTIVES:
            raise nearest(name, OBJECTIVES, "objective")
    return tuple(name for name in OBJECTIVES if name in objectives and not facts.why_not(name))


def build(design: FusionDesign, facts: Facts, objectives: Collection[str]) -> nn.ModuleDict:
    """The heads of a design for some objectives, those that apply."""
    backbone: Backbone = design.backbone
    heads = nn.ModuleDict()
    for name in applicable(facts, objectives):
        if name == "itc":
            widths = facts.itc_widths or (backbone.image_width, backbone.text_width)
            heads[name] = ITCHead(*widths, backbone.itc_width)
        elif name == "itm":
            heads[name] = ITMHead(facts.pooled_width)
        else:
            heads[name] = MLMHead(design.word_embedding(), backbone.text_kind.eps)
    return heads
