"""One BERT stack, read twice: as text encoder without cross-attention, and as fusion stack with it.

BLIP (Li et al. 2022; salesforce/BLIP, models/blip_pretrain.py and med.py): every layer has
cross-attention between self-attention and MLP. Text for ITC goes through all layers without it;
text to be fused starts again from its embeddings, with [ENC], a row of its own, in place of [CLS].
So all twelve layers are text encoder and fusion stack at once, where `full_text_deep_fusion` at
12+12 has a copy for each.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import DesignConfig, Facts, TextStates
from architectures.frozen import SettingError
from architectures.layers.blocks import Layer
from architectures.layout import Layout
from architectures.stacks.one_way import (
    OneWay,
    OneWayConfig,
    fusion_layers,
    fusion_reads,
    no_decoder,
    no_images,
)
from architectures.stacks.towers import image_layers, itc_reads, not_causal, stack_slots


class SharedStackConfig(OneWayConfig):
    """The one stack, as long as the backbone's."""


class SharedStack(OneWay):
    """All layers of one BERT read text alone, and once more text with the image (BLIP).

    Roles: those of `OneWay` and `encode`, the embedding of [ENC]. Text states hold embeddings, from
    which fusion starts; the pass of text alone is made when ITC first reads it, so masked text
    costs none.
    """

    name: ClassVar[str] = "shared_stack"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = SharedStackConfig
    config: SharedStackConfig

    def __init__(self, config: SharedStackConfig, backbone: Backbone, vocabulary: int) -> None:
        layers = nn.ModuleList(fusion_layers(config, backbone, backbone.text_layers))
        super().__init__(config, backbone, vocabulary, layers=layers)
        self.encode = nn.Embedding(1, backbone.text_width)

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        """Says that all layers are of text alone and all fuse."""
        assert isinstance(config, SharedStackConfig)
        not_causal(cls.name, backbone)
        if not config.self_attention:
            raise SettingError(
                f"{cls.name}: text by itself goes through the same layers; leave self_attention on"
            )
        depth = backbone.text_layers
        return Facts(
            no_images=no_images(cls.name, config),
            no_decoder=no_decoder(config),
            no_caption="",
            image_type=config.type_embeddings,
            itc_reads=itc_reads(cls.name, config, backbone, depth),
            itc_own_pass=True,
            fusion_reads=fusion_reads(cls.name, config, backbone, depth),
            text_layers=depth,
            fusion_layers=depth,
            image_layers=image_layers(cls.name, config, backbone),
            pooled_width=backbone.text_width,
        )

    def encode_words(self, ids_BL: Tensor, layout: Layout) -> TextStates:
        """Embeds text with [ENC] first, for `fuse`, or with [CLS] where it is said word after word;
        ITC reads a pass of its own from [CLS].
        """
        first_D = self.encode.weight[0] if layout.place_BL is None else None
        return TextStates(
            tokens_TD=self.embeddings(ids_BL, layout, first_D=first_D),
            layout=layout,
            pooled=functools.partial(self._text_alone, ids_BL, layout),
        )

    def _text_alone(self, ids_BL: Tensor, layout: Layout) -> Tensor:
        """Returns [CLS] (B, D) of the layer that ITC reads, cross-attention left out."""
        x_TD = self.embeddings(ids_BL, layout)
        itc_layer = self.config.itc_layer
        stack = [layer for _, layer in self.fusion_stack()]
        for layer in stack if itc_layer is None else stack[: itc_layer + 1]:
            x_TD = layer(x_TD, layout, alone=True)
        return layout.first(x_TD)

    def fusion_stack(self) -> Sequence[tuple[str, Layer]]:
        return self.stack("layers")

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        return stack_slots(backbone.text_layers)

    def new_parts(self) -> frozenset[str]:
        return super().new_parts() | {"encode."}
