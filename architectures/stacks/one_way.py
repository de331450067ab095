"""One-way fusion leads text states through layers that read the image tower's tokens.

ALBEF's direction (Li et al. 2021): image tokens never change. What a design adds is which layers
are of text alone, which fuse, and where their weights come from.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Annotated, Literal, Self, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import Facts, Fused, ImageStates, TextStates
from architectures.frozen import SettingError
from architectures.layers.attention import WordsToImage
from architectures.layers.blocks import Layer, Pooler, Step, text_read, with_first
from architectures.layers.read import Read
from architectures.stacks.answer_decoder import AnswerDecoder
from architectures.stacks.image_from import (
    ImageFromConfig,
    blocks_read,
    encoded,
    reads_in_words,
    side_by_side,
    tokens_read,
)
from architectures.stacks.towers import (
    ONE_SOFTMAX,
    TowersConfig,
    TwoTowers,
    Types,
    image_layers,
)
from architectures.weights.slots import FRESH

NEW = ("types.", "pooler.", "image_projection.", "image_blocks.")
"""Parts, besides layers, that no pretrained model has."""


class OneWayConfig(ImageFromConfig, TowersConfig):
    """OneWayConfig says how text reads the image."""

    cross_every: Annotated[int, Field(ge=1)] = 1
    """Cross-attention in every j-th fusion layer, counted from the top; 1: in each."""
    attention: Literal["separate", "joint"] = "separate"
    """How words read the image. `separate`: by cross-attention, a sub-layer with weights of its own
    (ALBEF); `joint`: self-attention reads image tokens beside the words, one softmax and the same
    maps for both, the image fixed (CASA, T5Gemma 2's merged attention)."""
    self_attention: bool = True
    """Whether words read words in the layers in which they read the image."""
    type_embeddings: bool = False
    """Add a learnt row to text tokens and another to image tokens where they meet."""
    pooler: bool = False
    """Linear and tanh on [CLS] before the ITM head and the classifiers of tasks."""


def fusion_layers(config: OneWayConfig, backbone: Backbone, count: int) -> list[Layer]:
    """Makes `count` fusion layers, lowest first; the last one always reads the image."""
    joint = config.attention == "joint"
    order: tuple[Step, ...] = (
        ("self", "cross", "mlp") if config.self_attention else ("cross", "mlp")
    )
    crosses = [above % config.cross_every == 0 for above in reversed(range(count))]
    return [
        Layer(backbone, reads=backbone.image_width, joint=joint, order=order)
        if cross
        else Layer(backbone)
        for cross in crosses
    ]


def blocks_of(name: str, config: OneWayConfig, backbone: Backbone, count: int) -> tuple[int, ...]:
    """Returns the image blocks that `count` fusion layers read, as `blocks_read` does."""
    readers = len(range(0, count, config.cross_every))
    return blocks_read(name, config, image_layers(name, config, backbone), readers)


def fusion_reads(name: str, config: OneWayConfig, backbone: Backbone, count: int) -> str:
    """Says what `count` fusion layers read of the image tower, for `Facts.fusion_reads`."""
    return reads_in_words(config, blocks_of(name, config, backbone, count))


def no_images(name: str, config: OneWayConfig) -> str:
    """Says why text is not fused with several images; empty: it is. Raises `SettingError` where
    words would read nothing at all.
    """
    joint = config.attention == "joint"
    if joint and not config.self_attention:
        raise SettingError(
            f"{name}: attention 'joint' is self-attention; leave self_attention on, or set "
            "attention to 'separate'"
        )
    return ONE_SOFTMAX if joint else ""


def no_decoder(config: OneWayConfig) -> str:
    """Says why no decoder of answers is made of the fusion layers; empty: one is."""
    if config.attention == "joint":
        return Facts.no_decoder
    return "" if config.self_attention else "its layers have no self-attention to be made causal"


class OneWay(TwoTowers, ABC):
    """Text states read image tokens in the layers of `fusion_stack`.

    Roles: those of `TwoTowers`, `types`, `pooler`, `image_projection`, `image_blocks` (of
    `image_concat`), and the fusion layers as the design names them; for several images
    (`for_images`) layer `layers.j` is `layers.j.i` of image i.
    """

    config: OneWayConfig
    images: int = 1
    """Images that one text is fused with."""

    def __init__(
        self, config: OneWayConfig, backbone: Backbone, vocabulary: int, *, layers: nn.ModuleList
    ) -> None:
        super().__init__(config, backbone, vocabulary, layers=layers)
        facts = self.facts(config, backbone)
        fuses = facts.can_fuse
        self.blocks = blocks_of(self.name, config, backbone, facts.fusion_layers)
        text, image = backbone.text_width, backbone.image_width
        self.types = Types(text, image) if fuses and config.type_embeddings else None
        self.pooler = Pooler(text) if fuses and config.pooler else None
        self.image_projection = None
        if fuses and config.attention == "joint" and image != text:
            self.image_projection = nn.Linear(image, text)
        self.image_blocks = side_by_side(config, self.blocks, image)

    def encode_image(self, image_BCHW: Tensor) -> ImageStates:
        """Its `layers` are what fusion reads, where that is not the last block."""
        return encoded(self.image, image_BCHW, self.config, self.blocks)

    @abstractmethod
    def fusion_stack(self) -> Sequence[tuple[str, Layer]]:
        """Returns name and module of every fusion layer, lowest first; empty: it cannot fuse."""

    def stack(self, name: str) -> list[tuple[str, Layer]]:
        """Returns role and module of every layer of the list of layers that has this name."""
        layers: list[tuple[str, Layer]] = []
        for j, layer in enumerate(cast(Iterable[Layer | nn.ModuleList], getattr(self, name))):
            of_images = isinstance(layer, nn.ModuleList)
            copies = cast(Iterable[Layer], layer) if of_images else ()
            layers += [(f"{name}.{j}.{i}", each) for i, each in enumerate(copies)]
            layers += [] if of_images else [(f"{name}.{j}", cast(Layer, layer))]
        return layers

    def crossings(self) -> tuple[str, ...]:
        return tuple(name for name, layer in self.fusion_stack() if layer.crosses)

    def fuse(
        self,
        image: ImageStates,
        text: TextStates,
        *,
        read_at_BR: Tensor | None = None,
        keep_attention: Collection[str] = (),
    ) -> Fused:
        """Text states read the image in the layers that have cross-attention."""
        stack = self.fusion_stack()
        if not stack:
            raise self.cannot_fuse()
        x_TD, layout = text.tokens_TD, text.layout
        x_TD = x_TD if self.types is None else x_TD + self.types.text_D
        turns = self._turns(image)
        at_BR = with_first(read_at_BR)
        attention: dict[str, Tensor] = {}
        for name, layer in stack:
            kept: list[Tensor] | None = None
            if name in keep_attention:
                kept = WordsToImage(layout.is_real_BL.shape[1]) if layer.joint else []
            last, read = layer is stack[-1][1], next(turns) if layer.crosses else None
            x_TD = layer(x_TD, layout, read, read_at_BR=at_BR if last else None, keep=kept)
            if kept and layer.crosses:
                attention[name] = kept[0]
        text_BRD, first_BD = text_read(x_TD, layout, at_BR)
        pooled_BD = first_BD if self.pooler is None else self.pooler(first_BD)
        return Fused(text_BRD=text_BRD, image_BPD=None, pooled_BD=pooled_BD, attention=attention)

    def _turns(self, image: ImageStates) -> Iterator[Read]:
        """Yields what each layer that crosses reads, lowest first; of several images one after
        another in each of the blocks that are read.
        """
        readers = sum(layer.crosses for _, layer in self.fusion_stack()) // self.images
        places = self._of_each_place(image)
        brought = dict[int, Tensor]()  # by tensor: what several layers read is computed once
        for tokens_UPE in tokens_read(image, readers, self.image_blocks):
            if id(tokens_UPE) not in brought:
                x_UPE = tokens_UPE if self.types is None else tokens_UPE + self.types.image_D
                projection = self.image_projection
                brought[id(tokens_UPE)] = x_UPE if projection is None else projection(x_UPE)
            yield from (Read.of_image(each, brought[id(tokens_UPE)]) for each in places)

    def _of_each_place(self, image: ImageStates) -> list[ImageStates]:
        """Returns the images that stand first for their row of text, then the second ones, ..."""
        if self.images == 1:
            return [image]
        tokens_UPD = image.distinct_UPD
        rows = len(tokens_UPD if image.rows_B is None else image.rows_B)
        places = torch.arange(rows, device=tokens_UPD.device).view(-1, self.images)
        return [image.take(place_B) for place_B in places.unbind(1)]

    def for_images(self, count: int) -> Self:
        """Returns a copy in which `count` layers follow one another in place of each that reads the
        image, the i-th of which reads image i (salesforce/ALBEF, models/model_nlvr.py). They start
        alike, and share the keys and values of cross-attention, one parameter each; a layer without
        cross-attention stays one. Raises `TypeError` where the design cannot fuse.
        """
        if not self.fusion_stack():
            raise self.cannot_fuse()
        if self.images != 1:
            raise ValueError(f"this copy fuses {self.images} images already; take the design")
        design = copy.deepcopy(self)
        for name in self.crossings():
            stack, _, place = name.rpartition(".")
            layers = cast(nn.ModuleList, design.get_submodule(stack))
            layers[int(place)] = _of_images(cast(Layer, layers[int(place)]), count)
        design.images = count
        return design

    def answer_decoder(self) -> AnswerDecoder:
        return AnswerDecoder(self, [layer for _, layer in self.fusion_stack()])

    def new_parts(self) -> frozenset[str]:
        crossing = (
            f"{name}.{part}."
            for name in self.crossings()
            for part in ("cross_attention", "cross_norm")
        )
        table = self.slots(self.config, self.backbone)
        fresh = (f"{slot}." for slot, source in table.items() if source == FRESH)
        return frozenset({*crossing, *fresh, *NEW})


def _of_images(layer: Layer, count: int) -> nn.ModuleList:
    """Returns a layer and its copies, which share keys and values of cross-attention with it."""
    copies = [copy.deepcopy(layer) for _ in range(count - 1)]
    for each in copies:
        each.cross_attention.key = layer.cross_attention.key
        each.cross_attention.value = layer.cross_attention.value
    return nn.ModuleList([layer, *copies])
