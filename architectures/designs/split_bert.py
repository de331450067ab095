"""One BERT stack, divided: lower layers read text alone, upper layers read text and image.

ALBEF's text stack (Li et al. 2021; salesforce/ALBEF at 6+6): every fusion layer has cross-attention
from text to the image tower's tokens, in one direction; image tokens never change. Why the split
should be in the middle was never shown: `text_layers` moves it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar

import torch
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


class SplitBertConfig(DesignConfig):
    """Where the stack is divided."""

    text_layers: Annotated[int, Field(ge=0)] = 6
    """Layers of text alone, k; the remaining n - k layers of the backbone's stack fuse."""


class SplitBert(FusionDesign):
    """Lower layers of one BERT read text, upper layers also read the image (ALBEF at 6+6)."""

    name: ClassVar[str] = "split_bert"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = SplitBertConfig
    config: SplitBertConfig

    def __init__(self, config: SplitBertConfig, backbone: Backbone, vocabulary: int) -> None:
        super().__init__(config, backbone, vocabulary)
        self.image = ImageTower(backbone)
        self.embeddings = Embeddings(backbone, vocabulary)
        self.layers = nn.ModuleList(
            Layer(backbone, reads=backbone.image_width if j >= config.text_layers else None)
            for j in range(backbone.text_layers)
        )

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        assert isinstance(config, SplitBertConfig)
        k, n = config.text_layers, backbone.text_layers
        if k > n:
            raise SettingError(
                f"split_bert: text_layers is {k}, but the backbone's stack has {n} layers: "
                f"take 0 to {n}"
            )
        return Facts(
            no_fuse="" if k < n else f"text_layers = {k} leaves no fusion layer",
            itc_reads=f"[CLS] after text layer {k - 1}" if k else
            "mean of the embedded words (without a text layer [CLS] holds no words)",
            text_layers=k,
            fusion_layers=n - k,
            pooled_width=backbone.text_width,
        )  # fmt: skip

    def encode_image(self, image_BCHW: Tensor) -> ImageStates:
        return self.image(image_BCHW)

    def encode_text(
        self, ids_BL: Tensor, text_is_real_BL: Tensor, *, packed: bool = False
    ) -> TextStates:
        layout = Layout.of(text_is_real_BL, packed=packed)
        x_TD = self.embeddings(ids_BL, layout)
        for layer in self.layers[: self.config.text_layers]:
            x_TD = layer(x_TD, layout)
        pooled_BD = layout.first(x_TD) if self.config.text_layers else layout.mean(x_TD)
        return TextStates(tokens_TD=x_TD, layout=layout, pooled_BD=pooled_BD)

    def fuse(
        self,
        image: ImageStates,
        text: TextStates,
        *,
        read_at_BR: Tensor | None = None,
        keep_attention: Collection[str] = (),
    ) -> Fused:
        first = self.config.text_layers
        if first == len(self.layers):
            raise TypeError(f"split_bert cannot fuse: text_layers = {first} leaves no fusion layer")
        x_TD, layout = text.tokens_TD, text.layout
        if read_at_BR is not None:  # position 0 is always read, for `pooled_BD`
            read_at_BR = torch.cat([read_at_BR.new_zeros(len(read_at_BR), 1), read_at_BR], dim=1)
        attention: dict[str, Tensor] = {}
        for j, layer in enumerate(self.layers[first:], first):
            kept: list[Tensor] | None = [] if f"layers.{j}" in keep_attention else None
            last = j == len(self.layers) - 1
            at_BR = read_at_BR if last else None
            x_TD = layer(x_TD, layout, image, read_at_BR=at_BR, keep=kept)
            if kept:
                attention[f"layers.{j}"] = kept[0]
        if read_at_BR is None:
            text_BRD, pooled_BD = layout.unpack(x_TD), layout.first(x_TD)
        else:
            x_BRD = x_TD.view(*read_at_BR.shape, -1)
            text_BRD, pooled_BD = x_BRD[:, 1:], x_BRD[:, 0]
        return Fused(text_BRD=text_BRD, image_BPD=None, pooled_BD=pooled_BD, attention=attention)

    def word_embedding(self) -> nn.Embedding:
        return self.embeddings.word

    def new_parts(self) -> frozenset[str]:
        return frozenset(
            f"layers.{j}.{part}."
            for j in range(self.config.text_layers, len(self.layers))
            for part in ("cross_attention", "cross_norm")
        )

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        stack = {f"layers.{j}": f"layers.{j}" for j in range(backbone.text_layers)}
        return {"embeddings": "embeddings", **stack}
