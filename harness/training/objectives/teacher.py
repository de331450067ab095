"""The momentum teacher: a twin of any design that follows it slowly (Li et al. 2021, ALBEF).

Its features are keys for ITC, its softmax is part of the targets of ITC and MLM. The twin is a copy
of the whole design without the ITM head, which nothing asks it for; it is made and kept by the
contract alone, so no design knows of it.
"""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor, nn

from architectures.contract import FusionDesign
from harness.training.data.batches import Batch
from harness.training.objectives.captions import captions
from harness.training.objectives.mlm import hidden_words
from harness.training.settings.objectives import Teacher


@dataclasses.dataclass(frozen=True, kw_only=True)
class Taught:
    """What the teacher says of a batch; None where no objective asks."""

    image_BE: Tensor | None = None
    """Its ITC features, unit vectors; (B, V, E) where an image has several."""
    text_BE: Tensor | None = None
    words_NV: Tensor | None = None
    """Its logits of the N hidden words."""


class Twin(nn.Module):
    """The teacher's weights and how they follow."""

    def __init__(self, design: FusionDesign, settings: Teacher, taught: tuple[str, ...]) -> None:
        """`taught`: the objectives that ask it."""
        super().__init__()
        self.settings, self.taught = settings, taught
        self.design = copy.deepcopy(design).requires_grad_(False)
        for name in set(self.design.heads) - set(taught):
            del self.design.heads[name]

    @torch.no_grad()
    def follow(self, design: FusionDesign) -> None:
        """Every weight keeps `momentum` of itself and takes the rest from the design."""
        theirs = dict(design.named_parameters())
        ours = dict(self.design.named_parameters())
        torch._foreach_lerp_(
            list(ours.values()), [theirs[role] for role in ours], 1 - self.settings.momentum
        )

    @torch.no_grad()
    def ask(self, design: FusionDesign, batch: Batch, *, packed: bool) -> Taught:
        """What it says of a batch, having followed the design before or after."""
        if self.settings.update == "before":
            self.follow(design)
        twin = self.design.train(self.settings.dropout and design.training)
        image = twin.encode_image(batch.pixels())
        whole, masked = captions(twin, batch, self.taught, packed=packed)
        image_BE = text_BE = words_NV = None
        if whole is not None:
            image_BE, text_BE = twin.heads["itc"](image.pooled_BD, whole.pooled_BD)
        if masked is not None:
            words_NV = hidden_words(twin, image, masked, batch)
        if self.settings.update == "after":
            self.follow(design)
        return Taught(image_BE=image_BE, text_BE=text_BE, words_NV=words_NV)
