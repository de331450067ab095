"""One joint stack of text layers over words and image tokens, all under one softmax.

Over towers it is METER's merged variant (Dou et al. 2022; described, never released): a linear map
and a type row for each modality, then twelve fresh layers, two poolers. Over patches it is
VisualBERT (Li et al. 2019) with a patch for a region: image tokens go through the norm of the word
embeddings, and BERT's own layers read both.

`tied` says what words and image tokens share of a layer: everything, attention (as in VLMo, Bao et
al. 2022, and Ernie 4.5 VL's experts), or the softmax alone (Mixture-of-Transformers, Liang et al.
2024). A layer then has two halves, which start from one pretrained layer.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import DesignConfig, Facts, Fused, ImageStates, TextStates
from architectures.frozen import SettingError
from architectures.layers.blocks import Layer, Pooler, text_read, with_first
from architectures.layers.read import Read
from architectures.layers.sequence import Joint, Step, keepers, walk, walk_alone, walk_halves
from architectures.layout import Layout
from architectures.stacks.image_from import (
    ImageFromConfig,
    blocks_once,
    encoded,
    reads_in_words,
    side_by_side,
    tokens_read,
)
from architectures.stacks.towers import (
    ONE_SOFTMAX,
    TELLS,
    TowersConfig,
    TwoTowers,
    image_layers,
    itc_reads,
    not_causal,
    project_needed,
    stack_slots,
    text_layers,
)
from architectures.stacks.vit_stack import BY_ITSELF, NO_ALIGN
from architectures.weights.slots import FRESH, Rule, choose, named


class MergedAttentionConfig(ImageFromConfig, TowersConfig):
    """What the joint stack stands on, and what it is."""

    over: Literal["towers", "patches"] = "towers"
    """`towers`: the states of both towers (METER). `patches`: embedded words and patches, without a
    layer of either alone (VisualBERT)."""
    text_layers: Annotated[int, Field(ge=0)] | None = None
    """Layers of text alone, the lowest of the backbone's stack. None: all of them over towers, none
    over patches."""
    fusion_layers: Annotated[int, Field(ge=0)] | None = None
    """Joint layers; None: as many as the backbone's text stack has."""
    fusion_from: Rule | None = None
    """Pretrained text layers that the joint layers start from; None: `random` over towers, `first`
    over patches."""
    tied: Literal["all", "mlp", "none"] = "all"
    """Weights that words and image tokens share in a joint layer: `all` of them; `mlp` is each
    one's own, with its norm, and attention shared; `none`: one softmax over both is all that is
    left in common."""
    projections: bool = True
    """A linear map into the joint stack, of image tokens and, over towers, of text tokens."""
    type_embeddings: bool = True
    """Add a learnt row to image tokens and, over towers, another to text tokens."""
    pooler: bool = True
    """Linear and tanh on [CLS] and, where both are pooled, another on the class token."""
    pooled: Literal["both", "text"] | None = None
    """What the ITM head and the classifiers of tasks read: both first tokens side by side (METER),
    or that of the text (VisualBERT). None: `both` over towers, `text` over patches."""
    separate_passes: bool = False
    """Over patches: for ITC, run each modality through the stack by itself too."""


