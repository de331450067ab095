"""Two streams of fusion layers, one of text and one of the image, read each other.

METER's stack (Dou et al. 2022; zdou0830/METER), on which BridgeTower (Xu et al. 2023) stands too:
a layer of either stream has cross-attention to what the same layer of the other stream is given.
What a design adds is what the layers are given and which weights the streams share.

Shape suffixes: B rows, U different images, P image tokens, R positions read, T flat tokens, D
width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import DesignConfig, Facts, Fused, ImageStates, TextStates
from architectures.layers.blocks import Layer, Pooler, Step, text_read, with_first
from architectures.layers.read import Read
from architectures.layout import Layout
from architectures.stacks.answer_decoder import AnswerDecoder
from architectures.stacks.towers import (
    TELLS,
    TowersConfig,
    TwoTowers,
    Types,
    image_layers,
    itc_reads,
    not_causal,
    stack_slots,
    text_layers,
)
from architectures.weights.slots import FRESH, Rule, choose, named

CROSSING = ("cross_attention", "cross_norm", "cross_mlp", "cross_mlp_norm")
"""Names of the parts of a layer that no pretrained text encoder has."""

NO_IMAGES = (
    "its image stream reads the words: each picture would need a stream of its own, and words a "
    "rule by which they read several"
)


class TwoStreamsConfig(TowersConfig):
    """TwoStreamsConfig says what the two streams are, and what is read of them."""

    text_layers: Annotated[int, Field(ge=0)] | None = None
    """Layers of text alone, the lowest of the backbone's stack; None: all of them."""
    fusion_layers: Annotated[int, Field(ge=0)] = 6
    """Fusion layers of each stream."""
    fusion_from: Rule = "random"
    """Pretrained layers that the text stream starts from, cross-attention aside."""
    image_fusion_from: Rule = "random"
    """Pretrained text layers that the image stream starts from, cross-attention aside."""
    cross_every: Annotated[int, Field(ge=1)] = 1
    """Cross-attention in every j-th layer of both streams, counted from the top; 1: in each."""
    type_embeddings: bool = True
    """Add a learnt row to text tokens and another to image tokens where they meet."""
    pooler: bool = True
    """Linear and tanh on [CLS] and on the class token, one each, before they are pooled."""
    pooled: Literal["both", "text", "product"] = "both"
    """What the ITM head and the classifiers of tasks read: both first tokens side by side (METER,
    BridgeTower), that of the text (LXMERT; the image stream then has a layer less, the one that
    nothing would read), or their product (ViLBERT as VOLTA trains it)."""


def crosses(config: TwoStreamsConfig, place: int) -> bool:
    """Says whether layer `place` of both streams has cross-attention; the last one always has."""
    return (config.fusion_layers - 1 - place) % config.cross_every == 0


def image_depth(config: TwoStreamsConfig) -> int:
    """Returns the number of layers of the image stream."""
    return max(config.fusion_layers - (config.pooled == "text"), 0)


def stream_facts(name: str, config: TwoStreamsConfig, backbone: Backbone) -> Facts:
    """Returns the facts of a design of two streams. Raises `SettingError` where the towers lack
    layers.
    """
    not_causal(name, backbone)
    depth = text_layers(name, config.text_layers, backbone)
    return Facts(
        no_fuse="" if config.fusion_layers else "fusion_layers = 0 leaves no fusion layer",
        no_images=NO_IMAGES,
        no_decoder="",
        no_caption=TELLS,
        image_type=config.type_embeddings,
        itc_reads=itc_reads(name, config, backbone, depth),
        text_layers=depth,
        fusion_layers=config.fusion_layers,
        image_layers=image_layers(name, config, backbone),
        pooled_width=backbone.text_width * (2 if config.pooled == "both" else 1),
    )


