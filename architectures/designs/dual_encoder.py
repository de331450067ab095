"""Two towers that meet only in the contrastive loss: the floor under every fusion design.

CLIP (Radford et al. 2021; ALIGN, Jia et al. 2021) with this project's towers: the same image tower
and text stack as the fusion designs, so that its shared parts start from the same weights. With
`backbone.text = "clip"` and a CLIP ViT it is CLIP itself. Where tokens are compared one by one and
not one vector of each (late interaction: ColBERT, FILIP), it is a second floor, between no fusion
and fusion.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import DesignConfig, Facts, Fused, ImageStates, TextStates
from architectures.frozen import SettingError
from architectures.layers.blocks import Layer
from architectures.layers.similarity import Similarity
from architectures.stacks.towers import (
    TowersConfig,
    TwoTowers,
    image_layers,
    itc_reads,
    text_layers,
    tower_slots,
)

NO_FUSION = "its towers meet only in the contrastive loss"


class DualEncoderConfig(TowersConfig):
    """How deep the towers are."""

    text_layers: Annotated[int, Field(ge=1)] | None = None
    """Layers of the text tower, the lowest of the backbone's stack; None: all of them."""
    similarity: Similarity = "pooled"
    """What ITC compares, everywhere. `pooled`: one vector of each side. All last tokens, each with
    the closest of the other side: `late_sum` adds that up over the words (ColBERT, ColPali), which
    `itc.temperature` divides like a cosine; `late_mean` is the mean, over image tokens where an
    image asks for texts, over words where a text asks for images (FILIP)."""


class DualEncoder(TwoTowers):
    """Image tower and text tower without fusion, ITC only (CLIP, ALIGN)."""

    name: ClassVar[str] = "dual_encoder"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = DualEncoderConfig

    def __init__(self, config: DualEncoderConfig, backbone: Backbone, vocabulary: int) -> None:
        depth = text_layers(self.name, config.text_layers, backbone)
        layers = nn.ModuleList(Layer(backbone) for _ in range(depth))
        super().__init__(config, backbone, vocabulary, layers=layers)

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        assert isinstance(config, DualEncoderConfig)
        depth = text_layers(cls.name, config.text_layers, backbone)
        return Facts(
            no_fuse=NO_FUSION,
            itc_reads=_reads(config, itc_reads(cls.name, config, backbone, depth)),
            similarity=config.similarity,
            text_layers=depth,
            fusion_layers=0,
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
        """Raises `TypeError`: the towers meet in the contrastive loss alone."""
        raise self.cannot_fuse()

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        return tower_slots(cls.facts(config, backbone).text_layers, backbone)


def _reads(config: DualEncoderConfig, pooled: str) -> str:
    """Says in words what ITC reads. Raises `SettingError` for tokens of an earlier layer."""
    if config.similarity == "pooled":
        return pooled
    if config.itc_layer is not None:
        raise SettingError(
            f"dual_encoder: similarity {config.similarity!r} compares the last tokens, but "
            f"itc_layer is {config.itc_layer}; leave it out, or lower text_layers"
        )
    asking = "every word" if config.similarity == "late_sum" else "every token of the one that asks"
    return f"all tokens of both towers, {asking} with the closest of the other side"