class MergedAttention(TwoTowers):
    """One joint stack over both towers, or over word and patch embeddings (METER, VisualBERT)."""

    name: ClassVar[str] = "merged_attention"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = MergedAttentionConfig
    config: MergedAttentionConfig

    def __init__(self, config: MergedAttentionConfig, backbone: Backbone, vocabulary: int) -> None:
        facts = self.facts(config, backbone)
        width, joint = backbone.text_width, facts.fusion_layers
        reads = None if config.tied == "all" else width
        stack = nn.ModuleList(Layer(backbone, reads=reads, joint=True) for _ in range(joint))
        own = nn.ModuleList(Layer(backbone) for _ in range(facts.text_layers))
        over_patches = config.over == "patches"
        super().__init__(config, backbone, vocabulary, layers=stack if over_patches else own)
        self.over_patches = over_patches
        self.fusion = nn.ModuleList() if over_patches else stack
        self.image_halves = ""
        if config.tied != "all":
            self.image_halves = "image_layers" if over_patches else "image_fusion"
            setattr(self, self.image_halves, _image_halves(config, backbone, stack))
        self.text_projection: nn.Module = nn.Identity()
        self.image_projection: nn.Module = nn.Identity()
        if joint and config.projections:
            self.image_projection = nn.Linear(backbone.image_width, width)
            if not self.over_patches:
                self.text_projection = nn.Linear(width, width)
        self.blocks = () if over_patches else _blocks(config, backbone)
        self.image_blocks = side_by_side(config, self.blocks, backbone.image_width)
        modalities = ("image",) if self.over_patches else ("text", "image")
        rows = modalities if joint and config.type_embeddings else ()
        self.types = nn.ModuleDict({modality: nn.Embedding(1, width) for modality in rows})
        pools = joint and config.pooler
        self.pooler = Pooler(width) if pools else None
        self.image_pooler = Pooler(width) if pools and _pools_both(config) else None

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        assert isinstance(config, MergedAttentionConfig)
        not_causal(cls.name, backbone)
        count, width = config.fusion_layers, backbone.text_width
        joint = backbone.text_layers if count is None else count
        if joint and not config.projections:
            project_needed(cls.name, backbone)
        if config.tied != "all" and not _pools_both(config):
            raise SettingError(
                f"merged_attention: with tied {config.tied!r} image tokens have a half of the last "
                "layer, which nothing would read; set pooled to 'both'"
            )
        if config.over == "patches":
            return _facts_over_patches(config, joint, width)
        if config.separate_passes:
            raise SettingError(
                "merged_attention: over towers ITC reads the towers; separate_passes is for "
                "over = 'patches', leave it out"
            )
        depth = text_layers(cls.name, config.text_layers, backbone)
        return Facts(
            no_fuse="" if joint else "fusion_layers = 0 leaves no joint layer",
            no_images=ONE_SOFTMAX,
            no_caption="" if config.tied == "all" else TELLS,
            image_type=config.type_embeddings,
            fusion_reads=reads_in_words(config, _blocks(config, backbone)),
            itc_reads=itc_reads(cls.name, config, backbone, depth),
            text_layers=depth,
            fusion_layers=joint,
            image_layers=image_layers(cls.name, config, backbone),
            pooled_width=2 * width if _pools_both(config) else width,
        )

    def encode_image(self, image_BCHW: Tensor) -> ImageStates:
        if not self.over_patches:
            return encoded(self.image, image_BCHW, self.config, self.blocks)
        states = self.image(image_BCHW, embed_only=True)
        if not self.config.separate_passes:
            return states
        return dataclasses.replace(
            states,
            pooled=lambda: walk_alone(self._alone("image"), self._patches(states.distinct_UPD)),
        )

    def encode_words(self, ids_BL: Tensor, layout: Layout) -> TextStates:
        """The text tower encodes words; over patches they are only embedded."""
        text = super().encode_words(ids_BL, layout)
        if not self.config.separate_passes:
            return text
        return dataclasses.replace(
            text, pooled=lambda: walk_alone(self._alone("text"), text.tokens_TD, text.layout)
        )

    def fuse(
        self,
        image: ImageStates,
        text: TextStates,
        *,
        read_at_BR: Tensor | None = None,
        keep_attention: Collection[str] = (),
    ) -> Fused:
        """Words and image tokens go through the joint layers as one sequence."""
        stack = self._stack()
        if not stack:
            raise self.cannot_fuse()
        image_UPE = tokens_read(image, 1, self.image_blocks)[0]
        joint = Joint(text.layout, image_UPE.shape[1])
        keep = keepers(keep_attention, stack, joint.length)
        at_BR = with_first(read_at_BR)
        image_UPD, text_TD = self._patches(image_UPE), self._words(text.tokens_TD)
        if self.image_halves:
            pictures, halves = Read.of_image(image, image_UPD), self._image_stack().values()
            x_TD, image_BPD = walk_halves(
                stack, halves, text_TD, text.layout, pictures, at_BR, keep
            )
            text_BRD, first_BD = text_read(x_TD, text.layout, at_BR)
            out_BPD = image_BPD if at_BR is None else None
            class_BD: Tensor | None = image_BPD[:, 0]
        elif at_BR is None or not _pools_both(self.config):
            x_TD = joint.join(text_TD, image.by_row(image_UPD))
            x_TD = walk(stack, x_TD, joint.layout, at_BR, keep)
            text_BRD, first_BD, out_BPD = joint.read(x_TD, at_BR)
            class_BD = None if out_BPD is None else out_BPD[:, 0]
        else:  # the class token too
            x_TD = joint.join(text_TD, image.by_row(image_UPD))
            class_B1 = torch.full_like(at_BR[:, :1], joint.length)
            x_TD = walk(stack, x_TD, joint.layout, torch.cat([at_BR, class_B1], dim=1), keep)
            x_BRD = x_TD.view(len(at_BR), -1, x_TD.shape[-1])
            text_BRD, first_BD, class_BD, out_BPD = x_BRD[:, 1:-1], x_BRD[:, 0], x_BRD[:, -1], None
        return Fused(
            text_BRD=text_BRD,
            image_BPD=out_BPD,
            pooled_BD=self._pool(first_BD, class_BD),
            attention={name: probabilities[0] for name, probabilities in keep.items()},
        )

    def crossings(self) -> tuple[str, ...]:
        return tuple(self._stack())

    def image_pass(self) -> tuple[str, ...]:
        if not self.over_patches:
            return super().image_pass()
        return tuple(self._alone("image")) if self.config.separate_passes else ()

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        assert isinstance(config, MergedAttentionConfig)
        facts, over_patches = cls.facts(config, backbone), config.over == "patches"
        rule = config.fusion_from or ("first" if over_patches else "random")
        sources = choose(rule, facts.fusion_layers, backbone.text_layers, "fusion_from")
        slots = {**stack_slots(facts.text_layers)}
        slots |= named("layers" if over_patches else "fusion", sources)
        if config.tied != "all":
            slots |= named("image_layers" if over_patches else "image_fusion", sources)
        return slots

    def new_parts(self) -> frozenset[str]:
        table = self.slots(self.config, self.backbone)
        fresh = (f"{slot}." for slot, source in table.items() if source == FRESH)
        parts = (
            "types",
            "text_projection",
            "image_projection",
            "pooler",
            "image_pooler",
            "image_blocks",
        )
        return frozenset({*fresh, *(f"{part}." for part in parts)})

    def _stack(self) -> dict[str, Layer]:
        """Returns the joint layers by name; where a layer has halves, that for words."""
        return self._named("layers" if self.over_patches else "fusion")

    def _image_stack(self) -> dict[str, Layer]:
        return self._named(self.image_halves) if self.image_halves else self._stack()

    def _named(self, stack: str) -> dict[str, Layer]:
        layers = cast(Iterable[Layer], getattr(self, stack))
        return {f"{stack}.{j}": layer for j, layer in enumerate(layers)}

    def _alone(self, modality: Literal["text", "image"]) -> dict[str, Step]:
        """Returns the layers as one modality goes through them by itself."""
        stack = self._image_stack() if modality == "image" else self._stack()
        return {name: functools.partial(layer, alone=True) for name, layer in stack.items()}

    def _words(self, text_TD: Tensor) -> Tensor:
        return self._typed("text", self.text_projection(text_TD))

    def _patches(self, image_UPE: Tensor) -> Tensor:
        x_UPD = self._typed("image", self.image_projection(image_UPE))
        if not self.over_patches:
            return x_UPD
        assert self.embeddings.norm is not None
        return self.embeddings.dropout(self.embeddings.norm(x_UPD))

    def _typed(self, modality: str, x: Tensor) -> Tensor:
        if modality not in self.types:
            return x
        return x + cast(nn.Embedding, self.types[modality]).weight[0]

    def _pool(self, text_BD: Tensor, image_BD: Tensor | None) -> Tensor:
        text_BD = text_BD if self.pooler is None else self.pooler(text_BD)
        if image_BD is None or not _pools_both(self.config):
            return text_BD
        image_BD = image_BD if self.image_pooler is None else self.image_pooler(image_BD)
        return torch.cat([text_BD, image_BD], dim=-1)


