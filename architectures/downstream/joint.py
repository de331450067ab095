"""A task's head reads one vector of a picture and its text, of every design.

Where a design fuses, it is what the ITM head reads; where only the contrastive loss joins the
towers, both their vectors stand side by side, and the head is what joins them.

Shape suffixes: B rows, I images of one row, Q vectors of an image, D width of a tower, W width of
what the head reads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from architectures.contract import Facts, FusionDesign, ImageStates, TextStates

NO_TEXT = "its words pass through no layer without an image"


def tower_widths(design: FusionDesign) -> tuple[int, int]:
    """Returns the widths of `pooled_BD` of the image and of the text states."""
    backbone = design.backbone
    return facts_of(design).itc_widths or (backbone.image_width, backbone.text_width)


def facts_of(design: FusionDesign) -> Facts:
    """Returns the facts of a design with its own configuration."""
    return design.facts(design.config, design.backbone)


def joint_width(design: FusionDesign, images: int = 1) -> int:
    """Returns the width W of what a head reads: `images` joint vectors side by side; of 0 the text
    tower's vector alone.
    """
    facts = facts_of(design)
    if not images:
        return tower_widths(design)[1]
    return images * (facts.pooled_width if facts.can_fuse else sum(tower_widths(design)))


def joint_vector(design: FusionDesign, image: ImageStates, text: TextStates) -> Tensor:
    """Returns one vector (B, W) of each row of text with its image: of a design for several images
    (`ReasonsOverImages`) with all of them.
    """
    if facts_of(design).can_fuse:
        nothing_B0 = text.text_is_real_BL.new_zeros(len(text.text_is_real_BL), 0, dtype=torch.int64)
        return design.fuse(image, text, read_at_BR=nothing_B0).pooled_BD
    image_BD = image.pooled_BD
    image_BD = image_BD if image_BD.ndim == 2 else image_BD.mean(1)  # of Q vectors
    return torch.cat([image_BD, text.pooled_BD], dim=-1)
