"""Bridges: every fusion layer is also given what a layer of its own tower said.

BridgeTower (Xu et al. 2023; microsoft/BridgeTower) by default: the top uni-modal layers feed the
fusion layers one to one. With W a modality's projection, t its type row, U what the tower's layer
said and Z what the fusion layer below said, the first fusion layer is given norm(W U + t) and those
above it norm(bridge(W U + t, Z)). Streams and layers are METER's, so kind `none` is METER.

Shape suffixes: B rows, U different images, P image tokens, T flat tokens, D width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import DesignConfig, Facts, ImageStates, TextStates
from architectures.frozen import SettingError
from architectures.layers.read import Read
from architectures.stacks.image_from import as_far_up, kept_layers
from architectures.stacks.two_streams import TwoStreams, TwoStreamsConfig, stream_facts

Kind = Literal["add", "scaled_add", "interpolate", "gated", "none"]


class BridgeConfig(TwoStreamsConfig):
    """Where bridges are, what they read and what they do."""

    kind: Kind = "add"
    """How x, of the tower, joins z, of the fusion layer below. `add`: x + z; `scaled_add`: s x + z
    with a learnt s, 1 at the start; `interpolate`: (1 - b) x + b z with a learnt b, 0.5 at the
    start; `gated`: g x + (1 - g) z with g = sigmoid(linear([x; z])); `none`: no bridge and no norm,
    the first fusion layer is given the towers' last outputs (METER)."""
    bridges: tuple[int, ...] | None = None
    """Fusion layers that have a bridge, counted from 0, of those above the first. None: all."""
    text_reads: tuple[int, ...] | None = None
    """Text layers, counted from 0, that the first fusion layer and the bridges read, in their
    order. None: of the highest text layers, as many as there are fusion layers, one for each."""
    image_reads: tuple[int, ...] | None = None
    """The same of image blocks. None: the block as far up its tower as the text layer that is read
    beside it; towers of equal depth are read one to one."""
    image_inputs: Literal["normed", "raw"] = "normed"
    """Whether what a block said passes the image tower's last norm before it is read."""
    share_projections: bool = True
    """One projection of each modality for the first layer and all bridges; else each has its own.
    """
    share_norms: bool = False
    """One bridge of each modality for all fusion layers, norm included; else each has its own. The
    first fusion layer's norm is always its own."""
    norm_rate: Annotated[float, Field(gt=0)] | None = None
    """Learning-rate multiple of the norms of bridges and first layer; None: new_part_rate. Like all
    norms they have no weight decay."""


class Bridge(nn.Module):
    """Joins what a tower's layer said with what the fusion layer below said, and norms it."""

    node: ClassVar[str] = "bridge"

    def __init__(self, kind: Kind, width: int, eps: float) -> None:
        super().__init__()
        self.kind = kind
        if kind == "scaled_add":
            self.scaled_factor = nn.Parameter(torch.tensor(1.0))
        elif kind == "interpolate":
            self.beta = nn.Parameter(torch.tensor(0.5))
        elif kind == "gated":
            self.gate = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, z: Tensor | None) -> Tensor:
        """Joins x of the tower and z of the fusion layer below, both (..., D); z None: x is only
        normed.
        """
        if z is None:
            return self.norm(x)
        if self.kind == "scaled_add":
            joined = x * self.scaled_factor + z
        elif self.kind == "interpolate":
            joined = x * (1 - self.beta) + z * self.beta
        elif self.kind == "gated":
            share = self.gate(torch.cat([x, z], dim=-1)).sigmoid()
            joined = share * x + (1 - share) * z
        else:
            joined = x + z
        return self.norm(joined)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reads:
    """Reads list what the fusion layers read of the towers."""

    places: tuple[int, ...]
    """Fusion layers that read: the first, and those with a bridge."""
    text: tuple[int, ...]
    """The text layer that each of them reads."""
    image: tuple[int, ...]
    """The image block."""

    def __str__(self) -> str:
        lists = [", ".join(map(str, each)) for each in (self.places, self.text, self.image)]
        return "fusion layers {}: text layers {}, image blocks {}".format(*lists)


