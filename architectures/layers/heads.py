"""Each pre-training objective reads a head: ITC projections, ITM head, tied heads of words.

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
from architectures.contract import OBJECTIVES, Facts, FusionDesign, ImageStates, TextStates
from architectures.frozen import nearest
from architectures.layers.similarity import Similarity


class ITCHead(nn.Module):
    """The ITC head maps each modality into a common space, onto the unit sphere."""

    node: ClassVar[str] = "head"

    def __init__(
        self, image_width: int, text_width: int, width: int, similarity: Similarity = "pooled"
    ) -> None:
        super().__init__()
        self.image = nn.Linear(image_width, width)
        self.text = nn.Linear(text_width, width)
        self.similarity: Similarity = similarity

    def features(self, image: ImageStates, text: TextStates) -> tuple[Tensor, Tensor]:
        """Returns what `similarities` compares: of pooled states (B, E) each, of an image with
        several vectors (B, Q, E); late of all tokens (B, P, E) and (B, L, E), 0 at padding.
        """
        if self.similarity == "pooled":
            image_F, text_F = self(image.pooled_BD, text.pooled_BD)
            return image_F, text_F
        image_BPE, text_TE = self(image.tokens_BPD, text.tokens_TD)
        padding_BL1 = ~text.text_is_real_BL[..., None]
        return image_BPE, text.layout.unpack(text_TE).masked_fill(padding_BL1, 0.0)

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


def _unit(x_BE: Tensor) -> Tensor:
    # Cosines are divided by a small temperature: half precision would leave too few steps.
    return F.normalize(x_BE.to(torch.promote_types(x_BE.dtype, torch.float32)), dim=-1)


def itc_head(design: FusionDesign) -> ITCHead:
    """Returns the ITC head of a design that has one."""
    head = design.heads["itc"]
    assert isinstance(head, ITCHead)
    return head


class ITMHead(nn.Linear):
    """The ITM head maps `Fused.pooled_BD` to two logits (B, 2); class 1 is a match."""

    node: ClassVar[str] = "head"

    def __init__(self, width: int) -> None:
        super().__init__(width, 2)


class MLMHead(nn.Module):
    """The MLM head is linear, GELU, norm, then a decoder tied to the word embedding (BERT's); the
    head of LM is another such (BLIP's).

    `multiple` is what the decoder's input is multiplied by: 1 but under `mup`, where the table that
    it shares with the embeddings neither starts nor learns by width (`weights.widths`).
    """

    node: ClassVar[str] = "head"

    def __init__(self, word: nn.Embedding, eps: float) -> None:
        super().__init__()
        vocabulary, width = word.weight.shape
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.decoder = nn.Linear(width, vocabulary)
        self.decoder.weight = word.weight
        self.multiple = 1.0

    def forward(self, states_ND: Tensor) -> Tensor:
        """Maps fused states (N, D) at positions that predict to logits (N, V)."""
        x_ND = self.norm(F.gelu(self.dense(states_ND)))
        return self.decoder(x_ND if self.multiple == 1 else x_ND * self.multiple)


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
            heads[name] = ITCHead(*widths, backbone.itc_width, facts.similarity)
        elif name == "itm":
            heads[name] = ITMHead(facts.pooled_width)
        else:
            heads[name] = MLMHead(design.word_embedding(), backbone.text_kind.eps)
    return heads
