"""Features of a picture by the image tower alone, one vector each, as a probe reads them.

Shape suffixes: B rows, P image tokens, D width.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from architectures.contract import FusionDesign, ImageStates

Reads = Literal["pooled", "class_token", "mean"]


def features_of(design: FusionDesign, states: ImageStates, reads: Reads) -> Tensor:
    """Returns one vector (B, D) of each image.

    reads: `pooled`, what ITC reads, several vectors side by side; `class_token`, the first token;
        `mean`, that of the patches
    """
    if reads == "pooled":
        return states.pooled_BD.flatten(1)
    tokens_BPD = states.tokens_BPD
    if reads == "class_token":
        return tokens_BPD[:, 0]
    patches = min(design.backbone.patches, tokens_BPD.shape[1])
    return tokens_BPD[:, -patches:].mean(1)
