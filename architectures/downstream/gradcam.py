"""Grad-CAM shows where in a picture a design looks for what a text says.

Selvaraju et al. 2017, on attention as salesforce/ALBEF does it for RefCOCO+ (Li et al. 2021;
Grounding.py): probabilities times what part of their gradient is positive. By ITM they are those of
cross-attention, from words to image tokens, and the gradient that of the match logit; by ITC those
of one block of the image tower, from the class token (where tokens are compared, from every one) to
patches, and the gradient that of the cosine.

Shape suffixes: B rows, C channels, H heads (of pixels: height), W width, L text positions, Q
queries, K keys, P image tokens, h and w rows and columns of patches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor

from architectures.contract import Facts, FusionDesign
from architectures.frozen import SettingError
from architectures.layers.heads import itc_head
from architectures.layers.kept import kept_attention
from architectures.layers.similarity import similarities

By = Literal["itm", "itc"]
"""The objective whose score a map explains."""
BOTH: tuple[By, ...] = ("itm", "itc")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Maps:
    """Maps of a batch, with what they were made of; none has a gradient of its own."""

    map_Bhw: Tensor
    """(B, h, w) how much each patch speaks for the text, 0 or more, top row first."""
    score: Tensor
    """By ITM the logits (B, 2), of which column 1 is the match; by ITC cosines over temperature, of
    every image with every text, (B, B)."""
    attention: Tensor
    """By ITM (B, H, L, P) probabilities; by ITC (B, H, Q, K), row 0 of which is the class token's.
    """
    gradient: Tensor
    """Of the sum of the B scores, with respect to `attention`."""


def why_not(facts: Facts, heads: Collection[str], by: By) -> str:
    """Says why there is no map by ITM, or by ITC, as the end of 'not applicable, because ...';
    empty: there is one. `heads`: the objectives that the design is trained on.
    """
    why = facts.no_align if by == "itc" else facts.no_fuse or facts.no_words or facts.no_map
    return why or ("" if by in heads else f"{by.upper()} is off")


def way(facts: Facts, heads: Collection[str], by: By) -> By | None:
    """Returns the way in which a design is asked for a map: the one wanted, where it has it, else
    the other; None: it has neither.
    """
    other: By = "itc" if by == "itm" else "itm"
    return next((each for each in (by, other) if not why_not(facts, heads, each)), None)


def why_neither(facts: Facts, heads: Collection[str]) -> str:
    """Says why there is a map neither by ITM nor by ITC; empty: there is one."""
    reasons = {by: why_not(facts, heads, by) for by in BOTH}
    if not all(reasons.values()):
        return ""
    return f"there is no map by ITM ({reasons['itm']}) and none by ITC ({reasons['itc']})"


def layers_of(design: FusionDesign, by: By) -> tuple[str, ...]:
    """Returns the names of the layers that have such a map, lowest first."""
    return design.crossings() if by == "itm" else design.image_pass()


def layer_of(design: FusionDesign, by: By, layer: int | None) -> str:
    """Returns the name of the layer that is looked at.

    layer: its number among those that have such a map, negative from the end. None: by ITM the
        middle one, by ITC the one two thirds up: ALBEF's third of six and its ninth of twelve
    Raises `SettingError` where there is none of that number, or none at all.
    """
    names = layers_of(design, by)
    what = "layer in which words read image tokens" if by == "itm" else "block of an image tower"
    if not names:
        raise SettingError(f"{design.name} shows no map: it names no {what}")
    if layer is None:
        return names[(len(names) - 1) // 2 if by == "itm" else 2 * len(names) // 3]
    if not -len(names) <= layer < len(names):
        raise SettingError(
            f"layer is {layer}, but {design.name} has {len(names)} of the kind {what!r}: take 0 to "
            f"{len(names) - 1}, or -1 for the last"
        )
    return names[layer]


def maps(
    design: FusionDesign,
    image_BCHW: Tensor,
    ids_BL: Tensor,
    text_is_real_BL: Tensor,
    *,
    by: By,
    layer: int | None = None,
    temperature: float = 1.0,
) -> Maps:
    """Computes the maps of B images, each with its own text. The design is in eval mode.

    image_BCHW: (B, C, H, W) normalised pixels
    ids_BL: (B, L) int64 token ids, 0 at padding
    text_is_real_BL: (B, L) bool, True where there is a token
    layer: see `layer_of`
    temperature: by ITC cosines are divided by it, which only scales a map
    Raises `SettingError` as `layer_of` does, and where image tokens are no class token and patches.
    """
    name = layer_of(design, by, layer)
    # Also of a design whose tower is frozen do probabilities then have a gradient.
    image_BCHW = image_BCHW.detach().requires_grad_()
    with torch.enable_grad():
        if by == "itm":
            return _by_itm(design, image_BCHW, ids_BL, text_is_real_BL, name)
        return _by_itc(design, image_BCHW, ids_BL, text_is_real_BL, name, temperature)


def _by_itm(
    design: FusionDesign, image_BCHW: Tensor, ids_BL: Tensor, text_is_real_BL: Tensor, name: str
) -> Maps:
    image, text = design.encode_image(image_BCHW), design.encode_text(ids_BL, text_is_real_BL)
    fused = design.fuse(image, text, keep_attention=[name])
    logits_B2 = design.heads["itm"](fused.pooled_BD)
    attention = fused.attention[name]
    (gradient,) = torch.autograd.grad(logits_B2[:, 1].sum(), attention)
    cam_BHLP = attention * gradient.clamp(min=0) * text_is_real_BL[:, None, :, None]
    # The mean counts padding, as published: the length of a batch scales its maps.
    return _maps(design, cam_BHLP.mean((1, 2)), logits_B2, attention, gradient)


def _by_itc(
    design: FusionDesign,
    image_BCHW: Tensor,
    ids_BL: Tensor,
    text_is_real_BL: Tensor,
    name: str,
    temperature: float,
) -> Maps:
    with kept_attention(design.get_submodule(name)) as kept:
        image = design.encode_image(image_BCHW)
        _ = image.pooled_BD  # a pass of its own, in some designs
    text, head = design.encode_text(ids_BL, text_is_real_BL), itc_head(design)
    scores_BB = similarities(*head.features(image, text), head.similarity) / temperature
    (attention,) = kept
    (gradient,) = torch.autograd.grad(scores_BB.diagonal().sum(), attention)
    cam_BHQK = attention * gradient.clamp(min=0)
    read = slice(1) if head.similarity == "pooled" else slice(None)  # late: every token is compared
    return _maps(design, cam_BHQK[:, :, read].mean((1, 2)), scores_BB, attention, gradient)


def _maps(
    design: FusionDesign, cam_BP: Tensor, score: Tensor, attention: Tensor, gradient: Tensor
) -> Maps:
    backbone = design.backbone
    side = backbone.image_size // backbone.patch_size
    before = cam_BP.shape[1] - side * side
    if before < 0:
        raise SettingError(
            f"{design.name} shows no map: an image is {cam_BP.shape[1]} tokens, and not one for "
            f"each of its {side * side} patches"
        )
    map_Bhw = cam_BP[:, before:].unflatten(1, (side, side))
    return Maps(
        map_Bhw=map_Bhw.detach(),
        score=score.detach(),
        attention=attention.detach(),
        gradient=gradient.detach(),
    )