class BridgeTower(TwoStreams):
    """Bridges join uni-modal layers to each fusion layer of two streams (BridgeTower)."""

    name: ClassVar[str] = "bridge"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = BridgeConfig
    config: BridgeConfig
    keeps_layers: ClassVar[bool] = True

    def __init__(self, config: BridgeConfig, backbone: Backbone, vocabulary: int) -> None:
        super().__init__(config, backbone, vocabulary)
        self.reads = reads(config, backbone)
        width, places = backbone.text_width, self.reads.places
        self.text_projection = _projection(config, places, width, width)
        self.image_projection = _projection(config, places, backbone.image_width, width)
        self.text_bridges = _bridges(config, places, width, backbone.text_kind.eps)
        self.image_bridges = _bridges(config, places, width, backbone.text_kind.eps)

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        assert isinstance(config, BridgeConfig)
        inputs = reads(config, backbone)
        facts = stream_facts(cls.name, config, backbone)
        return dataclasses.replace(facts, fusion_reads=str(inputs) if facts.can_fuse else "")

    def encode_image(self, image_BCHW: Tensor) -> ImageStates:
        """Its `layers` are what the fusion layers read, in the order of `Reads.places`."""
        states = super().encode_image(image_BCHW)
        normed = self.config.image_inputs == "normed"
        return kept_layers(self.image, states, self.reads.image, normed=normed)

    def encode_text(
        self, ids_BL: Tensor, text_is_real_BL: Tensor, *, packed: bool = False
    ) -> TextStates:
        """Its `layers` are what the fusion layers read, in the order of `Reads.places`."""
        states = super().encode_text(ids_BL, text_is_real_BL, packed=packed)
        outputs = states.layers or (states.tokens_TD,)
        return dataclasses.replace(states, layers=tuple(outputs[j] for j in self.reads.text))

    def text_input(self, place: int, text: TextStates, below: Read | None) -> Read:
        if place not in self.reads.places:
            assert below is not None
            return below
        x_TD = self._typed("text", place, text.layers)
        z_TD = None if below is None else below.states
        return Read(states=self._bridged("text", place, x_TD, z_TD), layout=text.layout)

    def image_input(self, place: int, image: ImageStates, below: Read | None) -> Read:
        if place not in self.reads.places:
            assert below is not None
            return below
        x_UPD = self._typed("image", place, image.layers)
        if below is None:
            return Read.of_image(image, self._bridged("image", place, x_UPD, None))
        x_TD = image.by_row(x_UPD).flatten(0, 1)
        return dataclasses.replace(below, states=self._bridged("image", place, x_TD, below.states))

    def _typed(
        self, part: Literal["text", "image"], place: int, outputs: tuple[Tensor, ...]
    ) -> Tensor:
        """Computes W U + t."""
        projection = getattr(self, f"{part}_projection")
        if isinstance(projection, nn.ModuleDict):
            projection = projection[str(place)]
        x = projection(outputs[self.reads.places.index(place)])
        return x if self.types is None else x + getattr(self.types, f"{part}_D")

    def _bridged(
        self, part: Literal["text", "image"], place: int, x: Tensor, z: Tensor | None
    ) -> Tensor:
        bridges = getattr(self, f"{part}_bridges")
        if not bridges:
            return x
        name = "shared" if self.config.share_norms and z is not None else str(place)
        return bridges[name](x, z)

    def new_parts(self) -> frozenset[str]:
        return super().new_parts() | {"text_bridges.", "image_bridges."}

    def rates(self) -> Mapping[str, float]:
        rates, own = super().rates(), self.config.norm_rate
        if own is None:
            return rates
        bridges = {"text_bridges": self.text_bridges, "image_bridges": self.image_bridges}
        norms = [f"{part}.{place}.norm." for part, each in bridges.items() for place in each]
        return {**dict.fromkeys(norms, own), **rates}  # the first prefix that fits counts


def _projection(
    config: BridgeConfig, places: tuple[int, ...], own: int, width: int
) -> nn.Module | None:
    if config.share_projections and places:
        return nn.Linear(own, width)
    return nn.ModuleDict({str(place): nn.Linear(own, width) for place in places})


def _bridges(
    config: BridgeConfig, places: tuple[int, ...], width: int, eps: float
) -> nn.ModuleDict:
    """Makes the bridge of each fusion layer; of the first one only the norm is used."""
    if config.kind == "none":
        return nn.ModuleDict()
    names = ["shared"] * len(places[1:]) if config.share_norms else map(str, places[1:])
    others = {name: Bridge(config.kind, width, eps) for name in names}
    return nn.ModuleDict({"0": Bridge("add", width, eps), **others} if places else {})


def reads(config: BridgeConfig, backbone: Backbone) -> Reads:
    """Returns what the fusion layers read. Raises `SettingError` where towers lack it."""
    facts = stream_facts(BridgeTower.name, config, backbone)
    count, depth, blocks = config.fusion_layers, facts.text_layers, facts.image_layers
    bridged = config.kind != "none"
    above = tuple(range(1, count)) if config.bridges is None and bridged else config.bridges or ()
    wrong = ""
    if above and not bridged:
        wrong = "kind 'none' has no bridges; leave the field bridges out"
    elif list(above) != sorted(set(above) & set(range(1, count))):
        wrong = f"bridges {list(above)} must be fusion layers from 1 to {count - 1}, ascending"
    elif bridged and count and not depth:
        wrong = "text_layers = 0 leaves nothing to bridge; take 1 or more, or kind 'none'"
    if wrong:
        raise SettingError(f"bridge: {wrong}")
    places = (0, *above) if count else ()
    text = [depth - count + i if depth >= count else as_far_up(i, count, depth) for i in places]
    text = text if bridged else [max(depth - 1, 0) for _ in places]
    text = _checked("text_reads", config.text_reads, text, depth)
    image = [as_far_up(j, depth, blocks) if bridged else blocks - 1 for j in text]
    image = _checked("image_reads", config.image_reads, image, blocks)
    return Reads(places=places, text=tuple(text), image=tuple(image))


def _checked(
    field: str, places: tuple[int, ...] | None, default: list[int], there: int
) -> list[int]:
    if places is None:
        return default
    if len(places) != len(default) or not set(places) <= set(range(there)):
        raise SettingError(
            f"bridge: {field} {list(places)} must name {len(default)} layers from 0 to "
            f"{there - 1}, one for the first fusion layer and one for each bridge"
        )
    return list(places)
