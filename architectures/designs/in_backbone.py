"""Gated cross-attention inside both towers: their top layers read each other, nothing stands above.

FIBER (Dou et al. 2022; microsoft/FIBER) by default. Between self-attention and its residual, a
fused layer adds what it reads of the other tower's tokens, times a learnt gate that starts at 0: at
the first step the fused towers say, to the last bit, what they say alone. Layers are paired from
the top, and both of a pair read what the other was given. Without its gates' parts each tower is
the un-fused encoder, which ITC reads.

As there, the image asks from what self-attention found, normed, text from what it found as it is;
both read raw states, the image no padding. Otherwise than there: the towers are a ViT and BERT (a
Swin-B and RoBERTa there, the Swin's patches averaged where the class token stands here), fused
towers keep their last norms, and no linear map stands before the poolers, ITC's and MLM's heads.

Shape suffixes: B rows, U different images, P image tokens, R positions read, T flat tokens, D
width.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import (
    DesignConfig,
    Facts,
    Fused,
    FusionDesign,
    ImageStates,
    TextStates,
)
from architectures.frozen import SettingError
from architectures.layers.blocks import Attention, Embeddings, Layer, Pooler, text_read, with_first
from architectures.layers.gated import Crossing, GateKind
from architectures.layers.read import CrossingInside, Read
from architectures.layers.sequence import walk_alone
from architectures.layers.vit_blocks import ViTBlock
from architectures.layout import Layout
from architectures.stacks.image_tower import ImageTower
from architectures.stacks.towers import TELLS, not_causal, stack_slots, text_layers
from architectures.weights.slots import FRESH

FUSED = 6
"""FIBER's fused layers of each tower."""


