"""Designs built: with initial weights by role, with published ones, or as a published model whole.

The registry finds designs and imports no torch; what a design needs to stand is put together here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from architectures import registry
from architectures.backbone import Backbone
from architectures.contract import OBJECTIVES, FusionDesign
from architectures.frozen import SettingError, checked
from architectures.layers import heads
from architectures.stacks.image_tower import ImageTower
from architectures.weights import checkpoints, from_transformers, slots, sources
from architectures.weights.from_timm import vision_tensors
from architectures.weights.usual import for_words


def backbone_from(backbone: Backbone, text: str = "", vision: str = "") -> Backbone:
    """The backbone with kinds, sizes and weights of the towers that two sources hold, which may be
    one; empty: that tower stays. Sources are those of `text_weights` and `vision_weights`.

    Heads of a tower that a source does not tell (ALBEF's and timm's files) are 64 columns wide.
    Raises `SettingError` where a source cannot be read or has no such tower.
    """
    fields: dict[str, Any] = {}
    if text:
        found = sources.with_text(text, "text_weights").backbone_fields()
        names = {f for f in found if f.startswith("text")} | {"max_positions"}
        fields |= {name: found[name] for name in names} | {"text_weights": text}
    if vision:
        asked = backbone.with_field("vision_weights", vision)
        found = vision_tensors(asked).backbone_fields()
        names = {f for f in found if f.startswith(("vision", "image_", "patch_size"))}
        fields |= {name: found[name] for name in names} | {"vision_weights": vision}
    return checked(Backbone, {**dict(backbone), **fields})


def construct(
    name: str,
    fields: Mapping[str, Any],
    backbone: Backbone,
    vocabulary: int,
    objectives: Collection[str] = OBJECTIVES,
) -> FusionDesign:
    """A design with its heads, whose weights mean nothing yet (cost and graph need no others)."""
    cls, settings = registry.find(name), registry.config(name, fields)
    facts = cls.facts(settings, backbone)
    cls.slots(settings, backbone)  # raises where a rule does not give the layers that are needed
    design = cls(settings, backbone, vocabulary)
    design.heads = heads.build(design, facts, objectives)
    return design


def design(
    name: str,
    fields: Mapping[str, Any],
    backbone: Backbone,
    vocabulary: int,
    *,
    draw: Callable[[str], np.random.Generator],
    objectives: Collection[str] = OBJECTIVES,
) -> FusionDesign:
    """A design ready to train, on the CPU in float32.

    `draw` gives the generator of a role; heads are those of `objectives` that apply to the design;
    pretrained weights are loaded where the backbone or the configuration names some. Raises
    `SettingError` for what cannot be built, and for weights that do not fit.
    """
    design = construct(name, fields, backbone, vocabulary, objectives)
    drawn_as = slots.origins(design)
    slots.redraw(design, draw, std=backbone.init_std, source_of=drawn_as.__getitem__)
    start(design)
    return design


def start(design: FusionDesign) -> None:
    """Loads the pretrained weights that backbone and configuration name: towers, then the whole.

    Raises `SettingError` for weights that do not fit; on the meta device that is all it does.
    """
    backbone = design.backbone
    from_transformers.check_text(backbone, design.vocabulary)
    table = dict(design.slots(design.config, backbone))
    for tower in design.modules():
        if isinstance(tower, ImageTower):
            tower.load(backbone)
    for prefix, folder in {"": backbone.text_weights, **design.other_weights()}.items():
        if folder == "random":
            continue
        tensors = from_transformers.text_tensors(folder, backbone.weights_allow)
        tensors = for_words(tensors, design.vocabulary)
        source = {prefix + role: value for role, value in tensors.items()}
        own = {slot: layer for slot, layer in table.items() if layer.startswith(prefix)}
        if not prefix:
            own = {s: x for s, x in own.items() if not x.startswith(tuple(design.other_weights()))}
        if f"{prefix}embeddings" in own.values() and f"{prefix}heads.mlm.dense.weight" in source:
            own["heads.mlm"] = f"{prefix}heads.mlm"  # of the model whose words it is tied to
        slots.load_slots(design, source, own, allow=backbone.weights_allow)
    parameters = dict(design.named_parameters())
    with torch.no_grad():
        for role, value in whole_weights(design).items():
            parameters[role].copy_(value)
    checkpoints.forget()


def load(source: str, *, allow: Collection[str] = (), **changed: Any) -> FusionDesign:
    """A published model as the design that it is, with its heads, ready to be asked: design, fields
    and sizes are found from the source, an ALBEF checkpoint or a folder (`DesignConfig`'s
    `whole_weights` lists them).

    `changed`: fields of `Backbone` that shall be others, as `image_size`, or that the source does
    not tell, as the heads of a file (`checkpoints.Published.backbone_fields`). `allow`: patterns of
    roles that the source may lack, which are then drawn, or hold besides the design's.
    Raises `SettingError` that says what does not fit.
    """
    found = sources.published(source, "source")
    if isinstance(found.whole, str):
        raise SettingError(f"{source}: {found.whole}")
    name, fields = found.whole
    by_name = tuple(field for field in ("image_heads", "text_heads") if field in changed)
    allowed = {"weights_allow": (*changed.get("weights_allow", ()), *by_name)}
    backbone = checked(Backbone, {**found.backbone_fields(), **changed, **allowed})
    start = {"whole_weights": source, "whole_allow": tuple(allow)}
    active = [o for o in OBJECTIVES if any(r.startswith(f"heads.{o}.") for r in found.tensors)]

    def draw(role: str) -> np.random.Generator:
        return np.random.default_rng(list(role.encode()))

    words = found.sizes["vocabulary"]
    return design(name, {**fields, **start}, backbone, words, draw=draw, objectives=active).eval()


def whole_weights(design: FusionDesign) -> dict[str, Tensor]:
    """What a design's `whole_weights` give it, by role; nothing where they are random. Raises
    `SettingError` that names sizes that differ, or lists what does not fit.
    """
    source, field = design.config.whole_weights, f"{design.name}: whole_weights"
    if source == "random":
        return {}
    found = sources.published(source, field)
    said = f"{field} {source!r} ({found})"
    names = [name for name in found.sizes if name.startswith(("text", "max_positions"))]
    ours = {name: getattr(design.backbone, name) for name in names}
    checkpoints.check_sizes(found, {**ours, "vocabulary": design.vocabulary}, said)
    for tower in design.modules():
        if isinstance(tower, ImageTower):
            tower.check(found, said)
    checkpoints.check_heads(found, "text", design.backbone, said)
    tensors = for_words(found.tensors, design.vocabulary)
    allow = design.config.whole_allow
    return checkpoints.whole(design, tensors, allow=allow, subject=said, resize=found.resize)
