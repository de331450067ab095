"""What a design costs: parameters, FLOPs and kept activations, of one sample, by part.

Counted by running the design on torch's meta device, so nothing is computed and any scale takes a
second or two. Counted FLOPs are those of matrix products, attention and convolutions, 2 per
multiply-accumulate, at padded length; norms, activations, softmax, embedding look-ups and
additions are not counted (under 2 % at base scale). Attention is counted as its two products.
A training step is 3 forward passes' worth: the forward and a backward of twice its cost. Kept
activations are the bytes of every tensor that the forward pass saves for the backward, weights not
included, in the design's dtype, with attention probabilities where the meta device's attention
keeps them: an upper estimate for fused attention.

Shape suffixes: B rows, L text positions, R positions read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from architectures import build
from architectures.backbone import Backbone
from architectures.contract import OBJECTIVES, FusionDesign

MASKED_SHARE = 0.15
BACKWARD = 2
"""Cost of a backward pass, in forward passes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pass:
    """One forward pass of a part over one sample."""

    flops: int = 0
    kept_bytes: int = 0

    def __add__(self, other: Pass) -> Pass:
        return Pass(flops=self.flops + other.flops, kept_bytes=self.kept_bytes + other.kept_bytes)

    def __mul__(self, times: int) -> Pass:
        return Pass(flops=self.flops * times, kept_bytes=self.kept_bytes * times)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of a design with its heads; passes it cannot make cost nothing."""

    parameters: int
    trainable: int
    by_part: Mapping[str, int]
    """Parameters of `image`, `text`, `fusion` and `heads`, each with the first that uses it; the
    tied word embedding is text's.
    """
    text_tokens: int
    """Positions of a text, padding included."""
    masked: int
    """Positions predicted by MLM: 15 %, rounded up."""
    image: Pass
    text: Pass
    fuse: Pass
    """One image with one text, every position computed in the last layer."""
    fuse_pooled: Pass
    """The same, of which only position 0 is read (ITM)."""
    fuse_masked: Pass
    """The same, read at `masked` positions (MLM)."""
    heads: Mapping[str, Pass]
    """One use of each head: `itc` on both sides, `itm` on a row, `mlm` on `masked` positions."""


def cost(
    name: str,
    fields: Mapping[str, Any],
    backbone: Backbone,
    vocabulary: int,
    *,
    text_tokens: int,
    objectives: Collection[str] = OBJECTIVES,
) -> Cost:
    """The cost of a design that is not built yet. Raises `SettingError` like `build.design`."""
    with torch.device("meta"):
        design = build.construct(name, fields, backbone, vocabulary, objectives)
    return measure(design, text_tokens=text_tokens)


def measure(design: FusionDesign, *, text_tokens: int) -> Cost:
    """The cost of a design on the meta device."""
    backbone, heads = design.backbone, design.heads
    size = (1, backbone.image_channels, backbone.image_size, backbone.image_size)
    ids_BL = torch.zeros(1, text_tokens, dtype=torch.int64, device="meta")
    masked = math.ceil(MASKED_SHARE * text_tokens)
    dtype = next(design.parameters()).dtype
    pixels = torch.zeros(size, device="meta", dtype=dtype)
    with _modules_used(design) as used_by_image:
        image, image_pass = _count(design, lambda: design.encode_image(pixels))
    with _modules_used(design) as used_by_text:
        text, text_pass = _count(design, lambda: design.encode_text(ids_BL, ids_BL == 0))

    def fuse(positions: int | None) -> tuple[Any, Pass]:
        at_BR = None if positions is None else ids_BL[:, :positions]
        anew = dataclasses.replace(image, projected={})  # no pass profits by another
        return _count(design, lambda: design.fuse(anew, text, read_at_BR=at_BR))

    passes = {"fuse": Pass(), "fuse_pooled": Pass(), "fuse_masked": Pass()}
    head_passes = {}
    if design.facts(design.config, backbone).can_fuse:
        fused, passes["fuse"] = fuse(None)
        passes["fuse_pooled"], passes["fuse_masked"] = fuse(0)[1], fuse(masked)[1]
        if "itm" in heads:
            head_passes["itm"] = _count(design, lambda: heads["itm"](fused.pooled_BD))[1]
        if "mlm" in heads:
            words = fused.text_BRD[0, :masked]
            head_passes["mlm"] = _count(design, lambda: heads["mlm"](words))[1]
    if "itc" in heads:
        # What ITC reads is made when it is first read: a joint stack's own pass is ITC's.
        head_passes["itc"] = _count(design, lambda: heads["itc"](image.pooled_BD, text.pooled_BD))[
            1
        ]
    return Cost(
        parameters=sum(p.numel() for p in design.parameters()),
        trainable=sum(p.numel() for p in design.parameters() if p.requires_grad),
        by_part=_parts(design, used_by_image, used_by_text),
        text_tokens=text_tokens,
        masked=masked,
        image=image_pass,
        text=text_pass,
        heads=head_passes,
        **passes,
    )


def training_pass(cost: Cost, objectives: Collection[str]) -> Pass:
    """All forward passes of one training sample.

    Image once; text once for ITC and ITM, once more (masked) for MLM; fusion on 3 rows for ITM,
    a positive and two negatives, and on 1 row for MLM. Objectives without a head are left out.
    """
    active = [name for name in objectives if name in cost.heads]
    total = cost.image
    if "itc" in active or "itm" in active:
        total += cost.text
    if "itc" in active:
        total += cost.heads["itc"]
    if "itm" in active:
        total += (cost.fuse_pooled + cost.heads["itm"]) * 3
    if "mlm" in active:
        total += cost.text + cost.fuse_masked + cost.heads["mlm"]
    return total


def teaching_pass(cost: Cost, taught: Collection[str]) -> Pass:
    """All passes of one sample through a momentum teacher, which has no backward pass: the image
    once, the text for ITC and, masked, for MLM.
    """
    active = [name for name in taught if name in cost.heads]
    total = cost.image if active else Pass()
    if "itc" in active:
        total += cost.text + cost.heads["itc"]
    if "mlm" in active:
        total += cost.text + cost.fuse_masked + cost.heads["mlm"]
    return total


def training_flops(cost: Cost, objectives: Collection[str], taught: Collection[str] = ()) -> float:
    """FLOPs of one training sample, forward and backward, without the optimizer; `taught`: the
    objectives that ask a momentum teacher.
    """
    own = (1 + BACKWARD) * training_pass(cost, objectives).flops
    return float(own + teaching_pass(cost, taught).flops)


def _count(design: nn.Module, run: Callable[[], Any]) -> tuple[Any, Pass]:
    """What a pass gives, its FLOPs and the bytes it keeps for the backward pass."""
    weights = {p.untyped_storage()._cdata for p in design.parameters()}
    kept: dict[int, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = (tensor, storage.nbytes())
        return tensor

    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        result = run()
    size = sum(nbytes for _, nbytes in kept.values())
    return result, Pass(flops=counter.get_total_flops(), kept_bytes=size)


@contextlib.contextmanager
def _modules_used(design: nn.Module) -> Iterator[set[int]]:
    """The ids of the modules that are called inside."""
    used: set[int] = set()
    hooks = [
        module.register_forward_pre_hook(lambda module, _: used.add(id(module)))
        for module in design.modules()
    ]
    yield used
    for hook in hooks:
        hook.remove()


def _parts(design: nn.Module, used_by_image: set[int], used_by_text: set[int]) -> dict[str, int]:
    """Parameters by who first uses them: the image's encoder, the text's, else fusion."""
    parts = dict.fromkeys(("image", "text", "fusion", "heads"), 0)
    for role, parameter in design.named_parameters():
        # A table that is read without its module's call belongs to the parent's part.
        owner = role.rpartition(".")[0]
        near = {id(design.get_submodule(m)) for m in (owner, owner.rpartition(".")[0]) if m}
        part = "image" if near & used_by_image else "text" if near & used_by_text else "fusion"
        parts["heads" if role.startswith("heads.") else part] += parameter.numel()
    return parts
