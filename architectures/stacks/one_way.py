"""One-way fusion leads text states through layers that read the image tower's tokens.

ALBEF's direction (Li et al. 2021): image tokens never change. What a design adds is which layers
are of text alone, which fuse, and where their weights come from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, cast

from pydantic import Field
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import Fused, ImageStates, TextStates
from architectures.layers.blocks import Layer, Pooler, text_read, with_first
from architectures.layers.read import Read
from architectures.stacks.towers import TowersConfig, TwoTowers, Types
from architectures.weights.slots import FRESH


class OneWayConfig(TowersConfig):
    """OneWayConfig says how text reads the image."""

    cross_every: Annotated[int, Field(ge=1)] = 1
    """Cross-attention in every j-th fusion layer, counted from the top; 1: in each."""
    type_embeddings: bool = False
    """Add a learnt row to text tokens and another to image tokens where they meet."""
    pooler: bool = False
    """Linear and tanh on [CLS] before the ITM head and the classifiers of tasks."""


def fusion_layers(config: OneWayConfig, backbone: Backbone, count: int) -> list[Layer]:
    """Makes `count` fusion layers, lowest first; the last one always has cross-attention."""
    crosses = [above % config.cross_every == 0 for above in reversed(range(count))]
    return [Layer(backbone, reads=backbone.image_width if cross else None) for cross in crosses]


class OneWay(TwoTowers, ABC):
    """Text states read image tokens in the layers of `fusion_stack`.

    Roles: those of `TwoTowers`, `types`, `pooler`, and the fusion layers as the design names them.
    """

    config: OneWayConfig

    def __init__(
        self, config: OneWayConfig, backbone: Backbone, vocabulary: int, *, layers: nn.ModuleList
    ) -> None:
        super().__init__(config, backbone, vocabulary, layers=layers)
        fuses = self.facts(config, backbone).can_fuse
        text, image = backbone.text_width, backbone.image_width
        self.types = Types(text, image) if fuses and config.type_embeddings else None
        self.pooler = Pooler(text) if fuses and config.pooler else None

    @abstractmethod
    def fusion_stack(self) -> Sequence[tuple[str, Layer]]:
        """Returns name and module of every fusion layer, lowest first; empty: it cannot fuse."""

    def stack(self, name: str) -> list[tuple[str, Layer]]:
        """Returns role and module of every layer of the list of layers that has this name."""
        layers = cast(Iterable[Layer], getattr(self, name))
        return [(f"{name}.{j}", layer) for j, layer in enumerate(layers)]

    def crossings(self) -> tuple[str, ...]:
        return tuple(name for name, layer in self.fusion_stack() if layer.crosses)

    def fuse(
        self,
        image: ImageStates,
        text: TextStates,
        *,
        read_at_BR: Tensor | None = None,
        keep_attention: Collection[str] = (),
    ) -> Fused:
        stack = self.fusion_stack()
        if not stack:
            raise self.cannot_fuse()
        x_TD, layout, read = text.tokens_TD, text.layout, Read.of_image(image)
        if self.types is not None:
            x_TD = x_TD + self.types.text_D
            read = Read.of_image(image, image.distinct_UPD + self.types.image_D)
        at_BR = with_first(read_at_BR)
        attention: dict[str, Tensor] = {}
        for name, layer in stack:
            kept: list[Tensor] | None = [] if name in keep_attention else None
            last = layer is stack[-1][1]
            x_TD = layer(x_TD, layout, read, read_at_BR=at_BR if last else None, keep=kept)
            if kept and layer.crosses:
                attention[name] = kept[0]
        text_BRD, first_BD = text_read(x_TD, layout, at_BR)
        pooled_BD = first_BD if self.pooler is None else self.pooler(first_BD)
        return Fused(text_BRD=text_BRD, image_BPD=None, pooled_BD=pooled_BD, attention=attention)

    def new_parts(self) -> frozenset[str]:
        crossing = (
            f"{name}.{part}."
            for name in self.crossings()
            for part in ("cross_attention", "cross_norm")
        )
        table = self.slots(self.config, self.backbone)
        fresh = (f"{slot}." for slot, source in table.items() if source == FRESH)
        return frozenset({*crossing, *fresh, "types.", "pooler."})
