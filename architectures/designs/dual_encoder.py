"""Two towers that meet only in the contrastive loss: the floor under every fusion design.

CLIP's role (Radford et al. 2021; ALIGN, Jia et al. 2021) with this project's towers: the same image
tower and BERT stack as the fusion designs, so that its shared parts start from the same weights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.blocks import Embeddings, Layer
from architectures.contract import (
    DesignConfig,
    Facts,
    Fused,
    FusionDesign,
    ImageStates,
    Layout,
    TextStates,
)
from architectures.encoders import ImageTower
from architectures.frozen import SettingError

NO_FUSION = "its towers meet only in the contrastive loss"


class DualEncoderConfig(DesignConfig):
    """How deep the text tower is."""

    text_layers: Annotated[int, Field(ge=1)] | None = None
    """Layers of the text tower, the lowest of the backbone's stack; None: all of them."""


class DualEncoder(FusionDesign):
    """Image tower and text tower without fusion, ITC only (CLIP, ALIGN)."""

    name: ClassVar[str] = "dual_encoder"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = DualEncoderConfig

    def __init__(self, config: DualEncoderConfig, backbone: Backbone, vocabulary: int) -> None:
        super().__init__(config, backbone, vocabulary)
        depth = self.facts(config, backbone).text_layers
        self.image = ImageTower(backbone)
        self.embeddings = Embeddings(backbone, vocabulary)
        self.layers = nn.ModuleList(Layer(backbone) for _ in range(depth))

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        assert isinstance(config, DualEncoderConfig)
        n = backbone.text_layers
        depth = n if config.text_layers is None else config.text_layers
        if depth > n:
            raise SettingError(
                f"dual_encoder: text_layers is {depth}, but the backbone's stack has {n} layers: "
                f"take 1 to {n}"
            )
        return Facts(
            no_fuse=NO_FUSION,
            itc_reads=f"[CLS] after text layer {depth - 1}",
            text_layers=depth,
            fusion_layers=0,
            pooled_width=backbone.text_width,
        )

    def encode_image(self, image_BCHW: Tensor) -> ImageStates:
        return self.image(image_BCHW)

    def encode_text(
        self, ids_BL: Tensor, text_is_real_BL: Tensor, *, packed: bool = False
    ) -> TextStates:
        layout = Layout.of(text_is_real_BL, packed=packed)
        x_TD = self.embeddings(ids_BL, layout)
        for layer in self.layers:
            x_TD = layer(x_TD, layout)
        return TextStates(tokens_TD=x_TD, layout=layout, pooled_BD=layout.first(x_TD))

    def fuse(
        self,
        image: ImageStates,
        text: TextStates,
        *,
        read_at_BR: Tensor | None = None,
        keep_attention: Collection[str] = (),
    ) -> Fused:
        raise TypeError(f"dual_encoder cannot fuse: {NO_FUSION}")

    def word_embedding(self) -> nn.Embedding:
        return self.embeddings.word

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        depth = cls.facts(config, backbone).text_layers
        stack = {f"layers.{j}": f"layers.{j}" for j in range(depth)}
        return {"embeddings": "embeddings", **stack}
