"""Captioning: each token of a caption is predicted from those before it and its picture.

The loss is BLIP's (Li et al. 2022; salesforce/BLIP, models/blip_pretrain.py) and CoCa's (Yu et al.
2022). A prefix that is given reads both ways and is not predicted (SimVLM, Wang et al. 2022). BLIP
gives its decoder self-attention of its own; here all weights are those that fuse, so that only mask
and loss differ from MLM's, and the head.

Letters: B rows, L tokens, T all tokens of a batch (flat), V vocabulary, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from architectures.contract import FusionDesign, ImageStates, WritesCaptions
from harness.training.data.batches import Batch
from harness.training.objectives.term import Term, classified

NOTHING = -100
"""Label of a token that predicts none."""


def next_tokens(ids_BL: Tensor, text_is_real_BL: Tensor, prefix_B: Tensor) -> Tensor:
    """Returns labels (B, L): the token after each one; `NOTHING` where that is padding, or given.

    ids_BL: (B, L) int64
    text_is_real_BL: (B, L) bool
    prefix_B: (B,) int64, how many tokens are given; at least 1, [CLS]
    """
    next_L = torch.arange(1, ids_BL.shape[1] + 1, device=ids_BL.device)
    said_BL = F.pad(text_is_real_BL[:, 1:], (0, 1)) & (next_L >= prefix_B[:, None])
    return F.pad(ids_BL[:, 1:], (0, 1)).masked_fill(~said_BL, NOTHING)


def captioned(
    design: FusionDesign,
    image: ImageStates,
    batch: Batch,
    *,
    smoothing: float = 0.0,
    packed: bool = False,
) -> Term:
    """Returns the term of LM, whose items are the predicted tokens of all captions.

    smoothing: share of the target that all words have alike
    packed: leave padding out of every layer
    """
    assert isinstance(design, WritesCaptions)
    ids_BL, real_BL, prefix_B = batch.ids_BL, batch.text_is_real_BL, batch.prefix_B
    prefix_B = ids_BL.new_ones(len(ids_BL)) if prefix_B is None else prefix_B
    text = design.encode_caption(ids_BL, real_BL, prefix_B, packed=packed)
    states_TD = text.layout.pack(design.fuse(image, text).text_BRD)
    labels_T = text.layout.pack(next_tokens(ids_BL, real_BL, prefix_B)[..., None]).squeeze(1)
    return classified(design.heads["lm"](states_TD), labels_T, smoothing)
