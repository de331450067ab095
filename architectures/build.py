"""This module builds designs: freshly drawn, with pretrained towers, or as a published model whole.

`registry.py` finds designs without importing torch; here their modules, heads and weights are put
together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from architectures import registry
from architectures.backbone import Backbone
from architectures.contract import OBJECTIVES, FusionDesign
from architectures.facts import USUAL_OBJECTIVES
from architectures.frozen import SettingError, checked
from architectures.layers import heads
from architectures.stacks.image_tower import ImageTower
from architectures.weights import checkpoints, from_transformers, slots, sources, widths
from architectures.weights.from_timm import vision_tensors
from architectures.weights.usual import for_words


def backbone_from(backbone: Backbone, text: str = "", vision: str = "") -> Backbone:
    """Returns `backbone` with the kind, sizes and weights of the towers that two sources hold.

    `text` and `vision` are what `text_weights` and `vision_weights` accept, and may name the same
    source; an empty one leaves that tower as it is. Where a source does not tell the number of
    heads (ALBEF's and timm's files), heads are taken to be 64 columns wide.
    Raises `SettingError` where a source cannot be read or has no such tower.
    """
    fields: dict[str, Any] = {}
    if text:
        sizes = sources.with_text(text, "text_weights").backbone_fields()
        names = {f for f in sizes if f.startswith("text")} | {"max_positions"}
        fields |= {name: sizes[name] for name in names} | {"text_weights": text}
    if vision:
        changed = backbone.with_field("vision_weights", vision)
        sizes = vision_tensors(changed).backbone_fields()
        names = {f for f in sizes if f.startswith(("vision", "image_", "patch_size"))}
        fields |= {name: sizes[name] for name in names} | {"vision_weights": vision}
    return checked(Backbone, {**dict(backbone), **fields})


def construct(
    name: str,
    fields: Mapping[str, object],
    backbone: Backbone,
    vocabulary: int,
    objectives: Collection[str] = USUAL_OBJECTIVES,
) -> FusionDesign:
    """Builds a design with its heads; its weights mean nothing yet, which cost and graph can bear.

    Raises `SettingError` for an unknown design or field, and where the backbone does not fit.
    """
    cls, settings = registry.find(name), registry.config(name, fields)
    facts = cls.facts(settings, backbone)
    cls.slots(settings, backbone)  # raises where a rule does not give the layers that are needed
    design = cls(settings, backbone, vocabulary)
    design.heads = heads.build(design, facts, objectives)
    widths.prepare(design, backbone, functools.partial(alike, design))
    return design


def alike(design: FusionDesign, backbone: Backbone) -> FusionDesign:
    """Builds the same design, with the same heads, at another backbone."""
    fields, active = design.config.changed_fields(), tuple(design.heads)
    return construct(design.name, fields, backbone, design.vocabulary, active)


def design(
    name: str,
    fields: Mapping[str, object],
    backbone: Backbone,
    vocabulary: int,
    *,
    draw: Callable[[str], np.random.Generator],
    objectives: Collection[str] = USUAL_OBJECTIVES,
) -> FusionDesign:
    """Builds a design that is ready to train, on the CPU in float32.

    `draw(role)` is the random generator of the parameter of that name. The design gets the heads of
    those `objectives` that it can serve. Pretrained weights are loaded where the backbone or the
    configuration names some. Raises `SettingError` for what cannot be built, and for weights that
    do not fit.
    """
    design = construct(name, fields, backbone, vocabulary, objectives)
    drawn_as = slots.origins(design)
    slots.redraw(design, draw, std=backbone.init_std, source_of=drawn_as.__getitem__)
    start(design)
    return design


def start(design: FusionDesign) -> None:
    """Loads the pretrained weights that backbone and configuration name: towers, then the whole.

    On the meta device nothing is copied and only the check remains. Raises `SettingError` for
    weights that do not fit.
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
            for head in ("heads.mlm", "heads.lm"):  # of the model whose words it is tied to
                own[head] = f"{prefix}heads.mlm"
        slots.load_slots(design, source, own, allow=backbone.weights_allow)
    parameters = dict(design.named_parameters())
    with torch.no_grad():
        for role, value in whole_weights(design).items():
            parameters[role].copy_(value)
    checkpoints.forget()


def load(source: str, *, allow: Collection[str] = (), **changed: Any) -> FusionDesign:
    """Loads a published model as the design that it is, with its heads, in evaluation mode.

    The source is one of those that `DesignConfig.whole_weights` lists; it tells which design, which
    fields and which sizes. `changed`: fields of `Backbone` that shall differ from the source's, as
    `image_size`, or that it does not tell, as the number of heads. `allow`: patterns of roles that
    the source may lack (they are then drawn) or hold besides the design's. Raises `SettingError`
    that says what does not fit.
    """
    published = sources.published(source, "source")
    if isinstance(published.whole, str):
        raise SettingError(f"{source}: {published.whole}")
    name, fields = published.whole
    by_name = tuple(field for field in ("image_heads", "text_heads") if field in changed)
    allowed = {"weights_allow": (*changed.get("weights_allow", ()), *by_name)}
    backbone = checked(Backbone, {**published.backbone_fields(), **changed, **allowed})
    start = {"whole_weights": source, "whole_allow": tuple(allow)}
    active = [o for o in OBJECTIVES if any(r.startswith(f"heads.{o}.") for r in published.tensors)]

    def draw(role: str) -> np.random.Generator:
        return np.random.default_rng(list(role.encode()))

    vocabulary = published.sizes["vocabulary"]
    return design(
        name, {**fields, **start}, backbone, vocabulary, draw=draw, objectives=active
    ).eval()


def whole_weights(design: FusionDesign) -> dict[str, Tensor]:
    """Returns role -> weight of what `whole_weights` gives a design; empty where it is `random`.

    Raises `SettingError` that names sizes that differ, or lists what does not fit.
    """
    source, field = design.config.whole_weights, f"{design.name}: whole_weights"
    if source == "random":
        return {}
    published = sources.published(source, field)
    where = f"{field} {source!r} ({published})"
    same = ("text", "max_positions", "parameterisation")
    names = [name for name in published.sizes if name.startswith(same)]
    ours = {name: getattr(design.backbone, name) for name in names}
    checkpoints.check_sizes(published, {**ours, "vocabulary": design.vocabulary}, where)
    for tower in design.modules():
        if isinstance(tower, ImageTower):
            tower.check(published, where)
    checkpoints.check_heads(published, "text", design.backbone, where)
    tensors = for_words(published.tensors, design.vocabulary)
    allow = design.config.whole_allow
    return checkpoints.whole(design, tensors, allow=allow, subject=where, resize=published.resize)
