"""One stack of shared attention in which every modality has an MLP of its own.

VLMo (Bao et al. 2022; microsoft/unilm): text alone, image alone and both together go through the
same attention; words take the text expert, patches the image expert, and in the top layers both
take a vision-language expert. Attention and image experts are a ViT's and start from its weights.
VLMo then trains its text experts on text alone, with the attention frozen, before the two meet: a
warm start of the harness does the same, without one they start fresh.

Shape suffixes: B rows, R positions read, T flat tokens, N positions, P image tokens, H heads, D
width.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import DesignConfig, Facts, TextStage
from architectures.frozen import SettingError
from architectures.layers.sequence import Joint, Step, walk
from architectures.layers.vit_blocks import RelativePositions, ViTBlock
from architectures.layout import Layout
from architectures.stacks.vit_stack import (
    Modality,
    ViTStack,
    ViTStackConfig,
    depth,
    vit_stack_facts,
)
from architectures.weights.slots import FRESH


class MultiwayConfig(ViTStackConfig):
    """What the one stack is, and what each modality has of its own."""

    separate_passes: bool = True
    """For ITC, run each modality through the stack by itself too, with its own experts."""
    vl_layers: Annotated[int, Field(ge=0)] = 2
    """Top layers in which words and patches that meet share an expert (VLMo: 2 of 12, 3 of 24); all
    of a stack that has no more."""
    positions: Literal["relative", "absolute"] = "relative"
    """`relative`: attention scores get a learnt bias by distance, which starts at 0 (BEiT).
    `absolute`: position embeddings, as a ViT and BERT have."""
    layer_scale: Annotated[float, Field(ge=0)] = 0.1
    """Start of the learnt factor on what attention and experts add; 0: no such factor. Pretrained
    image weights bring theirs, those without it bring 1."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Chance that training leaves out attention or experts of a row in the top layer, growing
    evenly from 0 in the lowest (VLMo: 0.1)."""


class Expert(nn.Module):
    """An expert is the norm and the MLP of one modality in one layer."""

    node: ClassVar[str] = "expert"

    def __init__(self, block: ViTBlock) -> None:
        """`block`: the ViT block whose norm and MLP it starts like."""
        super().__init__()
        self.norm, self.mlp = copy.deepcopy(block.norm2), copy.deepcopy(block.mlp)

    def forward(self, x_TD: Tensor) -> Tensor:
        return self.mlp(self.norm(x_TD))


class Multiway(ViTStack):
    """Shared attention with text, image and vision-language experts (VLMo).

    Roles: those of `ViTStack` (a block's own MLP is its image expert), `text_experts.j`,
    `fusion_experts.j` of layer j, `positions`.
    """

    name: ClassVar[str] = "multiway"
    version: ClassVar[str] = "2"
    Config: ClassVar[type[DesignConfig]] = MultiwayConfig
    config: MultiwayConfig

    def __init__(self, config: MultiwayConfig, backbone: Backbone, vocabulary: int) -> None:
        relative = config.positions == "relative"
        super().__init__(
            config,
            backbone,
            vocabulary,
            positions=not relative,
            layer_scale=config.layer_scale,
            drop_path=config.drop_path,
        )
        blocks = self.image.vit.blocks
        text, fusion = _experts(config, backbone)
        self.text_experts = nn.ModuleDict({str(j): Expert(blocks[j]) for j in text})
        self.fusion_experts = nn.ModuleDict({str(j): Expert(blocks[j]) for j in fusion})
        if not config.separate_passes:  # no modality is ever alone up there
            for j in fusion:
                self.image.leave_out(f"blocks.{j}.norm2", f"blocks.{j}.mlp")
        self.positions = None
        if relative:
            if self.image.vit.num_prefix_tokens != 1:
                raise SettingError(
                    f"multiway: vision {backbone.vision!r} has more tokens than class token and "
                    "patches; set positions to 'absolute'"
                )
            self.positions = RelativePositions(backbone, len(blocks))

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        assert isinstance(config, MultiwayConfig)
        return vit_stack_facts(cls.name, config, backbone)

    def alone(self, modality: Modality, length: int) -> Sequence[Step]:
        experts: dict[int, Callable[[Tensor], Tensor]] = {}
        if modality == "text":
            experts = {j: self.text_experts[str(j)] for j in range(len(self.image.vit.blocks))}
        sizes = (length, 0) if modality == "text" else (0, length)
        return self._steps(experts, *sizes)

    @classmethod
    def text_stage(cls, config: DesignConfig) -> TextStage | None:
        """In the stage text parts learn, biases of positions and the final norm too
        (microsoft/unilm).

        None where no modality has a pass of its own: text alone has no way through the top layers.
        """
        assert isinstance(config, MultiwayConfig)
        if not config.separate_passes:
            return None
        own = config.model_copy(update={"vl_layers": 0, "pooler": False})
        unused = {"new_part_rate", "whole_weights", "whole_allow"}
        text = ("embeddings.", "text_projection.", "types.text.", "text_experts.", "text_output.")
        return TextStage(
            fields=own.model_dump(mode="json", exclude=unused),
            trains=(*text, "positions.", "image.vit.norm.", "heads.mlm."),
            lacks=("fusion_experts.*", "pooler.*", "heads.*"),
        )

    def text_alone(self, ids_BL: Tensor, text_is_real_BL: Tensor, at_BR: Tensor) -> Tensor:
        layout = Layout.of(text_is_real_BL)
        x_TD = self._words(self.embeddings(ids_BL, layout))
        stack = self._named(self.alone("text", layout.is_real_BL.shape[1]))
        return self.text_output(self.image.vit.norm(walk(stack, x_TD, layout, at_BR)))

    def together(self, joint: Joint, *, text_last: bool) -> Sequence[Step]:
        blocks = self.image.vit.blocks
        experts: dict[int, Callable[[Tensor], Tensor]] = {}
        for j, block in enumerate(blocks):
            if str(j) in self.fusion_experts:
                experts[j] = self.fusion_experts[str(j)]
            elif text_last and j == len(blocks) - 1:
                experts[j] = self.text_experts[str(j)]
            else:
                experts[j] = functools.partial(
                    _by_modality, joint, self.text_experts[str(j)], block
                )
        return self._steps(experts, joint.length, joint.image_tokens)

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        assert isinstance(config, MultiwayConfig)
        text, fusion = _experts(config, backbone)
        fresh = [*(f"text_experts.{j}" for j in text), *(f"fusion_experts.{j}" for j in fusion)]
        return {**super().slots(config, backbone), **dict.fromkeys(fresh, FRESH)}

    def new_parts(self) -> frozenset[str]:
        return super().new_parts() | {"positions."}

    def _steps(
        self, experts: Mapping[int, Callable[[Tensor], Tensor]], length: int, image_tokens: int
    ) -> Sequence[Step]:
        """Returns every layer with the expert that stands in for its own MLP, if one does."""
        blocks = self.image.vit.blocks
        biases: Sequence[Tensor | None] = [None] * len(blocks)
        if self.positions is not None:
            biases = self.positions(length, image_tokens)
        return [
            functools.partial(_step, block, experts.get(j), biases[j])
            for j, block in enumerate(blocks)
        ]


def _experts(config: MultiwayConfig, backbone: Backbone) -> tuple[range, range]:
    """Returns the layers with a text expert, and those with a vision-language expert."""
    layers = depth(config, backbone)
    lowest = max(0, layers - config.vl_layers)
    return range(layers if config.separate_passes else lowest), range(lowest, layers)


def _step(
    block: ViTBlock,
    expert: Callable[[Tensor], Tensor] | None,
    bias_1HNN: Tensor | None,
    x_TD: Tensor,
    layout: Layout,
    *,
    read_at_BR: Tensor | None,
    keep: list[Tensor] | None,
) -> Tensor:
    """Runs a block, with an expert in place of its own MLP."""
    x_TD = block(
        x_TD,
        layout,
        read_at_BR=read_at_BR,
        bias_1HQK=bias_1HNN,
        keep=keep,
        own_mlp=expert is None,
    )
    if expert is None:
        return x_TD
    if read_at_BR is not None:
        rows, positions = read_at_BR.shape
        layout = Layout.full(rows, positions, x_TD.device)
    return block.add(x_TD, expert(x_TD), layout)


def _by_modality(
    joint: Joint, text_expert: Callable[[Tensor], Tensor], block: ViTBlock, x_TD: Tensor
) -> Tensor:
    """Sends words to the text expert, image tokens to the block's own MLP."""
    text_TD, image_BPD = joint.split(x_TD)
    return joint.join(text_expert(text_TD), block.mlp(block.norm2(image_BPD)))
