"""FLOPs of training, counted on one real step on torch's meta device, where nothing is computed.

The step is the trainer's: the momentum teacher, every objective, the backward pass. So whatever a
design shares between its passes (keys and values of an image that ITM and MLM fuse four times) is
counted as often as it is computed, and a backward pass costs what it costs.

Counted are matrix products, attention and convolutions, 2 FLOPs per multiply-accumulate, at padded
length, the queue full; norms, activations, softmax, embedding look-ups and additions are not (under
2 % at base scale), nor the optimizer.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection

import torch
from torch.utils.flop_counter import FlopCounterMode

from architectures.contract import FusionDesign
from architectures.freezing import HeldStill, Tower
from harness.training.data.batches import Batch
from harness.training.data.identity import Identity
from harness.training.data.masking import widest
from harness.training.loop.freezing import FirstOutputs, remembering, stretches
from harness.training.objectives.forward import terms, total
from harness.training.objectives.itm import Negatives
from harness.training.objectives.state import ObjectiveState
from harness.training.settings.loop import Freeze
from harness.training.settings.objectives import Objectives

SPECIAL = 2
"""Tokens of a caption that are never hidden: the first and the last."""

Counted = Callable[[tuple[Tower, ...], bool], float]
"""Towers that are frozen, and whether the states of pictures are there already, to the FLOPs of one
training sample: `training_flops` of a design."""


def training_flops(
    design: FusionDesign,
    objectives: Objectives,
    *,
    text_tokens: int,
    rows: int,
    words: float | None = None,
    swapped: float = 1.0,
    frozen: Collection[Tower] = (),
    kept: bool = False,
) -> float:
    """Returns the FLOPs of one training sample, forward and backward, teacher included.

    design: on the meta device, with the heads of those objectives that it can serve; the others are
        left out
    text_tokens: positions of a text, padding included
    rows: batch size
    words: mean number of words of a caption that MLM may hide; None: captions fill all positions
    swapped: share of the captions that have another arrangement, for `ITM.swap_share`
    frozen: towers that do not learn
    kept: whether the states of pictures are there already, and no image tower runs
    """
    off = {f"{name}.weight": 0.0 for name in objectives.active() if name not in design.heads}
    # Noise would be drawn, and a queue that is still empty costs less than all later ones.
    counted = objectives.with_fields({**off, "itc.queue_start": "empty"})
    if not counted.active():
        return 0.0
    batch = _batch(design, counted, text_tokens, rows, words)
    if brought := round(rows * counted.itm.swap_share * swapped):
        with torch.device("meta"):
            batch = dataclasses.replace(
                batch,
                swapped_ids_SL=torch.zeros(brought, text_tokens, dtype=torch.int64),
                swapped_is_real_SL=torch.ones(brought, text_tokens, dtype=torch.bool),
                swapped_at_B=torch.zeros(rows, dtype=torch.int64),
            )
    with torch.device("meta"):
        state = ObjectiveState(counted, design.train())
        nobody = torch.zeros(rows, dtype=torch.int64)
    if state.queue is not None:
        state.queue.filled = state.queue.size
    with contextlib.ExitStack() as stack:
        stack.enter_context(HeldStill(design, frozen).inside())
        if kept:
            both = [design] if state.twin is None else [design, state.twin.design]
            stack.enter_context(remembering(FirstOutputs(), both))
            design.encode_image(batch.pixels())
        counter = stack.enter_context(FlopCounterMode(display=False))
        taught = state.teach(design, batch, packed=False)
        negatives = Negatives(image_for_text_B=nobody, text_for_image_B=nobody)
        losses = terms(design, state, batch, negatives=negatives, taught=taught)
        total(losses.terms, counted).backward()
    design.zero_grad(set_to_none=True)
    return counter.get_total_flops() / rows


def mean_flops(
    counted: Counted, freeze: Freeze, *, steps: int, rows: int, kept: int, image: float
) -> float:
    """Returns the FLOPs of one training sample as a mean over a run in which towers are frozen.

    steps, rows: of the run, and of a batch
    kept: how many different pictures a frozen image tower sees, each computed once; 0: none is kept
    image: FLOPs of its forward pass for one picture
    """
    lengths = stretches(freeze, steps).items()
    spent = sum(n * counted(towers, kept > 0 and "image" in towers) for towers, n in lengths)
    return (spent + kept * image / rows) / steps


def image_flops(design: FusionDesign) -> float:
    """Counts the forward pass of the image tower of a design, on the meta device, for one
    picture."""
    backbone = design.backbone
    size = (1, backbone.image_channels, backbone.image_size, backbone.image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        design.get_submodule("image")(torch.zeros(size, device="meta"))
    return counter.get_total_flops()


def _batch(
    design: FusionDesign, objectives: Objectives, length: int, rows: int, words: float | None
) -> Batch:
    """A batch of the sizes that training sees, on the meta device."""
    backbone, most = design.backbone, max(length - SPECIAL, 0)
    hidden = round(rows * objectives.mlm.share * (most if words is None else words))
    read = widest(most, objectives.mlm.share)
    with torch.device("meta"):
        each_B = torch.zeros(rows, dtype=torch.int64)
        ids_BL = torch.zeros(rows, length, dtype=torch.int64)
        size = (rows, backbone.image_channels, backbone.image_size, backbone.image_size)
        keys = Identity(
            group_B=each_B, picture_B=each_B, caption_B=each_B, captions_BC=each_B[:, None]
        )
        return Batch(
            step=0,
            rows_B=each_B,
            image_BCHW=torch.zeros(size, dtype=torch.uint8),
            ids_BL=ids_BL,
            text_is_real_BL=torch.ones(rows, length, dtype=torch.bool),
            masked_ids_BL=ids_BL,
            mask_positions_BR=torch.zeros(rows, read, dtype=torch.int64),
            mask_labels_BR=torch.zeros(rows, read, dtype=torch.int64),
            hidden_N=torch.zeros(max(hidden, 1), dtype=torch.int64),
            identity=keys,
            match_BB=torch.zeros(rows, rows, dtype=torch.bool),
        )
