"""New gated layers between the layers of a text encoder that is left as it was.

Flamingo's (Alayrac et al. 2022) and Llama 3.2 Vision's way: a new layer reads the image and has an
MLP of its own, both through gates that start at 0, so that at the start the stack says to the last
bit what it says of text alone. Without the new layers it is the text encoder, which ITC reads. Here
the stack is BERT's, so words read words on both sides, and text reads all image tokens, where
Flamingo has a resampler of 64 between.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import DesignConfig, Facts, Fused, ImageStates, TextStates
from architectures.frozen import SettingError
from architectures.layers.blocks import Attention, Layer, text_read, with_first
from architectures.layers.gated import GatedLayer, GateKind
from architectures.layers.read import Read
from architectures.layers.sequence import walk_alone
from architectures.layout import Layout
from architectures.stacks.image_from import (
    ImageFromConfig,
    blocks_read,
    encoded,
    reads_in_words,
    side_by_side,
    tokens_read,
)
from architectures.stacks.towers import (
    TowersConfig,
    TwoTowers,
    image_layers,
    itc_reads,
    not_causal,
    stack_slots,
)
from architectures.weights.slots import FRESH


class GatedInsertionConfig(ImageFromConfig, TowersConfig):
    """Where the new layers stand, and how they begin."""

    every: Annotated[int, Field(ge=1)] = 2
    """A new layer before every j-th layer of the stack, counted from the top: with 2 and twelve
    layers before 11, 9, ... 1."""
    places: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """The layers of the stack, counted from 0, before which a new one stands, ascending; None: as
    `every` says."""
    gate: GateKind = "tanh"
    """What is read is multiplied by: the tanh of a learnt number (Flamingo), the number (`scalar`),
    or nothing (`none`)."""
    gate_start: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Start of that number."""


class GatedInsertion(TwoTowers):
    """Gated layers that read the image, inserted between the layers of BERT (Flamingo).

    Roles: those of `TwoTowers`, and `inserted.j` before `layers.j`.
    """

    name: ClassVar[str] = "gated_insertion"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = GatedInsertionConfig
    config: GatedInsertionConfig

    def __init__(self, config: GatedInsertionConfig, backbone: Backbone, vocabulary: int) -> None:
        layers = nn.ModuleList(Layer(backbone) for _ in range(backbone.text_layers))
        super().__init__(config, backbone, vocabulary, layers=layers)
        width, heads, dropout = backbone.text_width, backbone.text_heads, backbone.dropout
        self.inserted = nn.ModuleDict()
        for j in _places(config, backbone):
            attention = Attention(width, heads, reads=backbone.image_width, dropout=dropout)
            layer = GatedLayer(attention, backbone.text_mlp, config.gate, config.gate_start)
            self.inserted[str(j)] = layer
        self.blocks = _blocks(config, backbone)
        self.image_blocks = side_by_side(config, self.blocks, backbone.image_width)

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        """Counts as text layers those below the first new one."""
        assert isinstance(config, GatedInsertionConfig)
        not_causal(cls.name, backbone)
        places, depth = _places(config, backbone), backbone.text_layers
        if config.gate == "none" and config.gate_start:
            raise SettingError(f"{cls.name}: gate 'none' has no start; leave gate_start out")
        return Facts(
            no_fuse="" if places else "places = () leaves no layer that reads the image",
            no_images="a new layer reads one picture through one gate",
            no_decoder="its new layers stand between those of the text encoder, none above them",
            no_caption="",
            itc_reads=itc_reads(cls.name, config, backbone, depth),
            itc_own_pass=bool(places),
            fusion_reads=reads_in_words(config, _blocks(config, backbone)),
            text_layers=places[0] if places else depth,
            fusion_layers=len(places),
            image_layers=image_layers(cls.name, config, backbone),
            pooled_width=backbone.text_width,
        )

    def towers_alone(self) -> tuple[int, int]:
        """The image tower, and the whole stack without the new layers."""
        return super().towers_alone()[0], len(self.layers)

    def encode_image(self, image_BCHW: Tensor) -> ImageStates:
        """Its `layers` are what the new layers read, where that is not the last block."""
        return encoded(self.image, image_BCHW, self.config, self.blocks)

    def encode_words(self, ids_BL: Tensor, layout: Layout) -> TextStates:
        """Runs the layers below the first new one; ITC reads a pass through the others without the
        new ones."""
        x_TD, itc_layer = self.embeddings(ids_BL, layout), self.config.itc_layer
        aligned_TD = None
        for j, layer in enumerate(self.layers[: self.text_depth]):
            x_TD = layer(x_TD, layout)
            aligned_TD = x_TD if j == itc_layer else aligned_TD

        def pooled() -> Tensor:
            end = len(self.layers) if itc_layer is None else itc_layer + 1
            above = {str(j): self.layers[j] for j in range(self.text_depth, end)}
            if above:
                return walk_alone(above, x_TD, layout)
            return layout.first(x_TD if aligned_TD is None else aligned_TD)

        return TextStates(tokens_TD=x_TD, layout=layout, pooled=pooled)

    def fuse(
        self,
        image: ImageStates,
        text: TextStates,
        *,
        read_at_BR: Tensor | None = None,
        keep_attention: Collection[str] = (),
    ) -> Fused:
        """Runs the layers from the first new one on, each new one before its own."""
        if not self.inserted:
            raise self.cannot_fuse()
        at_BR, x_TD = with_first(read_at_BR), text.tokens_TD
        turns = iter(tokens_read(image, len(self.inserted), self.image_blocks))
        attention: dict[str, Tensor] = {}
        for j in range(self.text_depth, len(self.layers)):
            if str(j) in self.inserted:
                kept: list[Tensor] | None = [] if f"inserted.{j}" in keep_attention else None
                read = Read.of_image(image, next(turns))
                x_TD = self.inserted[str(j)](x_TD, text.layout, read, keep=kept)
                attention |= {f"inserted.{j}": kept[0]} if kept else {}
            last = j == len(self.layers) - 1
            x_TD = self.layers[j](x_TD, text.layout, read_at_BR=at_BR if last else None)
        text_BRD, first_BD = text_read(x_TD, text.layout, at_BR)
        return Fused(text_BRD=text_BRD, image_BPD=None, pooled_BD=first_BD, attention=attention)

    def crossings(self) -> tuple[str, ...]:
        return tuple(f"inserted.{j}" for j in self.inserted)

    def new_parts(self) -> frozenset[str]:
        return frozenset({"inserted.", "image_blocks."})

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        assert isinstance(config, GatedInsertionConfig)
        fresh = {f"inserted.{j}": FRESH for j in _places(config, backbone)}
        return {**stack_slots(backbone.text_layers), **fresh}


def _blocks(config: GatedInsertionConfig, backbone: Backbone) -> tuple[int, ...]:
    """Returns the image blocks that the new layers read, as `blocks_read` does."""
    there = image_layers(GatedInsertion.name, config, backbone)
    return blocks_read(GatedInsertion.name, config, there, len(_places(config, backbone)))


def _places(config: GatedInsertionConfig, backbone: Backbone) -> Sequence[int]:
    """Returns the layers before which a new one stands. Raises `SettingError` for others."""
    depth = backbone.text_layers
    if config.places is None:
        return range((depth - 1) % config.every, depth, config.every)
    if list(config.places) != sorted(set(config.places)) or depth <= max(config.places, default=0):
        raise SettingError(
            f"{GatedInsertion.name}: places are {config.places}; name layers from 0 to "
            f"{depth - 1} in ascending order, each once"
        )
    return config.places
