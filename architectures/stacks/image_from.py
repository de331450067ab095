"""Fusion reads the image tower's last tokens, those of earlier blocks, or those of several at once.

One block for each fusion layer is what BridgeTower (Xu et al. 2023) and DeepStack (Meng et al.
2024, in Qwen3-VL) do, several side by side what VIP-LLaVA (Cai et al. 2024) does. ITC reads the
last block in any case.

Shape suffixes: U different images, P image tokens, E width of the image tower.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from architectures.contract import ImageStates
from architectures.frozen import SettingError
from architectures.stacks.image_tower import ImageTower
from architectures.stacks.towers import ImageTowerConfig


class ImageFromConfig(ImageTowerConfig):
    """ImageFromConfig says which blocks of the image tower fusion reads."""

    image_from: Literal["last", "each"] | tuple[Annotated[int, Field(ge=0)], ...] = "last"
    """Blocks whose tokens are read, after the tower's last norm. `last`: the last one's; `each`: of
    the highest blocks one for each fusion layer that reads the image, in their order (BridgeTower);
    a list: these, counted from 0, one for each such layer or one for all."""
    image_concat: bool = False
    """All layers read the listed blocks side by side, as they come out, through a norm and an MLP
    to the width of one (VIP-LLaVA)."""


class SideBySide(nn.Module):
    """Tokens of several blocks are put side by side, normed, and brought to the width of one."""

    node: ClassVar[str] = "mlp"

    def __init__(self, blocks: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(blocks * width)
        self.inner = nn.Linear(blocks * width, width)
        self.outer = nn.Linear(width, width)

    def forward(self, x_UPN: Tensor) -> Tensor:
        """Takes tokens side by side (U, P, blocks * E); returns (U, P, E)."""
        return self.outer(nn.functional.gelu(self.inner(self.norm(x_UPN))))


def blocks_read(name: str, config: ImageFromConfig, blocks: int, readers: int) -> tuple[int, ...]:
    """Returns the block that each fusion layer reads, lowest first, or those side by side; empty:
    all read the last one.

    blocks: those of the image tower
    readers: fusion layers that read the image
    Raises `SettingError` for a block that is not there, or too many or few of them.
    """
    chosen = config.image_from
    if config.image_concat and isinstance(chosen, str):
        raise SettingError(
            f"{name}: image_concat puts listed blocks side by side, but image_from is {chosen!r}; "
            "list them, or leave image_concat out"
        )
    if chosen == "last" or not readers:
        return ()
    if chosen == "each":
        if blocks >= readers:
            return tuple(range(blocks - readers, blocks))
        return tuple(as_far_up(place, readers, blocks) for place in range(readers))
    there = set(chosen) <= set(range(blocks))
    if not there or not chosen or (len(chosen) not in (1, readers) and not config.image_concat):
        counts = "at least 1" if config.image_concat else "1" if readers == 1 else f"1 or {readers}"
        raise SettingError(
            f"{name}: image_from {list(chosen)} must name {counts} of the blocks 0 to {blocks - 1} "
            "of the image tower, one for each fusion layer that reads the image"
        )
    alone = len(chosen) == 1 and not config.image_concat
    return chosen * readers if alone else chosen


def blocks_once(name: str, config: ImageFromConfig, blocks: int, *, fuses: bool) -> tuple[int, ...]:
    """Returns the blocks that a stream reads whose image tokens enter it once, below its first
    layer, as `blocks_read` does. Raises `SettingError` where there is one for each layer, too.
    """
    chosen = config.image_from
    if chosen == "each" or (chosen != "last" and len(chosen) > 1 and not config.image_concat):
        raise SettingError(
            f"{name}: image tokens enter its fusion layers once, below the first, and image_from "
            f"{chosen if chosen == 'each' else list(chosen)} is a block for each layer; name one, "
            "set image_concat to true, or take the design bridge"
        )
    return blocks_read(name, config, blocks, readers=int(fuses))


def side_by_side(config: ImageFromConfig, blocks: Sequence[int], width: int) -> SideBySide | None:
    """Returns what puts these blocks side by side; None where none, or one at a time, is read."""
    return SideBySide(len(blocks), width) if blocks and config.image_concat else None


def reads_in_words(config: ImageFromConfig, blocks: tuple[int, ...]) -> str:
    """Says which blocks fusion reads, for `Facts.fusion_reads`; empty: their last."""
    if len(blocks) == 1:
        return f"image block {blocks[0]}"
    how = "side by side" if config.image_concat else "one for each fusion layer"
    return f"image blocks {', '.join(map(str, blocks))}, {how}" if blocks else ""


def as_far_up(place: int, count: int, there: int) -> int:
    """Returns the layer, of `there`, that is about as far up as layer `place` of `count`."""
    return max((2 * (place + 1) * there + count) // (2 * count), 1) - 1


def kept_layers(
    tower: ImageTower, states: ImageStates, blocks: Sequence[int], *, normed: bool
) -> ImageStates:
    """Returns states whose `layers` are the outputs of some blocks, in that order.

    states: of a tower that kept every layer
    normed: pass them through the tower's last norm, as the last one has
    """
    outputs = dict(enumerate(states.layers))
    if normed:
        last = len(outputs) - 1
        outputs = {j: tower.vit.norm(outputs[j]) for j in set(blocks) - {last}}
        outputs[last] = states.distinct_UPD
    return dataclasses.replace(states, layers=tuple(outputs[j] for j in blocks))


def encoded(
    tower: ImageTower,
    image_BCHW: Tensor,
    config: ImageFromConfig,
    blocks: Sequence[int],
    *,
    normed: bool | None = None,
) -> ImageStates:
    """Encodes pixels; `layers` are what fusion reads of `blocks_read`. `normed`: after the tower's
    last norm; None: unless they are put side by side.
    """
    states = tower(image_BCHW, every_layer=bool(blocks))
    if not blocks:
        return states
    normed = not config.image_concat if normed is None else normed
    return kept_layers(tower, states, blocks, normed=normed)


def tokens_read(image: ImageStates, readers: int, concat: SideBySide | None) -> Sequence[Tensor]:
    """Returns the tokens (U, P, E) that each fusion layer reads, lowest first; those of one block
    are one tensor.
    """
    if concat is not None:
        return [concat(torch.cat(image.layers, dim=-1))] * readers
    return image.layers or [image.distinct_UPD] * readers
