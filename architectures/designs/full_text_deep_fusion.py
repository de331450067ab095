"""The whole BERT reads text; fusion layers of their own stand on top of it.

X2-VLM's shape (Zeng et al. 2022): twelve text layers, then six that also read the image. In a split
stack a layer more for text is one less for fusion; here each number moves alone, so what depth of
text buys can be told from what depth of fusion buys. `fusion_from` says where the fusion layers
start: `last` (X2-VLM), `first` with as many as the stack has (a second copy: 12+12), a list, or
`random`.
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
from architectures.stacks.towers import (
    image_layers,
    itc_reads,
    not_causal,
    stack_slots,
    text_layers,
)
from architectures.weights.slots import Rule, choose, named


class FullTextDeepFusionConfig(OneWayConfig):
    """How many layers read text alone, how many fuse after them, and from what these start."""

    text_layers: Annotated[int, Field(ge=0)] | None = None
    """Layers of text alone, the lowest of the backbone's stack; None: all of them."""
    fusion_layers: Annotated[int, Field(ge=0)] = 6
    """Fusion layers after them, a stack of their own."""
    fusion_from: Rule = "last"
    """Pretrained layers that the fusion layers start from; the text layers may be among them."""


class FullTextDeepFusion(OneWay):
    """The whole BERT reads text, then a fusion stack of its own reads the image (X2-VLM)."""

    name: ClassVar[str] = "full_text_deep_fusion"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = FullTextDeepFusionConfig
    config: FullTextDeepFusionConfig

    def __init__(
        self, config: FullTextDeepFusionConfig, backbone: Backbone, vocabulary: int
    ) -> None:
        facts = self.facts(config, backbone)
        text = nn.ModuleList(Layer(backbone) for _ in range(facts.text_layers))
        super().__init__(config, backbone, vocabulary, layers=text)
        self.fusion = nn.ModuleList(fusion_layers(config, backbone, facts.fusion_layers))

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        assert isinstance(config, FullTextDeepFusionConfig)
        not_causal(cls.name, backbone)
        k, m = text_layers(cls.name, config.text_layers, backbone), config.fusion_layers
        return Facts(
            no_fuse="" if m else "fusion_layers = 0 leaves no fusion layer",
            no_images=no_images(cls.name, config),
            no_decoder=no_decoder(config),
            no_caption="",
            image_type=config.type_embeddings,
            itc_reads=itc_reads(cls.name, config, backbone, k),
            fusion_reads=fusion_reads(cls.name, config, backbone, m),
            text_layers=k,
            fusion_layers=m,
            image_layers=image_layers(cls.name, config, backbone),
            pooled_width=backbone.text_width,
        )

    def fusion_stack(self) -> Sequence[tuple[str, Layer]]:
        return self.stack("fusion")

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        assert isinstance(config, FullTextDeepFusionConfig)
        k, n = text_layers(cls.name, config.text_layers, backbone), backbone.text_layers
        sources = choose(config.fusion_from, config.fusion_layers, n, f"{cls.name}: fusion_from")
        return {**stack_slots(k), **named("fusion", sources)}
