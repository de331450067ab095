"""Most designs begin with an image tower, and a text tower of BERT-like layers."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import (
    DesignConfig,
    FusionDesign,
    ImageStates,
    TextStates,
    WritesCaptions,
)
from architectures.frozen import SettingError
from architectures.layers.blocks import Embeddings
from architectures.layout import Layout
from architectures.stacks.image_tower import ImageTower

ONE_SOFTMAX = (
    "words and image tokens share one softmax, and two pictures in it could not be told apart"
)
"""Why a design fuses no text with several images."""
TELLS = "its image tokens read the words, and would tell each of those after it"
"""Why a design reads no caption word after word."""


class ImageTowerConfig(DesignConfig):
    """ImageTowerConfig says how much of the image tower a design has."""

    image_layers: Annotated[int, Field(ge=1)] | None = None
    """Blocks of the image tower, the lowest of the backbone's; METER leaves the last one out. None:
    all of them."""


class TowersConfig(ImageTowerConfig):
    """TowersConfig says what the two towers are before they meet."""

    itc_layer: Annotated[int, Field(ge=0)] | None = None
    """Text layer, counted from 0, whose [CLS] the ITC head reads; None: the last of text alone."""


class TwoTowers(WritesCaptions, FusionDesign, ABC):
    """An image tower and a text tower encode each modality for itself.

    A design that stands on this passes its text layers to the constructor and writes `fuse`. Roles:
    `image`, `embeddings`, `layers.j`.
    """

    config: TowersConfig
    keeps_layers: ClassVar[bool] = False
    """Whether the states hold the output of every layer of both towers."""

    def __init__(
        self, config: TowersConfig, backbone: Backbone, vocabulary: int, *, layers: nn.ModuleList
    ) -> None:
        """Builds the towers; of the stack named `layers` the lowest are of text alone."""
        super().__init__(config, backbone, vocabulary)
        facts = self.facts(config, backbone)
        self.text_depth = facts.text_layers
        self.image = ImageTower(backbone, blocks=facts.image_layers)
        self.embeddings = Embeddings(backbone, vocabulary)
        self.layers = layers
        self.text_norm = (
            nn.LayerNorm(backbone.text_width, eps=backbone.text_kind.eps)
            if backbone.text_kind.pre_norm
            else None
        )

    def encode_image(self, image_BCHW: Tensor) -> ImageStates:
        return self.image(image_BCHW, every_layer=self.keeps_layers)

    def encode_words(self, ids_BL: Tensor, layout: Layout) -> TextStates:
        """The layers of text alone encode the words."""
        embeddings, layers = self.text_encoder()
        x_TD = embeddings(ids_BL, layout)
        itc_layer = self.config.itc_layer
        aligned_TD, outputs = None, []
        for j, layer in enumerate(layers[: self.text_depth]):
            x_TD = layer(x_TD, layout)
            outputs += [x_TD] if self.keeps_layers else []
            aligned_TD = x_TD if j == itc_layer else aligned_TD
        if self.text_norm is not None:
            x_TD = self.text_norm(x_TD)
        pooled_BD = self._pooled(x_TD if aligned_TD is None else aligned_TD, layout)
        return TextStates(tokens_TD=x_TD, layout=layout, pooled=pooled_BD, layers=tuple(outputs))

    def _pooled(self, x_TD: Tensor, layout: Layout) -> Tensor:
        if self.backbone.text_kind.causal:
            return layout.last(x_TD)
        # Without a layer [CLS] has seen no word yet.
        return layout.first(x_TD) if self.text_depth else layout.mean(x_TD)

    def image_pass(self) -> tuple[str, ...]:
        return self.image.block_names()

    def text_encoder(self) -> tuple[Embeddings, nn.ModuleList]:
        """Returns the embeddings, and the stack whose lowest layers are of text alone."""
        return self.embeddings, self.layers

    def word_embedding(self) -> nn.Embedding:
        return self.text_encoder()[0].word


def image_layers(name: str, config: ImageTowerConfig, backbone: Backbone) -> int:
    """Returns the number of blocks of the image tower. Raises `SettingError` where the backbone has
    fewer.
    """
    count, there = config.image_layers, backbone.image_layers
    if count is not None and count > there:
        raise SettingError(
            f"{name}: image_layers is {count}, but the backbone's image tower has {there}: "
            f"take 1 to {there}"
        )
    return count or there


def text_layers(name: str, count: int | None, backbone: Backbone) -> int:
    """Returns the number of layers of text alone; `count` None: the whole stack. Raises
    `SettingError` where that has fewer.
    """
    there = backbone.text_layers
    if count is not None and count > there:
        raise SettingError(
            f"{name}: text_layers is {count}, but the backbone's stack has {there} layers: "
            f"take 0 to {there}"
        )
    return there if count is None else count


def itc_reads(name: str, config: TowersConfig, backbone: Backbone, depth: int) -> str:
    """Says in words which text states ITC reads. Raises `SettingError` for a layer that is not
    there.
    """
    layer = config.itc_layer
    if layer is not None and layer >= depth:
        raise SettingError(
            f"{name}: itc_layer is {layer}, but text has {depth} layers of its own"
            + (f": take 0 to {depth - 1}" if depth else "; leave it out")
        )
    if not depth:
        return "mean of the embedded words (without a text layer [CLS] holds no words)"
    token = "the last word" if backbone.text_kind.causal else "[CLS]"
    return f"{token} after text layer {depth - 1 if layer is None else layer}"


def not_causal(name: str, backbone: Backbone) -> None:
    """Raises `SettingError` where fusion layers would be those of a causal text tower."""
    if backbone.text_kind.causal:
        raise SettingError(
            f"{name}: the layers of text {backbone.text!r} see earlier words only and cannot fuse; "
            "take bert, roberta or distilbert, or the design dual_encoder"
        )


class Types(nn.Module):
    """Types are a learnt row for text and one for the image, added to tokens where they meet."""

    def __init__(self, text_width: int, image_width: int) -> None:
        super().__init__()
        self.text = nn.Embedding(1, text_width)
        self.image = nn.Embedding(1, image_width)

    @property
    def text_D(self) -> Tensor:
        return self.text.weight[0]

    @property
    def image_D(self) -> Tensor:
        return self.image.weight[0]


def stack_slots(depth: int) -> Mapping[str, str]:
    """Returns the slots of a text tower that starts as the pretrained one: embeddings, layers."""
    return {"embeddings": "embeddings", **{f"layers.{j}": f"layers.{j}" for j in range(depth)}}


def tower_slots(depth: int, backbone: Backbone) -> Mapping[str, str]:
    """Returns the slots of a whole text tower: those of `stack_slots`, and the norm above the
    layers where its kind has one.
    """
    norm = {"text_norm": "text_norm"} if backbone.text_kind.pre_norm else {}
    return {**stack_slots(depth), **norm}


def project_needed(name: str, backbone: Backbone) -> None:
    """Raises `SettingError` where widths differ and no projection would bring them together."""
    if backbone.image_width != backbone.text_width:
        raise SettingError(
            f"{name}: image_width {backbone.image_width} and text_width {backbone.text_width} "
            "differ; make them equal, or turn projections on"
        )