def _image_halves(
    config: MergedAttentionConfig, backbone: Backbone, stack: nn.ModuleList
) -> nn.ModuleList:
    """Makes the half for image tokens of every layer of a stack, whose own are those for words."""
    halves = nn.ModuleList()
    for of_text in cast(Iterable[Layer], stack):
        half = Layer(backbone, reads=backbone.text_width, joint=True)
        if config.tied == "mlp":
            half.self_attention, half.self_norm = of_text.self_attention, of_text.self_norm
        halves.append(half)
    return halves


def _blocks(config: MergedAttentionConfig, backbone: Backbone) -> tuple[int, ...]:
    """Returns the image blocks that the joint stack reads, as `blocks_once` does."""
    there = image_layers(MergedAttention.name, config, backbone)
    fuses = config.fusion_layers != 0
    return blocks_once(MergedAttention.name, config, there, fuses=fuses)


def _pools_both(config: MergedAttentionConfig) -> bool:
    return (config.pooled or ("both" if config.over == "towers" else "text")) == "both"


def _facts_over_patches(config: MergedAttentionConfig, joint: int, width: int) -> Facts:
    """Raises `SettingError` for layers that a stack over patches has not."""
    fields = {
        "text_layers": config.text_layers or None,
        "image_layers": config.image_layers,
        "itc_layer": config.itc_layer,
        "image_from": None if config.image_from == "last" else config.image_from,
        "image_concat": config.image_concat or None,
    }
    for field, value in fields.items():
        if value is not None:
            raise SettingError(
                f"merged_attention: {field} is {value}, but over patches no layer is of one "
                "modality alone; leave it out"
            )
    if not joint:
        raise SettingError("merged_attention: over patches fusion_layers must be at least 1")
    return Facts(
        no_align="" if config.separate_passes else NO_ALIGN,
        no_images=ONE_SOFTMAX,
        no_caption="" if config.tied == "all" else TELLS,
        image_type=config.type_embeddings,
        itc_reads=BY_ITSELF if config.separate_passes else "",
        itc_own_pass=config.separate_passes,
        itc_widths=(width, width),
        text_layers=0,
        fusion_layers=joint,
        image_layers=0,
        pooled_width=2 * width if _pools_both(config) else width,
    )
