"""Two streams above two finished towers: text and image layers that read each other.

METER's co-attention (Dou et al. 2022; zdou0830/METER) by default: a projection and a type row for
each modality, once, then six layers a stream, in parallel, without a weight in common. `order`,
`tied` and `pooled` turn it into LXMERT's cross layers (Tan and Bansal 2019; airsplay/lxmert) and
ViLBERT's blocks (Lu et al. 2019, as e-bug/volta writes them). `affinity` makes one score matrix of
both directions, as GLIP's and Grounding DINO's fusion layers do (Li et al. 2022; Liu et al. 2023),
which stand before the layers of each modality; theirs are pre-norm, with a layer scale of 1e-4.

Otherwise than in LXMERT, whose embeddings are declared with padding_idx 0, the rows of [PAD], of
position 0 and of type 0 learn here, as in every design.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import DesignConfig, Facts, ImageStates, TextStates
from architectures.frozen import SettingError
from architectures.layers.blocks import Layer, Step
from architectures.layers.read import Read
from architectures.stacks.image_from import (
    ImageFromConfig,
    blocks_once,
    encoded,
    reads_in_words,
    side_by_side,
    tokens_read,
)
from architectures.stacks.towers import image_layers, project_needed
from architectures.stacks.two_streams import TwoStreams, TwoStreamsConfig, image_depth, stream_facts

ORDERS: dict[str, tuple[Step, ...]] = {
    "meter": ("self", "cross", "mlp"),
    "lxmert": ("cross", "self", "mlp"),
    "vilbert": ("cross", "cross_mlp", "self", "mlp"),
}


class CoAttentionConfig(ImageFromConfig, TwoStreamsConfig):
    """How the streams read each other, and what they share."""

    order: Literal["meter", "lxmert", "vilbert"] = "meter"
    """Steps of a layer. `meter`: self-attention, cross-attention, MLP; `lxmert`: cross-attention,
    self-attention, MLP; `vilbert`: cross-attention, an MLP of its own, self-attention, MLP."""
    update: Literal["parallel", "sequential"] = "parallel"
    """`parallel`: both streams read what the other's layer was given; `sequential`: the image
    stream reads the text that the same layer has already updated."""
    tied: Literal["no", "cross", "all"] = "no"
    """Weights that both streams of a layer share: none, cross-attention and its norm (LXMERT), or
    all of them."""
    affinity: Literal["own", "shared"] = "own"
    """`own`: each stream asks by queries the other's keys. `shared`: one score matrix of both
    streams' tokens is read both ways, by a softmax over each axis (GLIP, Grounding DINO); each
    stream's queries are the keys that the other one reads. Values and outputs are own in both."""
    projections: bool = True
    """A linear map of each modality's tokens into the streams; needed where widths differ."""


class CoAttention(TwoStreams):
    """Two streams above the towers that read each other (METER; LXMERT's and ViLBERT's layers)."""

    name: ClassVar[str] = "co_attention"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = CoAttentionConfig
    config: CoAttentionConfig

    def __init__(self, config: CoAttentionConfig, backbone: Backbone, vocabulary: int) -> None:
        order, sequential = ORDERS[config.order], config.update == "sequential"
        super().__init__(config, backbone, vocabulary, order=order, sequential=sequential)
        self.blocks = _blocks(config, backbone)
        self.image_blocks = side_by_side(config, self.blocks, backbone.image_width)
        width, projects = backbone.text_width, config.projections and config.fusion_layers
        self.text_projection = nn.Linear(width, width) if projects else None
        self.image_projection = nn.Linear(backbone.image_width, width) if projects else None
        for place in range(len(self.image_fusion)):
            text, image = self.text_fusion[place], self.image_fusion[place]
            assert isinstance(text, Layer) and isinstance(image, Layer)
            if config.tied == "all":
                self.image_fusion[place] = image = text
            elif config.tied == "cross" and text.crosses:
                image.cross_attention, image.cross_norm = text.cross_attention, text.cross_norm
            if config.affinity == "shared" and text.crosses:
                text.cross_attention.key = image.cross_attention.query
                image.cross_attention.key = text.cross_attention.query

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        assert isinstance(config, CoAttentionConfig)
        if not config.projections:
            project_needed(cls.name, backbone)
        if config.tied == "all" and config.image_fusion_from != "random":
            raise SettingError(
                f"{cls.name}: with tied 'all' the image stream has the layers of fusion_from; "
                "leave image_fusion_from out"
            )
        if config.affinity == "shared" and (
            config.order == "meter" or config.update == "sequential"
        ):
            raise SettingError(
                f"{cls.name}: affinity 'shared' compares the tokens that both streams are given; "
                "set order to 'lxmert' or 'vilbert', where cross-attention comes first, and update "
                "to 'parallel'"
            )
        reads = reads_in_words(config, _blocks(config, backbone))
        return dataclasses.replace(stream_facts(cls.name, config, backbone), fusion_reads=reads)

    def encode_image(self, image_BCHW: Tensor) -> ImageStates:
        """Its `layers` are what the image stream begins with, where that is not the last block."""
        return encoded(self.image, image_BCHW, self.config, self.blocks)

    def text_input(self, place: int, text: TextStates, below: Read | None) -> Read:
        if below is not None:
            return below
        x_TD = text.tokens_TD
        x_TD = x_TD if self.text_projection is None else self.text_projection(x_TD)
        x_TD = x_TD if self.types is None else x_TD + self.types.text_D
        return Read(states=x_TD, layout=text.layout)

    def image_input(self, place: int, image: ImageStates, below: Read | None) -> Read:
        if below is not None:
            return below
        x_UPD = tokens_read(image, 1, self.image_blocks)[0]
        x_UPD = x_UPD if self.image_projection is None else self.image_projection(x_UPD)
        x_UPD = x_UPD if self.types is None else x_UPD + self.types.image_D
        return Read.of_image(image, x_UPD)

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        assert isinstance(config, CoAttentionConfig)
        slots = dict(super().slots(config, backbone))
        if config.tied == "all":
            places = range(image_depth(config))
            slots |= {f"image_fusion.{i}": slots[f"text_fusion.{i}"] for i in places}
        return slots

    def new_parts(self) -> frozenset[str]:
        return super().new_parts() | {"image_blocks."}


def _blocks(config: CoAttentionConfig, backbone: Backbone) -> tuple[int, ...]:
    """Returns the image blocks that the image stream begins with, as `blocks_once` does."""
    there = image_layers(CoAttention.name, config, backbone)
    return blocks_once(CoAttention.name, config, there, fuses=bool(config.fusion_layers))
