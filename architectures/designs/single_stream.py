"""Words and patches in one transformer from the first layer on: no encoder of either alone.

ViLT (Kim et al. 2021; dandelin/ViLT): the blocks are those of a pre-norm ViT and start from its
weights; text has BERT's embeddings with positions of its own. ViLT draws those anew, here they
start as the text encoder's, as in every design.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from architectures.backbone import Backbone
from architectures.contract import DesignConfig, Facts
from architectures.layers.sequence import Joint, Step
from architectures.stacks.vit_stack import Modality, ViTStack, ViTStackConfig, vit_stack_facts


class SingleStreamConfig(ViTStackConfig):
    """What the one stack is."""


class SingleStream(ViTStack):
    """Word and patch embeddings in one transformer (ViLT)."""

    name: ClassVar[str] = "single_stream"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = SingleStreamConfig

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        assert isinstance(config, SingleStreamConfig)
        return vit_stack_facts(cls.name, config, backbone)

    def alone(self, modality: Modality, length: int) -> Sequence[Step]:
        return list(self.image.vit.blocks)

    def together(self, joint: Joint, *, text_last: bool) -> Sequence[Step]:
        return list(self.image.vit.blocks)