class TwoStreams(TwoTowers, ABC):
    """A text stream and an image stream stand side by side, both as wide as the text encoder.

    Roles: those of `TwoTowers`, `text_fusion.i`, `image_fusion.i`, `types`, `pooler`,
    `image_pooler`; `text_projection` and `image_projection` where the design has them. Without
    fusion layers there is none of these.
    """

    config: TwoStreamsConfig

    def __init__(
        self,
        config: TwoStreamsConfig,
        backbone: Backbone,
        vocabulary: int,
        *,
        order: tuple[Step, ...] = ("self", "cross", "mlp"),
        sequential: bool = False,
    ) -> None:
        """Builds both streams; `order`: steps of a layer. `sequential`: a layer of the image stream
        reads the text as the same layer of the text stream left it, not as it was given.
        """
        depth, width = self.facts(config, backbone).text_layers, backbone.text_width
        layers = nn.ModuleList(Layer(backbone) for _ in range(depth))
        super().__init__(config, backbone, vocabulary, layers=layers)

        def stream(count: int) -> nn.ModuleList:
            reads = [width if crosses(config, place) else None for place in range(count)]
            return nn.ModuleList(Layer(backbone, reads=read, order=order) for read in reads)

        self.sequential = sequential
        self.text_fusion = stream(config.fusion_layers)
        self.image_fusion = stream(image_depth(config))
        typed = config.type_embeddings and config.fusion_layers
        pools = config.pooler and config.fusion_layers
        self.types = Types(width, width) if typed else None
        self.pooler = Pooler(width) if pools else None
        self.image_pooler = Pooler(width) if pools and config.pooled != "text" else None

    @abstractmethod
    def text_input(self, place: int, text: TextStates, below: Read | None) -> Read:
        """Returns what layer `place` of the text stream works on, flat. `below`: the output of the
        layer below it; None at the first.
        """

    @abstractmethod
    def image_input(self, place: int, image: ImageStates, below: Read | None) -> Read:
        """Returns what layer `place` of the image stream works on: at the first layer the tokens of
        each different image (U, P, D), at the others those of every row, flat.
        """

    def crossings(self) -> tuple[str, ...]:
        places = range(self.config.fusion_layers)
        return tuple(f"text_fusion.{i}" for i in places if crosses(self.config, i))

    def fuse(
        self,
        image: ImageStates,
        text: TextStates,
        *,
        read_at_BR: Tensor | None = None,
        keep_attention: Collection[str] = (),
    ) -> Fused:
        """Both streams read each other, layer by layer."""
        depth = len(self.text_fusion)
        if not depth:
            raise self.cannot_fuse()
        at_BR = with_first(read_at_BR)
        attention: dict[str, Tensor] = {}
        text_stream: Read | None = None
        image_stream: Read | None = None
        for place in range(depth):
            name, kept = f"text_fusion.{place}", list[Tensor]()
            keep = kept if name in keep_attention else None
            text_stream = self.text_input(place, text, text_stream)
            image_stream = self.image_input(place, image, image_stream)
            read_BR = at_BR if place == depth - 1 else None
            text_stream, image_stream = self._layer(place, text_stream, image_stream, read_BR, keep)
            attention |= {name: kept[0]} if kept else {}
        assert text_stream is not None and image_stream is not None
        text_BRD, first_BD = text_read(text_stream.states, text.layout, at_BR)
        image_BPD = image_stream.rows(image_stream.states)
        return Fused(
            text_BRD=text_BRD,
            image_BPD=image_BPD if at_BR is None and len(self.image_fusion) else None,
            pooled_BD=self._pool(first_BD, image_BPD[:, 0]),
            attention=attention,
        )

    def answer_decoder(self) -> AnswerDecoder:
        """Returns a decoder of copies of the text stream, without what is brought to it (bridges,
        projections, type rows).
        """
        return AnswerDecoder(self, cast(Iterable[Layer], self.text_fusion))

    def _layer(
        self,
        place: int,
        text_stream: Read,
        image_stream: Read,
        read_at_BR: Tensor | None,
        keep: list[Tensor] | None,
    ) -> tuple[Read, Read]:
        """Runs one layer of both streams. With `read_at_BR` it computes what is read of the last
        one: those words, and the class token.
        """
        assert text_stream.layout is not None
        layer = cast(Layer, self.text_fusion[place])
        has_image = place < len(self.image_fusion)
        # An image stream that waits for this layer's words reads all of them.
        at_BR = None if self.sequential and has_image else read_at_BR
        seen, kept = (image_stream, keep) if layer.crosses else (None, None)
        text_TD = layer(text_stream.states, text_stream.layout, seen, read_at_BR=at_BR, keep=kept)
        after = Read(states=text_TD, layout=text_stream.layout)
        if not has_image:
            return after, image_stream
        heard = after if self.sequential else text_stream
        image = _look(
            cast(Layer, self.image_fusion[place]), image_stream, heard, read_at_BR is not None
        )
        if read_at_BR is not None and at_BR is None:
            after = Read(states=text_stream.layout.at(text_TD, read_at_BR)[0])
        return after, image

    def _pool(self, text_BD: Tensor, image_BD: Tensor) -> Tensor:
        if self.pooler is not None:
            text_BD = self.pooler(text_BD)
        if self.image_pooler is not None:
            image_BD = self.image_pooler(image_BD)
        if self.config.pooled == "both":
            return torch.cat([text_BD, image_BD], dim=-1)
        return text_BD if self.config.pooled == "text" else text_BD * image_BD

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        assert isinstance(config, TwoStreamsConfig)
        there = backbone.text_layers
        depth = text_layers(cls.name, config.text_layers, backbone)
        text = choose(config.fusion_from, config.fusion_layers, there, "fusion_from")
        image = choose(config.image_fusion_from, image_depth(config), there, "image_fusion_from")
        return {**stack_slots(depth), **named("text_fusion", text), **named("image_fusion", image)}

    def new_parts(self) -> frozenset[str]:
        slots = self.slots(self.config, self.backbone)
        fresh = {f"{slot}." for slot, source in slots.items() if source == FRESH}
        crossing = {
            f"{stack}.{place}.{part}."
            for stack in ("text_fusion", "image_fusion")
            for place in range(self.config.fusion_layers)
            for part in CROSSING
        }
        others = ("types", "pooler", "image_pooler", "text_projection", "image_projection")
        return frozenset({*fresh, *crossing, *(f"{part}." for part in others)})


