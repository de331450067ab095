"""Two towers of which only the pooled vectors meet: late fusion, the baseline before attention.

Concatenation or product of one vector of each modality under an MLP, for ITM; the towers align by
ITC. With `ITC(loss="hinge_max")` and ITM turned off it is VSE++ (Faghri et al. 2018, as in
fartashf/vsepp) with a ViT in place of VGG's features and BERT in place of a GRU.

Shape suffixes: B rows, R positions read, D width, E width of both vectors together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.backbone import Backbone
from architectures.contract import DesignConfig, Facts, Fused, ImageStates, TextStates
from architectures.layers.blocks import Layer
from architectures.layers.dropout import Dropout
from architectures.stacks.towers import (
    TowersConfig,
    TwoTowers,
    image_layers,
    itc_reads,
    text_layers,
    tower_slots,
)

NO_WORDS = "only the pooled vectors meet, and no word reads the image"
ADDS_UP = (
    "mlp_layers = 0 under concatenation adds a score of the image to one of the text, which cannot "
    "say whether they match"
)


class ShallowFusionConfig(TowersConfig):
    """How the two vectors meet."""

    text_layers: Annotated[int, Field(ge=1)] | None = None
    """Layers of the text tower, the lowest of the backbone's stack; None: all of them."""
    combine: Literal["concat", "product"] = "concat"
    """`concat`: both vectors side by side; `product`: their product by elements, after a linear map
    of each."""
    mlp_layers: Annotated[int, Field(ge=0)] = 2
    """Layers of the MLP over both, each a linear map and GELU as wide as the text tower."""


class LateMLP(nn.Module):
    """The late MLP is a linear map, GELU and dropout, `layers` times."""

    node: ClassVar[str] = "mlp"

    def __init__(self, backbone: Backbone, *, reads: int, layers: int) -> None:
        super().__init__()
        width = backbone.text_width
        self.layers = nn.ModuleList(
            nn.Linear(width if place else reads, width) for place in range(layers)
        )
        self.dropout = Dropout(backbone.dropout)

    def forward(self, both_BE: Tensor) -> Tensor:
        for layer in self.layers:
            both_BE = self.dropout(F.gelu(layer(both_BE)))
        return both_BE


class ShallowFusion(TwoTowers):
    """Two towers whose pooled vectors meet under an MLP (late fusion; VSE++ with its hinge).

    Roles: those of `TwoTowers`, `fusion_mlp`, and of a product `text_projection` and
    `image_projection`.
    """

    name: ClassVar[str] = "shallow_fusion"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = ShallowFusionConfig
    config: ShallowFusionConfig

    def __init__(self, config: ShallowFusionConfig, backbone: Backbone, vocabulary: int) -> None:
        facts = self.facts(config, backbone)
        layers = nn.ModuleList(Layer(backbone) for _ in range(facts.text_layers))
        super().__init__(config, backbone, vocabulary, layers=layers)
        text, image, product = (
            backbone.text_width,
            backbone.image_width,
            config.combine == "product",
        )
        self.text_projection = nn.Linear(text, text) if product else None
        self.image_projection = nn.Linear(image, text) if product else None
        self.fusion_mlp: nn.Module = nn.Identity()
        if config.mlp_layers:
            reads = text if product else text + image
            self.fusion_mlp = LateMLP(backbone, reads=reads, layers=config.mlp_layers)

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        assert isinstance(config, ShallowFusionConfig)
        depth = text_layers(cls.name, config.text_layers, backbone)
        return Facts(
            no_fuse="" if config.mlp_layers or config.combine == "product" else ADDS_UP,
            no_words=NO_WORDS,
            no_images="one vector of a picture meets one of the text; the form pair does no less",
            no_decoder=NO_WORDS,
            itc_reads=itc_reads(cls.name, config, backbone, depth),
            fusion_reads="the MLP reads one vector of each tower, after its last layer",
            text_layers=depth,
            fusion_layers=config.mlp_layers,
            image_layers=image_layers(cls.name, config, backbone),
            pooled_width=backbone.text_width,
        )

    def fuse(
        self,
        image: ImageStates,
        text: TextStates,
        *,
        read_at_BR: Tensor | None = None,
        keep_attention: Collection[str] = (),
    ) -> Fused:
        """Fuses the pooled vectors alone; words come back as the text tower left them."""
        if not self.facts(self.config, self.backbone).can_fuse:
            raise self.cannot_fuse()
        # Of text the last layer's vector, also where ITC reads a lower one.
        text_BD, image_BD = self._pooled(text.tokens_TD, text.layout), image.pooled_BD
        if self.text_projection is None or self.image_projection is None:
            both_BE = torch.cat([text_BD, image_BD], dim=-1)
        else:
            both_BE = self.text_projection(text_BD) * self.image_projection(image_BD)
        text_BRD = text.tokens_BLD
        if read_at_BR is not None:
            read_TD, layout = text.layout.at(text.tokens_TD, read_at_BR)
            text_BRD = layout.unpack(read_TD)
        return Fused(text_BRD=text_BRD, image_BPD=None, pooled_BD=self.fusion_mlp(both_BE))

    def new_parts(self) -> frozenset[str]:
        return frozenset({"text_projection.", "image_projection.", "fusion_mlp."})

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        return tower_slots(cls.facts(config, backbone).text_layers, backbone)
