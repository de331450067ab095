"""Says what of a design its image tower and its layers of text alone are, and holds them still."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator
from typing import Literal

from torch import nn

from architectures.contract import FusionDesign
from architectures.layers.blocks import Embeddings
from architectures.stacks.image_tower import ImageTower
from architectures.stacks.towers import TwoTowers

Tower = Literal["image", "text"]
TOWERS: tuple[Tower, ...] = ("image", "text")
"""What may be frozen: the blocks of the image alone with the patch embedding below them, and the
embeddings with the layers of text alone. The words' table is also that of the MLM head."""


@dataclasses.dataclass(frozen=True)
class TowerParts:
    """The modules of a design that one modality goes through by itself."""

    modules: tuple[str, ...]
    """Roles of modules, none inside another."""
    apart: tuple[str, ...] = ()
    """Roles of modules inside them that read the other modality: they are not of the tower."""

    def roles(self, design: nn.Module) -> frozenset[str]:
        """Returns the roles of the tower's parameters."""
        return frozenset(
            role
            for role, _ in design.named_parameters()
            if _inside(role, self.modules) and not _inside(role, self.apart)
        )


def no_tower(design: FusionDesign, tower: Tower) -> str:
    """Says why a design has no such tower to freeze; empty: it has one."""
    if not design.towers_alone()[TOWERS.index(tower)]:
        return f"{design.name} has no layer of {'the image' if tower == 'image' else 'text'} alone"
    if tower == "image":
        its_kind = isinstance(getattr(design, "image", None), ImageTower)
    else:
        embeddings, layers = _text_encoder(design)
        its_kind = isinstance(embeddings, Embeddings) and isinstance(layers, nn.ModuleList)
    return "" if its_kind else f"{design.name} has a tower of {tower} of its own kind"


def tower_parts(design: FusionDesign, tower: Tower) -> TowerParts:
    """Returns the parts of a tower, none where the design has no such tower (`no_tower`).

    `FusionDesign.towers_alone` tells how many layers they are. Cross-attention inside a layer that
    text also goes through alone (BLIP's shared stack) is not of the tower, nor is the norm above
    the image blocks where blocks that fuse stand between.
    """
    if no_tower(design, tower):
        return TowerParts(())
    depth = design.towers_alone()[TOWERS.index(tower)]
    if tower == "image":
        vit = design.get_submodule("image.vit")
        whole = depth == len(design.get_submodule("image.vit.blocks")._modules)
        names = [name for name, _ in vit.named_children() if name != "blocks"]
        kept = [f"image.vit.{name}" for name in names if whole or name != "norm"]
        own = [f"image.vit.{name}" for name, _ in vit.named_parameters(recurse=False)]
        blocks = [f"image.vit.blocks.{j}" for j in range(depth)]
        modules = (*own, *kept, *blocks)
    else:
        embeddings, layers = _text_encoder(design)
        assert isinstance(layers, nn.ModuleList)
        parts = (embeddings, getattr(design, "text_norm", None), *list(layers)[:depth])
        ids = {id(part) for part in parts if part is not None}
        modules = tuple(name for name, module in design.named_modules() if id(module) in ids)
    new = (part.rstrip(".") for part in design.new_parts())
    return TowerParts(modules, tuple(sorted(n for n in new if _inside(n, modules, strictly=True))))


def _text_encoder(design: FusionDesign) -> tuple[object, object]:
    if isinstance(design, TwoTowers):
        return design.text_encoder()
    return getattr(design, "embeddings", None), getattr(design, "layers", None)


def _inside(role: str, modules: Collection[str], *, strictly: bool = False) -> bool:
    """Says whether a role is that of one of `modules`, or of something in it."""
    return any(role.startswith(f"{m}.") or (role == m and not strictly) for m in modules)


class HeldStill:
    """Some towers of a design, which can be frozen for a while."""

    def __init__(self, design: FusionDesign, towers: Collection[Tower]) -> None:
        parts = [tower_parts(design, tower) for tower in towers]
        self.roles = frozenset[str]().union(*(its.roles(design) for its in parts))
        """Of the parameters that are frozen."""
        named = design.named_parameters()
        self._parameters = [p for role, p in named if role in self.roles and p.requires_grad]
        self._modules = [
            module
            for name, module in design.named_modules()
            if any(_inside(name, p.modules) and not _inside(name, p.apart) for p in parts)
        ]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Freezes the towers inside: a forward pass brings their parameters no gradient, and their
        dropout is off. Afterwards all is as it was.
        """
        modes = [module.training for module in self._modules]
        for parameter in self._parameters:
            parameter.requires_grad_(False)
        for module in self._modules:
            module.training = False
        try:
            yield
        finally:
            for parameter in self._parameters:
                parameter.requires_grad_(True)
            for module, training in zip(self._modules, modes, strict=True):
                module.training = training
