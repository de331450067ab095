"""In a joint stack words and image tokens stand in one sequence, [text | image], under one softmax.

`ViTStack` is a stack of ViT blocks over word and patch embeddings, the common part of ViLT (Kim et
al. 2021) and VLMo (Bao et al. 2022). ITC needs a pass of each modality alone (VLMo).

Shape suffixes: B rows, U different images, P image tokens, L text positions, N = L + P, R positions
read, T flat tokens, D width, H heads, Q queries, K keys.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import (
    DesignConfig,
    Facts,
    Fused,
    FusionDesign,
    ImageStates,
    TextStates,
    WritesCaptions,
)
from architectures.layers.blocks import Embeddings, Pooler, with_first
from architectures.layers.sequence import Joint, Step, keepers, walk, walk_alone
from architectures.layers.vit_blocks import ViTBlock
from architectures.layout import Layout
from architectures.stacks.image_tower import ImageTower
from architectures.stacks.towers import ONE_SOFTMAX, Types, not_causal
from architectures.weights.slots import FRESH

NO_ALIGN = (
    "words and patches meet in the first layer; separate_passes gives each modality a pass of its "
    "own"
)
BY_ITSELF = "[CLS] and the class token, each after a pass of its modality by itself"
"""What ITC reads where `separate_passes` is on, for `Facts.itc_reads`."""
Modality = Literal["text", "image"]


class ViTStackConfig(DesignConfig):
    """ViTStackConfig says what the one stack is."""

    layers: Annotated[int, Field(ge=1)] | None = None
    """Blocks; None: as many as the backbone's image tower has. Those above its own start fresh."""
    type_embeddings: bool = True
    """Add a learnt row to text tokens and another to image tokens."""
    pooler: bool = True
    """Linear and tanh on [CLS] before the ITM head and the classifiers of tasks."""
    separate_passes: bool = False
    """For ITC, run each modality through the stack by itself too."""


