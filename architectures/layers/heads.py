"""Each pre-training objective reads a head: ITC projections, ITM head, tied MLM head.

The temperature of ITC is a state of the objective, not of a head. Constants are ALBEF's and BERT's
(salesforce/ALBEF; Devlin et al. 2019).

Shape suffixes: B rows, I images, T texts, Q vectors of an image, N rows with a label, D width, E
common width of ITC, V vocabulary.
"""

from __future__ import annotations

import contextlib
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
    """The ITC head maps each modality into a common space, onto the unit sphere."""

    node: ClassVar[str] = "head"

    def __init__(self, image_width: int, text_width: int, width: int) -> None:
        super().__init__()
        self.image = nn.Linear(image_width, width)
        self.text = nn.Linear(text_width, width)

    def embed_image(self, pooled_BD: Tensor) -> Tensor:
        """Maps `ImageStates.pooled_BD`, (B, D) or (B, Q, D), to as many vectors of width E and
        length 1, in float32 or better.
        """
        return _unit(self.image(pooled_BD))

    def embed_text(self, pooled_BD: Tensor) -> Tensor:
        """Maps `TextStates.pooled_BD` (B, D) to (B, E) of length 1, in float32 or better."""
        return _unit(self.text(pooled_BD))

    def forward(self, image_BD: Tensor, text_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Maps both modalities: image (B, D) or (B, Q, D), and text (B, D)."""
        return self.embed_image(image_BD), self.embed_text(text_BD)


def cosines(image: Tensor, text_TE: Tensor) -> Tensor:
    """Returns the cosines (I, T) of images with texts, in full precision under autocast too.

    image: (I, E) unit vectors, or (I, Q, E), where an image's vector closest to a text counts
    text_TE: (T, E) unit vectors
    """
    kind = image.device.type
    exact = torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else None
    with exact or contextlib.nullcontext():  # the meta device, where costs are counted, has none
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
    """The ITM head maps `Fused.pooled_BD` to two logits (B, 2); class 1 is a match."""

    node: ClassVar[str] = "head"

    def __init__(self, width: int) -> None:
        super().__init__(width, 2)


class MLMHead(nn.Module):
    """The MLM head is linear, GELU, norm, then a decoder tied to the word embedding (BERT's)."""

    node: ClassVar[str] = "head"

    def __init__(self, word: nn.Embedding, eps: float) -> None:
        super().__init__()
        vocabulary, width = word.weight.shape
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.decoder = nn.Linear(width, vocabulary)
        self.decoder.weight = word.weight

    def forward(self, states_ND: Tensor) -> Tensor:
        """Maps fused states (N, D) at the positions to predict to logits (N, V)."""
        return self.decoder(self.norm(F.gelu(self.dense(states_ND))))


def applicable(facts: Facts, objectives: Collection[str]) -> tuple[str, ...]:
    """Returns those of the objectives that a design can serve, in a fixed order.

    Raises `SettingError` for a name that is no objective.
    """
    for name in objectives:
        if name not in OBJECTIVES:
            raise nearest(name, OBJECTIVES, "objective")
    return tuple(name for name in OBJECTIVES if name in objectives and not facts.why_not(name))


def build(design: FusionDesign, facts: Facts, objectives: Collection[str]) -> nn.ModuleDict:
    """Makes the heads of those objectives that a design can serve."""
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
