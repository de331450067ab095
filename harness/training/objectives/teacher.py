"""The momentum teacher is a twin of a design that follows it slowly (ALBEF, Li et al. 2021).

Its features are candidates for ITC, its softmax is part of the targets of ITC and MLM. The twin
copies the whole design but the ITM head, which no loss reads from it. It needs nothing but the
contract of designs, so no design mentions it.

Letters: B rows, E width of a feature, V vectors of an image; N masked positions, V vocabulary.
"""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor, nn

from architectures.contract import FusionDesign
from architectures.layers.heads import itc_head
from harness.training.data.batches import Batch
from harness.training.objectives.captions import captions
from harness.training.objectives.mlm import hidden_words
from harness.training.objectives.twin import follow
from harness.training.settings.objectives import Teacher


@dataclasses.dataclass(frozen=True, kw_only=True)
class Taught:
    """The teacher's outputs for a batch; each is None where no objective reads it.

    image_BE: (B, E) ITC features, unit vectors; (B, V, E) where an image has several
    text_BE:  (B, E) ITC features, unit vectors; (B, L, E) where tokens are compared
    words_NV: (N, V) logits at the masked positions
    """

    image_BE: Tensor | None = None
    text_BE: Tensor | None = None
    words_NV: Tensor | None = None


class Twin(nn.Module):
    """The teacher's weights, and the rule by which they follow the design's."""

    def __init__(self, design: FusionDesign, settings: Teacher, taught: tuple[str, ...]) -> None:
        """Copies `design`. `taught`: the objectives that read the teacher, of "itc" and "mlm"."""
        super().__init__()
        self.settings, self.taught = settings, taught
        self.design = copy.deepcopy(design).requires_grad_(False)
        for name in set(self.design.heads) - set(taught):
            del self.design.heads[name]

    def follow(self, design: FusionDesign) -> None:
        """Moves every weight: it keeps `momentum` of itself and takes the rest from the design."""
        follow(self.design, design, self.settings.momentum)

    @torch.no_grad()
    def ask(self, design: FusionDesign, batch: Batch, *, packed: bool) -> Taught:
        """Returns the teacher's outputs for a batch, and follows the design once, before or after
        as `update` says.
        """
        if self.settings.update == "before":
            self.follow(design)
        twin, modes = self.design, {name: m.training for name, m in design.named_modules()}
        for name, module in twin.named_modules():  # dropout is off where the design's is
            module.training = self.settings.dropout and modes[name]
        image = twin.encode_image(batch.pixels())
        encoded = captions(twin, batch, self.taught, packed=packed)
        image_BE = text_BE = words_NV = None
        if encoded.whole is not None:
            image_BE, text_BE = itc_head(twin).features(image, encoded.whole)
        if encoded.masked is not None:
            words_NV = hidden_words(twin, image, encoded.masked, batch)
        if self.settings.update == "after":
            self.follow(design)
        return Taught(image_BE=image_BE, text_BE=text_BE, words_NV=words_NV)
