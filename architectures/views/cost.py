"""This view counts what a forward pass of a design costs: parameters, FLOPs and kept activations,
of one sample, by part.

The design runs on torch's meta device, so nothing is computed and any scale takes a second or two.
Counted FLOPs are those of matrix products, attention and convolutions, 2 per multiply-accumulate,
at padded length; norms, activations, softmax, embedding look-ups and additions are not counted
(under 2 % at base scale). Kept activations are the bytes of every tensor that the forward pass
saves for the backward, weights not included, in the design's dtype, with attention probabilities
where the meta device's attention keeps them: an upper estimate for fused attention. What training
costs is counted on a real step, by `harness.training.loop.flops`.

Shape suffixes: B rows, L text positions, R positions read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from architectures import build
from architectures.backbone import Backbone
from architectures.contract import FusionDesign
from architectures.facts import USUAL_OBJECTIVES
from architectures.layers.heads import itc_head

MASKED_SHARE = 0.15


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pass:
    """A pass is one forward pass of a part over one sample."""

    flops: int = 0
    kept_bytes: int = 0

    def __add__(self, other: Pass) -> Pass:
        return Pass(flops=self.flops + other.flops, kept_bytes=self.kept_bytes + other.kept_bytes)

    def __mul__(self, times: int) -> Pass:
        return Pass(flops=self.flops * times, kept_bytes=self.kept_bytes * times)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of a design with its heads; passes it cannot make cost nothing."""

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
    """One use of each head: `itc` on both sides, `itm` on a row, `mlm` on `masked` positions,
    `lm` on all.
    """


def cost(
    name: str,
    fields: Mapping[str, JsonValue],
    backbone: Backbone,
    vocabulary: int,
    *,
    text_tokens: int,
    objectives: Collection[str] = USUAL_OBJECTIVES,
) -> Cost:
    """Builds a design and counts its cost. Raises `SettingError` like `build.design`."""
    with torch.device("meta"):
        design = build.construct(name, fields, backbone, vocabulary, objectives)
    return measure(design, text_tokens=text_tokens)


def measure(design: FusionDesign, *, text_tokens: int) -> Cost:
    """Counts the cost of a design on the meta device; `text_tokens`: positions of a text."""
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
        if "lm" in heads:
            head_passes["lm"] = _count(design, lambda: heads["lm"](fused.text_BRD[0]))[1]
    if "itc" in heads:
        # What ITC reads is made when it is first read: a joint stack's own pass is ITC's.
        head_passes["itc"] = _count(design, lambda: itc_head(design).features(image, text))[1]
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


def _count(design: nn.Module, run: Callable[[], object]) -> tuple[Any, Pass]:
    """Returns the output of a pass, its FLOPs and the bytes it keeps for the backward pass."""
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
    """Yields the ids of the modules that are called inside."""
    used: set[int] = set()
    hooks = [
        module.register_forward_pre_hook(lambda module, _: used.add(id(module)))
        for module in design.modules()
    ]
    yield used
    for hook in hooks:
        hook.remove()


def _parts(design: nn.Module, used_by_image: set[int], used_by_text: set[int]) -> dict[str, int]:
    """Counts parameters by who first uses them: the image's encoder, the text's, else fusion."""
    parts = dict.fromkeys(("image", "text", "fusion", "heads"), 0)
    for role, parameter in design.named_parameters():
        # A table that is read without its module's call belongs to the parent's part.
        owner = role.rpartition(".")[0]
        near = {id(design.get_submodule(m)) for m in (owner, owner.rpartition(".")[0]) if m}
        part = "image" if near & used_by_image else "text" if near & used_by_text else "fusion"
        parts["heads" if role.startswith("heads.") else part] += parameter.numel()
    return parts
