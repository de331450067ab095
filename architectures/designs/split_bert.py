"""One BERT stack, divided: lower layers read text alone, upper layers read text and image.

ALBEF's text stack (Li et al. 2021; salesforce/ALBEF at 6+6): every fusion layer has cross-attention
from text to the image tower's tokens, in one direction; image tokens never change. Why the split
should be in the middle was never shown: `text_layers` moves it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from architectures.backbone import Backbone
from architectures.contract import DesignConfig, Facts
from architectures.layers.blocks import Layer
from architectures.stacks.one_way import (
    OneWay,
    OneWayConfig,
    fusion_layers,
    fusion_reads,
    no_decoder,
    no_images,
)
from architectures.stacks.towers import image_layers, itc_reads, not_causal, text_layers
from architectures.weights.slots import Rule, choose, named


class SplitBertConfig(OneWayConfig):
    """Where the stack is divided."""

    text_layers: Annotated[int, Field(ge=0)] = 6
    """Layers of text alone, k; the remaining n - k layers of the backbone's stack fuse."""
    text_from: Rule = "first"
    """Pretrained layers that the text layers start from."""
    fusion_from: Rule = "last"
    """Pretrained layers that the fusion layers start from."""


class SplitBert(OneWay):
    """Lower layers of one BERT read text, upper layers also read the image (ALBEF at 6+6)."""

    name: ClassVar[str] = "split_bert"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = SplitBertConfig
    config: SplitBertConfig

    def __init__(self, config: SplitBertConfig, backbone: Backbone, vocabulary: int) -> None:
        facts = self.facts(config, backbone)
        k, m = facts.text_layers, facts.fusion_layers
        text = [Layer(backbone) for _ in range(k)]
        layers = nn.ModuleList([*text, *fusion_layers(config, backbone, m)])
        super().__init__(config, backbone, vocabulary, layers=layers)

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        assert isinstance(config, SplitBertConfig)
        not_causal(cls.name, backbone)
        k = text_layers(cls.name, config.text_layers, backbone)
        n = backbone.text_layers
        return Facts(
            no_fuse="" if k < n else f"text_layers = {k} leaves no fusion layer",
            no_images=no_images(cls.name, config),
            no_decoder=no_decoder(config),
            no_caption="",
            image_type=config.type_embeddings,
            itc_reads=itc_reads(cls.name, config, backbone, k),
            fusion_reads=fusion_reads(cls.name, config, backbone, n - k),
            text_layers=k,
            fusion_layers=n - k,
            image_layers=image_layers(cls.name, config, backbone),
            pooled_width=backbone.text_width,
        )

    def fusion_stack(self) -> Sequence[tuple[str, Layer]]:
        return self.stack("layers")[self.text_depth :]

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        assert isinstance(config, SplitBertConfig)
        k, n = config.text_layers, backbone.text_layers
        sources = [
            *choose(config.text_from, k, n, f"{cls.name}: text_from"),
            *choose(config.fusion_from, n - k, n, f"{cls.name}: fusion_from"),
        ]
        return {"embeddings": "embeddings", **named("layers", sources)}