class InBackboneConfig(DesignConfig):
    """Which layers of the towers read each other, and through which gate. FIBER's new_part_rate is
    5."""

    fusion_layers: Annotated[int, Field(ge=0)] | None = None
    """Top layers of each tower that are fused, paired from the top. None: 6, or all of the shorter
    tower where that has fewer."""
    text_layers: Annotated[int, Field(ge=1)] | None = None
    """Layers of the text tower, fused ones included, the lowest of the backbone's stack; None: all
    of them."""
    readers: Literal["both", "text", "image"] = "both"
    """Which modality reads the other; the other one goes through its tower as if alone."""
    gate: GateKind = "scalar"
    """What is read is multiplied by. `scalar`: a learnt number of each layer and direction (FIBER);
    `tanh`: the tanh of one (Flamingo); `none`: nothing, it is added as it is."""
    gate_start: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Start of the learnt number. 0: nothing is let in before a first step; 1 is no gate at first,
    but for `tanh`."""
    itc: Literal["towers", "below"] = "towers"
    """What ITC reads. `towers`: both whole towers as if alone, which takes a second pass through
    the fused layers; `below`: of a modality that reads the other, its last states before it does
    (ALBEF's place), which takes none."""
    pooler: bool = True
    """Linear and tanh on [CLS] and on the class token, one each, before they are put side by side
    for the ITM head and the classifiers of tasks."""


class InBackbone(FusionDesign):
    """Gated cross-attention inside the top layers of both towers (FIBER).

    Roles: `image`, `embeddings`, `layers.j`, all as un-fused; `text_crossing.j` of text layer j and
    `image_crossing.j` of image block j; `pooler`, `image_pooler`.
    """

    name: ClassVar[str] = "in_backbone"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = InBackboneConfig
    config: InBackboneConfig

    def __init__(self, config: InBackboneConfig, backbone: Backbone, vocabulary: int) -> None:
        super().__init__(config, backbone, vocabulary)
        depth = text_layers(self.name, config.text_layers, backbone)
        self.count = fused_layers(config, backbone)
        self.image = ImageTower(backbone)
        self.embeddings = Embeddings(backbone, vocabulary)
        self.layers = nn.ModuleList(Layer(backbone) for _ in range(depth))
        self.text_crossing, self.image_crossing = nn.ModuleDict(), nn.ModuleDict()
        text, image = backbone.text_width, backbone.image_width
        of_text, of_image = _places(config, backbone)
        for j in of_text:
            attention = Attention(text, backbone.text_heads, reads=image, dropout=backbone.dropout)
            self.text_crossing[str(j)] = Crossing(attention, config.gate, config.gate_start)
        for j in of_image:
            block = self.image.vit.blocks[j] = ViTBlock(self.image.vit.blocks[j])
            norm = nn.LayerNorm(image, eps=block.norm1.eps)
            # The image tower has no dropout, here no more than anywhere else.
            attention = Attention(image, backbone.image_heads, reads=text, dropout=0.0)
            self.image_crossing[str(j)] = Crossing(attention, config.gate, config.gate_start, norm)
        pools = config.pooler and self.count
        self.pooler = Pooler(text) if pools else None
        self.image_pooler = Pooler(image) if pools else None

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        assert isinstance(config, InBackboneConfig)
        not_causal(cls.name, backbone)
        depth = text_layers(cls.name, config.text_layers, backbone)
        count, blocks = fused_layers(config, backbone), backbone.image_layers
        text, image = _places(config, backbone)
        alone = depth - len(text), blocks - len(image)
        if config.gate == "none" and config.gate_start:
            raise SettingError(f"{cls.name}: gate 'none' has no start; leave gate_start out")
        below = config.itc == "below"
        if below and not min(alone):
            raise SettingError(
                f"{cls.name}: with {count} fusion layers all of a tower are fused and nothing is "
                "below them; set itc to 'towers', or fusion_layers lower"
            )
        last = [each - 1 for each in (alone if below else (depth, blocks))]
        return Facts(
            no_fuse="" if count else "fusion_layers = 0 leaves no layer that reads the other tower",
            no_images="a fused layer belongs to its tower and reads one picture through one gate",
            no_decoder="its cross-attention stands inside the layers of a tower, none above it",
            no_caption=TELLS if image else Facts.no_caption,
            no_words="" if text or not count else "with readers 'image' no word reads the image",
            itc_reads=f"[CLS] after text layer {last[0]} and the class token after image block "
            f"{last[1]}, without cross-attention",
            itc_own_pass=bool(text) and not below,
            fusion_reads=_reads(config, depth, blocks, count),
            text_layers=alone[0],
            fusion_layers=count,
            image_layers=alone[1],
            pooled_width=backbone.text_width + backbone.image_width,
        )

    def towers_alone(self) -> tuple[int, int]:
        """The un-fused towers, all of their layers where ITC trains them so."""
        if self.config.itc == "below":
            return super().towers_alone()
        return len(self.image.vit.blocks), len(self.layers)

    def encode_image(self, image_BCHW: Tensor) -> ImageStates:
        """Runs the blocks below the first fused one and returns what that one works on.

        Where the image reads nothing it runs all of them; `layers` then hold what each of the top
        blocks worked on, for text to read.
        """
        blocks, inputs = self.image.vit.blocks, list[Tensor]()
        first = len(blocks) - self.count
        x_BPD = self.image.embed(image_BCHW)
        for j, block in enumerate(blocks[:first] if self.image_crossing else blocks):
            inputs += [x_BPD] if j >= first else []
            x_BPD = block(x_BPD)
        if not self.image_crossing:
            x_BPD = self.image.vit.norm(x_BPD)
            return ImageStates(distinct_UPD=x_BPD, pooled=x_BPD[:, 0], layers=tuple(inputs))

        def pooled() -> Tensor:
            stack = {} if self.config.itc == "below" else _named(blocks[first:])
            first_BD = walk_alone(stack, x_BPD) if stack else x_BPD[:, 0]
            return self.image.vit.norm(first_BD)

        return ImageStates(distinct_UPD=x_BPD, pooled=pooled)

    def encode_text(
        self, ids_BL: Tensor, text_is_real_BL: Tensor, *, packed: bool = False
    ) -> TextStates:
        """Runs the text layers below the first fused one, or all where text reads nothing."""
        layout, inputs = Layout.of(text_is_real_BL, packed=packed), list[Tensor]()
        first = len(self.layers) - self.count
        x_TD = self.embeddings(ids_BL, layout)
        for j, layer in enumerate(self.layers[:first] if self.text_crossing else self.layers):
            inputs += [x_TD] if j >= first else []
            x_TD = layer(x_TD, layout)

        def pooled() -> Tensor:
            alone = not self.text_crossing or self.config.itc == "below"
            stack = {} if alone else _named(self.layers[first:])
            return walk_alone(stack, x_TD, layout) if stack else layout.first(x_TD)

        return TextStates(tokens_TD=x_TD, layout=layout, pooled=pooled, layers=tuple(inputs))

    def fuse(
        self,
        image: ImageStates,
        text: TextStates,
        *,
        read_at_BR: Tensor | None = None,
        keep_attention: Collection[str] = (),
    ) -> Fused:
        """Both towers' upper layers run side by side and read each other through gates."""
        if not self.count:
            raise self.cannot_fuse()
        at_BR = with_first(read_at_BR)
        kept: dict[str, list[Tensor]] = {name: [] for name in self.crossings()}
        text_stream = Read(states=text.tokens_TD, layout=text.layout)
        image_stream = Read.of_image(image)
        for place in range(self.count):
            text_stream = (
                dataclasses.replace(text_stream, states=text.layers[place])
                if text.layers
                else text_stream
            )
            image_stream = (
                Read.of_image(image, image.layers[place]) if image.layers else image_stream
            )
            name = f"text_crossing.{len(self.layers) - self.count + place}"
            keep = kept[name] if name in keep_attention else None
            read_BR = at_BR if place == self.count - 1 else None
            text_stream, image_stream = (
                self._text_layer(place, text_stream, image_stream, read_BR, keep),
                self._image_block(place, image_stream, text_stream, read_BR is not None),
            )
        text_BRD, text_BD = self._text_output(text_stream, text, at_BR)
        image_BPD, image_BD = self._image_output(image_stream, image)
        text_BD = text_BD if self.pooler is None else self.pooler(text_BD)
        image_BD = image_BD if self.image_pooler is None else self.image_pooler(image_BD)
        return Fused(
            text_BRD=text_BRD,
            image_BPD=image_BPD if at_BR is None else None,
            pooled_BD=torch.cat([text_BD, image_BD], dim=-1),
            attention={name: each[0] for name, each in kept.items() if each},
        )

    def _text_layer(
        self,
        place: int,
        text_stream: Read,
        seen: Read,
        read_at_BR: Tensor | None,
        keep: list[Tensor] | None,
    ) -> Read:
        """Runs a fused text layer, with `read_at_BR` at those positions; does nothing where text
        reads nothing.
        """
        if not self.text_crossing or text_stream.layout is None:
            return text_stream
        j = len(self.layers) - self.count + place
        join = functools.partial(self.text_crossing[str(j)], keep=keep)
        inside = CrossingInside(join=join, read=seen)
        x_TD = self.layers[j](
            text_stream.states, text_stream.layout, read_at_BR=read_at_BR, inside=inside
        )
        return Read(states=x_TD, layout=text_stream.layout)

    def _image_block(self, place: int, image_stream: Read, heard: Read, first_only: bool) -> Read:
        """Runs a fused image block on every row, or for its class token alone; does nothing where
        the image reads nothing. Self-attention of the first block is computed once per image.
        """
        if not self.image_crossing or heard.layout is None:
            return image_stream
        blocks, spread = self.image.vit.blocks, None
        x_TD, layout, device = image_stream.states, image_stream.layout, image_stream.states.device
        if layout is None:
            layout = Layout.full(x_TD.shape[0], x_TD.shape[1], device)
            x_TD, spread = x_TD.flatten(0, 1), functools.partial(_by_row, image_stream, len(x_TD))
        rows, tokens = len(heard.layout.is_real_BL), layout.is_real_BL.shape[1]
        at_B1 = layout.is_real_BL.new_zeros(len(layout.is_real_BL), 1, dtype=torch.int64)
        j = len(blocks) - self.count + place
        out_TD = blocks[j](
            x_TD,
            layout,
            read_at_BR=at_B1 if first_only else None,
            inside=CrossingInside(join=self.image_crossing[str(j)], read=heard, spread=spread),
        )
        return Read(states=out_TD, layout=Layout.full(rows, 1 if first_only else tokens, device))

    def _text_output(
        self, text_stream: Read, text: TextStates, at_BR: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns `text_BRD` and [CLS] (B, D)."""
        x_TD = text_stream.states
        if not self.text_crossing:
            x_TD = text.tokens_TD if at_BR is None else text.layout.at(text.tokens_TD, at_BR)[0]
        return text_read(x_TD, text.layout, at_BR)

    def _image_output(self, image_stream: Read, image: ImageStates) -> tuple[Tensor | None, Tensor]:
        """Returns image tokens, None where they never change, and the class token (B, D)."""
        if not self.image_crossing:
            return None, image.by_row(image.distinct_UPD[:, :1])[:, 0]
        x_BPD = image_stream.rows(self.image.vit.norm(image_stream.states))
        return x_BPD, x_BPD[:, 0]

    def crossings(self) -> tuple[str, ...]:
        return tuple(f"text_crossing.{j}" for j in self.text_crossing)

    def image_pass(self) -> tuple[str, ...]:
        below = self.image_crossing and self.config.itc == "below"
        return self.image.block_names(-self.count if below else None)

    def word_embedding(self) -> nn.Embedding:
        return self.embeddings.word

    def new_parts(self) -> frozenset[str]:
        return frozenset({"text_crossing.", "image_crossing.", "pooler.", "image_pooler."})

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        assert isinstance(config, InBackboneConfig)
        text, image = _places(config, backbone)
        fresh = [*(f"text_crossing.{j}" for j in text), *(f"image_crossing.{j}" for j in image)]
        depth = text_layers(cls.name, config.text_layers, backbone)
        return {**stack_slots(depth), **dict.fromkeys(fresh, FRESH)}


def fused_layers(config: InBackboneConfig, backbone: Backbone) -> int:
    """Returns the number of fused layers of each tower. Raises `SettingError` for too many."""
    depth = text_layers(InBackbone.name, config.text_layers, backbone)
    count, there = config.fusion_layers, min(depth, backbone.image_layers)
    if count is not None and count > there:
        raise SettingError(
            f"{InBackbone.name}: fusion_layers is {count}, but the text tower has {depth} layers "
            f"and the image tower {backbone.image_layers} blocks: take 0 to {there}"
        )
    return min(there, FUSED) if count is None else count


def _places(config: InBackboneConfig, backbone: Backbone) -> tuple[range, range]:
    """Returns the text layers and the image blocks that read the other tower."""
    count = fused_layers(config, backbone)
    depth = text_layers(InBackbone.name, config.text_layers, backbone)
    text, image = (range(there - count, there) for there in (depth, backbone.image_layers))
    none = range(0)
    return none if config.readers == "image" else text, none if config.readers == "text" else image


def _reads(config: InBackboneConfig, depth: int, blocks: int, count: int) -> str:
    """Says in words who reads whom."""
    if not count:
        return ""
    text, image = (", ".join(map(str, range(n - count, n))) for n in (depth, blocks))
    text, image = f"text layers {text}", f"image blocks {image}"
    if config.readers == "image":
        text, image = image, text
    does = "and {} read what the other was" if config.readers == "both" else "read what {} were"
    return f"{text} {does.format(image)} given, one to one"


def _named(stack: nn.ModuleList) -> dict[str, nn.Module]:
    return {str(j): layer for j, layer in enumerate(stack)}


def _by_row(image_stream: Read, images: int, x_TD: Tensor) -> tuple[Tensor, Layout]:
    """Repeats flat tokens of different images for every row; returns them with their layout."""
    x_BPD = image_stream.rows(x_TD.view(images, -1, x_TD.shape[-1]))
    return x_BPD.flatten(0, 1), Layout.full(x_BPD.shape[0], x_BPD.shape[1], x_TD.device)
