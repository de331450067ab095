"""A classifier puts one head on a design: entailment, VQA by classes, reasoning, sentences.

Heads and forms are ALBEF's (salesforce/ALBEF, models/model_ve.py and model_nlvr.py) and those of
METER and BridgeTower, whose image-type rows for a second picture are left out here: a picture's
place in the vector tells which one it is.

Shape suffixes: B rows, I images of one row, C channels, L text positions, K labels, W width of what
the head reads.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.contract import Facts, FusionDesign, ReasonsOverImages
from architectures.downstream.joint import NO_TEXT, facts_of, joint_vector, joint_width
from architectures.downstream.model import TaskModel, refuse

Form = Literal["pair", "duplicated"]
HeadKind = Literal["albef", "meter"]


def why_not(facts: Facts, *, images: int = 1, form: Form = "pair") -> str:
    """Says why a design cannot serve as a classifier of so many images a row (0: text alone), as
    the end of 'not applicable, because ...'; empty: it can.
    """
    if not images:
        return "" if facts.text_layers or facts.itc_own_pass else NO_TEXT
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

    Roles: `design.ROLE`, `head.inner`, `head.norm` (METER's), `head.outer`.
    """

    def __init__(
        self,
        design: FusionDesign,
        labels: int,
        *,
        images: int = 1,
        form: Form = "pair",
        head: HeadKind = "albef",
    ) -> None:
        """Takes `design` as its own part; a `duplicated` one is a copy with more layers.

        labels: K
        images: of one row; 0: the text stack alone, by the vector that ITC reads
        form: of several images. `pair`: the text is fused with each, one head reads all vectors
            side by side; `duplicated`: one pass over all of them (`ReasonsOverImages`)
        Raises `SettingError` with the reason where the design cannot.
        """
        super().__init__()
        refuse(design, why_not(facts_of(design), images=images, form=form))
        self.images, self.together = images, form == "duplicated" and images > 1
        if self.together:
            assert isinstance(design, ReasonsOverImages)
            design = design.for_images(images)
        self.design = design
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
        image = self.design.encode_image(image_BICHW.flatten(0, 1))
        if self.images > 1 and not self.together:
            rows_N = torch.arange(len(ids_BL), device=ids_BL.device).repeat_interleave(self.images)
            text = text.take(rows_N)
        return self.head(joint_vector(self.design, image, text).view(len(ids_BL), -1))

    def new_parts(self) -> tuple[str, ...]:
        return ("head.",)

    def initialise(self, role: str, tensor: Tensor, stream: np.random.Generator) -> bool:
        """Draws ALBEF's head as it leaves it, uniform +-1/sqrt(fan_in); METER's has the rules of
        every new part.
        """
        if self.head.norm is not None or not role.startswith("head."):
            return False
        bound = self.head.inner.in_features**-0.5  # both layers read as many
        values = stream.uniform(-bound, bound, tensor.shape).astype(np.float32)
        tensor.copy_(torch.from_numpy(values))
        return True
