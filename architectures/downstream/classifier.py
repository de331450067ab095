"""A classifier puts one head on a design: entailment, VQA by classes, reasoning, sentences.

Heads and forms are ALBEF's (salesforce/ALBEF, models/model_ve.py and model_nlvr.py) and those of
METER and BridgeTower. A picture's place in the vector tells which one it is; there, the second one
has an image-type row of its own too, which is a switch here.

Shape suffixes: B rows, I images of one row, C channels, L text positions, K labels, W width of what
the head reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from architectures.contract import Facts, FusionDesign, ImageStates, ReasonsOverImages, TextStates
from architectures.downstream.joint import NO_TEXT, facts_of, joint_vector, joint_width
from architectures.downstream.model import TaskModel, refuse
from architectures.weights.widths import growth_of

Form = Literal["pair", "duplicated"]
HeadKind = Literal["albef", "meter"]
PictureTypes = Literal["one", "each"]
TYPE = "types.image.weight"
"""Role of the row (1, D) that a design adds to image tokens where they meet words."""
NO_TYPE = "it adds no type row to image tokens, in which two pictures could differ"


def why_not(
    facts: Facts, *, images: int = 1, form: Form = "pair", picture_types: PictureTypes = "one"
) -> str:
    """Says why a design cannot serve as a classifier of so many images a row (0: text alone), as
    the end of 'not applicable, because ...'; empty: it can.
    """
    if not images:
        return "" if facts.text_layers or facts.itc_own_pass else NO_TEXT
    if picture_types == "each" and not (facts.can_fuse and facts.image_type):
        return facts.no_fuse or NO_TYPE
    duplicated = form == "duplicated" and images > 1
    return facts.no_fuse or facts.no_images if duplicated else ""


class Head(nn.Module):
    """The head maps what it reads (B, W) to logits (B, K): linear, ReLU, linear (ALBEF), or linear
    to twice the width, norm, GELU, linear (METER, BridgeTower).
    """

    node: ClassVar[str] = "head"

    def __init__(self, width: int, labels: int, kind: HeadKind) -> None:
        super().__init__()
        inner = width if kind == "albef" else 2 * width
        self.inner = nn.Linear(width, inner)
        self.norm = None if kind == "albef" else nn.LayerNorm(inner)
        self.outer = nn.Linear(inner, labels)

    def forward(self, x_BW: Tensor) -> Tensor:
        x_BW = self.inner(x_BW)
        return self.outer(F.relu(x_BW) if self.norm is None else F.gelu(self.norm(x_BW)))


class Classifier(TaskModel):
    """A design with a head over its joint vector, that of each image, or its text's alone.

    Roles: `design.ROLE`, `head.inner`, `head.norm` (METER's), `head.outer`, and, with a type row
    for each picture, `picture_types`, a row for each but the first.
    """

    def __init__(
        self,
        design: FusionDesign,
        labels: int,
        *,
        images: int = 1,
        form: Form = "pair",
        head: HeadKind = "albef",
        picture_types: PictureTypes = "one",
    ) -> None:
        """Takes `design` as its own part; a `duplicated` one is a copy with more layers.

        labels: K
        images: of one row; 0: the text stack alone, by the vector that ITC reads
        form: of several images. `pair`: the text is fused with each, one head reads all vectors
            side by side; `duplicated`: one pass over all of them (`ReasonsOverImages`)
        picture_types: of a pair. `one`: every picture has the design's image-type row; `each`:
            those after the first have rows of their own, which start from it (METER, BridgeTower)
        Raises `SettingError` with the reason where the design cannot.
        """
        super().__init__()
        refuse(
            design,
            why_not(facts_of(design), images=images, form=form, picture_types=picture_types),
        )
        self.images, self.together = images, form == "duplicated" and images > 1
        if self.together:
            assert isinstance(design, ReasonsOverImages)
            design = design.for_images(images)
        self.design = design
        self.picture_types: nn.Embedding | None = None
        if picture_types == "each" and images > 1 and not self.together:
            row_1D = design.get_parameter(TYPE).detach()
            self.picture_types = nn.Embedding.from_pretrained(
                row_1D.repeat(images - 1, 1), freeze=False
            )
        self.head = Head(joint_width(design, 1 if self.together else images), labels, head)

    def forward(
        self,
        image_BICHW: Tensor | None,
        ids_BL: Tensor,
        text_is_real_BL: Tensor,
        *,
        packed: bool = False,
    ) -> Tensor:
        """Returns the logits (B, K).

        image_BICHW: (B, I, C, H, W) normalised pixels, float; not read where images is 0
        ids_BL: (B, L) int64 token ids
        text_is_real_BL: (B, L) bool
        packed: leave padding out of every layer
        Raises `ValueError` where a row has another number of images.
        """
        text = self.design.encode_text(ids_BL, text_is_real_BL, packed=packed)
        if not self.images:
            return self.head(text.pooled_BD)
        count = None if image_BICHW is None else image_BICHW.shape[1]
        if image_BICHW is None or count != self.images:
            raise ValueError(f"a row shows {count or 'no'} images; this head reads {self.images}")
        if self.picture_types is not None:
            return self.head(self._each_typed(self.picture_types.weight, image_BICHW, text))
        image = self.design.encode_image(image_BICHW.flatten(0, 1))
        if self.images > 1 and not self.together:
            rows_N = torch.arange(len(ids_BL), device=ids_BL.device).repeat_interleave(self.images)
            text = text.take(rows_N)
        return self.head(joint_vector(self.design, image, text).view(len(ids_BL), -1))

    def _each_typed(self, type_ID: Tensor, image_BICHW: Tensor, text: TextStates) -> Tensor:
        """Returns the joint vectors (B, W) of a pass for each picture, with its own type row."""
        reading = _Reading(self.design)
        rows = [self.design.get_parameter(TYPE), *type_ID.split(1)]
        vectors = [
            functional_call(reading, {f"design.{TYPE}": row_1D}, (image, text))
            for row_1D, image in zip(
                rows, map(self.design.encode_image, image_BICHW.unbind(1)), strict=True
            )
        ]
        return torch.cat(vectors, dim=-1)

    def new_parts(self) -> tuple[str, ...]:
        return ("head.",)

    def rates(self, head_rate: float = 1.0) -> Mapping[str, float]:
        rates = super().rates(head_rate)
        if self.picture_types is None:
            return rates
        first = (r for prefix, r in self.design.rates().items() if TYPE.startswith(prefix))
        return {"picture_types.": next(first, 1.0), **rates}  # as the row of the first picture

    def initialise(self, role: str, tensor: Tensor, stream: np.random.Generator) -> bool:
        """Draws ALBEF's head as it leaves it, uniform +-1/sqrt(fan_in); METER's has the rules of
        every new part.
        """
        if self.head.norm is not None or not role.startswith("head."):
            return False
        growth = growth_of(self.get_submodule(role.rpartition(".")[0]))
        bound = self.head.inner.in_features**-0.5 * growth.of_bound  # both layers read as many
        values = stream.uniform(-bound, bound, tensor.shape).astype(np.float32)
        tensor.copy_(torch.from_numpy(values))
        return True


class _Reading(nn.Module):
    """Reads a design's joint vector as a module, whose parameters torch can exchange for a call."""

    def __init__(self, design: FusionDesign) -> None:
        super().__init__()
        self.design = design

    def forward(self, image: ImageStates, text: TextStates) -> Tensor:
        return joint_vector(self.design, image, text)