def _look(layer: Layer, image_stream: Read, heard: Read, first_only: bool) -> Read:
    """Runs one layer of the image stream on the tokens of every row, or its class token alone."""
    assert heard.layout is not None
    read, device = heard if layer.crosses else None, image_stream.states.device
    count = len(heard.layout.is_real_BL)
    if first_only:
        tokens_TD, layout = _flat(image_stream.rows(image_stream.states))
        at_B1 = torch.zeros(count, 1, dtype=torch.int64, device=device)
        first_BD = layer(tokens_TD, layout, read, read_at_BR=at_B1)
        return Read(states=first_BD, layout=Layout.full(count, 1, device))
    if image_stream.layout is not None:
        return Read(
            states=layer(image_stream.states, image_stream.layout, read), layout=image_stream.layout
        )
    own_TD, own = _flat(image_stream.states)
    rows = Layout.full(count, image_stream.states.shape[1], device)

    def spread(x_TD: Tensor) -> tuple[Tensor, Layout]:
        return image_stream.rows(x_TD.view_as(image_stream.states)).flatten(0, 1), rows

    return Read(states=layer(own_TD, own, read, spread=spread), layout=rows)


def _flat(x_BPD: Tensor) -> tuple[Tensor, Layout]:
    rows, tokens, _ = x_BPD.shape
    return x_BPD.flatten(0, 1), Layout.full(rows, tokens, x_BPD.device)