class ViTStack(WritesCaptions, FusionDesign, ABC):
    """One stack of ViT blocks reads word embeddings and patch embeddings.

    Roles: `image.vit.blocks.j` (the image tower's own), `embeddings`, `types`, `pooler`, and, where
    text and image widths differ, `text_projection` into the stack and `text_output` back.
    """

    config: ViTStackConfig

    def __init__(
        self,
        config: ViTStackConfig,
        backbone: Backbone,
        vocabulary: int,
        *,
        positions: bool = True,
        layer_scale: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        """Builds the stack.

        positions: whether embeddings say where a token stands
        layer_scale: of every `ViTBlock`
        drop_path: of the last `ViTBlock`; it grows evenly from 0 in the first
        """
        super().__init__(config, backbone, vocabulary)
        width, text_width = backbone.image_width, backbone.text_width
        self.image = ImageTower(backbone, blocks=depth(config, backbone))
        rates = torch.linspace(0, drop_path, len(self.image.vit.blocks), device="cpu").tolist()
        self.image.vit.blocks = nn.ModuleList(
            ViTBlock(block, dropout=backbone.dropout, drop_path=rate, layer_scale=layer_scale)
            for block, rate in zip(self.image.vit.blocks, rates, strict=True)
        )
        if not positions:
            self.image.leave_out("pos_embed")
        self.embeddings = Embeddings(backbone, vocabulary, positions=positions)
        self.text_projection: nn.Module = nn.Identity()
        self.text_output: nn.Module = nn.Identity()
        if width != text_width:
            self.text_projection = nn.Linear(text_width, width)
            self.text_output = nn.Linear(width, text_width)
        self.types = Types(width, width) if config.type_embeddings else None
        self.pooler = Pooler(width) if config.pooler else None

    @abstractmethod
    def alone(self, modality: Modality, length: int) -> Sequence[Step]:
        """Returns the layers as one modality of `length` positions goes through them."""

    @abstractmethod
    def together(self, joint: Joint, *, text_last: bool) -> Sequence[Step]:
        """Returns the layers as both go through them; `text_last`: the last computes text alone."""

    def encode_image(self, image_BCHW: Tensor) -> ImageStates:
        states = self.image(image_BCHW, embed_only=True)
        if not self.config.separate_passes:
            return states
        return dataclasses.replace(states, pooled=lambda: self._image_alone(states.distinct_UPD))

    def encode_words(self, ids_BL: Tensor, layout: Layout) -> TextStates:
        """Words are only embedded; ITC's own pass is made when it is first read."""
        x_TD = self.embeddings(ids_BL, layout)
        if self.config.separate_passes:
            return TextStates(
                tokens_TD=x_TD, layout=layout, pooled=lambda: self._text_alone(x_TD, layout)
            )
        return TextStates(tokens_TD=x_TD, layout=layout, pooled=layout.mean(x_TD))

    def fuse(
        self,
        image: ImageStates,
        text: TextStates,
        *,
        read_at_BR: Tensor | None = None,
        keep_attention: Collection[str] = (),
    ) -> Fused:
        """Words and patches go through the stack as one sequence."""
        joint = Joint(text.layout, image.distinct_UPD.shape[1])
        image_BPD = image.by_row(self._patches(image.distinct_UPD))
        x_TD = joint.join(self._words(text.tokens_TD), image_BPD)
        at_BR = with_first(read_at_BR)
        stack = self._named(self.together(joint, text_last=at_BR is not None))
        keep = keepers(keep_attention, stack, joint.length)
        x_TD = self.image.vit.norm(walk(stack, x_TD, joint.layout, at_BR, keep))
        text_BRD, first_BD, out_BPD = joint.read(x_TD, at_BR)
        return Fused(
            text_BRD=self.text_output(text_BRD),
            image_BPD=out_BPD,
            pooled_BD=first_BD if self.pooler is None else self.pooler(first_BD),
            attention={name: probabilities[0] for name, probabilities in keep.items()},
        )

    def crossings(self) -> tuple[str, ...]:
        return self.image.block_names()

    def image_pass(self) -> tuple[str, ...]:
        return self.image.block_names() if self.config.separate_passes else ()

    def word_embedding(self) -> nn.Embedding:
        return self.embeddings.word

    def new_parts(self) -> frozenset[str]:
        table = self.slots(self.config, self.backbone)
        fresh = (f"{slot}." for slot, source in table.items() if source == FRESH)
        return frozenset({*fresh, "types.", "pooler.", "text_projection.", "text_output."})

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        assert isinstance(config, ViTStackConfig)
        above = range(backbone.image_layers, depth(config, backbone))
        return {"embeddings": "embeddings", **{f"image.vit.blocks.{j}": FRESH for j in above}}

    def _named(self, steps: Sequence[Step]) -> dict[str, Step]:
        return dict(zip(self.crossings(), steps, strict=True))

    def _words(self, text_TD: Tensor) -> Tensor:
        x_TD = self.text_projection(text_TD)
        return x_TD if self.types is None else x_TD + self.types.text_D

    def _patches(self, embedded_UPD: Tensor) -> Tensor:
        x_UPD = self.embeddings.dropout(embedded_UPD)
        return x_UPD if self.types is None else x_UPD + self.types.image_D

    def _text_alone(self, text_TD: Tensor, layout: Layout) -> Tensor:
        stack = self._named(self.alone("text", layout.is_real_BL.shape[1]))
        return self.image.vit.norm(walk_alone(stack, self._words(text_TD), layout))

    def _image_alone(self, embedded_BPD: Tensor) -> Tensor:
        stack = self._named(self.alone("image", embedded_BPD.shape[1]))
        return self.image.vit.norm(walk_alone(stack, self._patches(embedded_BPD)))


def depth(config: ViTStackConfig, backbone: Backbone) -> int:
    """Returns the number of blocks of the stack."""
    return config.layers or backbone.image_layers


def vit_stack_facts(name: str, config: ViTStackConfig, backbone: Backbone) -> Facts:
    """Returns the facts of a `ViTStack`. Raises `SettingError` for a causal text encoder."""
    not_causal(name, backbone)
    return Facts(
        no_align="" if config.separate_passes else NO_ALIGN,
        no_images=ONE_SOFTMAX,
        no_caption="",
        image_type=config.type_embeddings,
        itc_reads=BY_ITSELF if config.separate_passes else "",
        itc_own_pass=config.separate_passes,
        itc_widths=(backbone.image_width, backbone.image_width),
        text_layers=0,
        fusion_layers=depth(config, backbone),
        image_layers=0,
        pooled_width=backbone.image_width,
    )
