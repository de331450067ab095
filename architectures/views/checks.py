"""What is wrong with a design is found here before anything runs, each fault in one line.

The design is built and run once, on the meta device and without weights, and what it says of itself
is held against what it does.

Shape suffixes: B rows, L text positions, R positions read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch

from architectures import build, registry
from architectures.backbone import Backbone
from architectures.contract import (
    DecodesAnswers,
    DesignConfig,
    Facts,
    Fused,
    FusionDesign,
    ReasonsOverImages,
    WritesCaptions,
)
from architectures.frozen import SettingError
from architectures.weights import slots

VOCABULARY, LENGTH = 50, 8
READ_AT = (1, 2)


def faults_of_file(
    module: ModuleType, backbone: Backbone, wanted: Collection[str] | None = None
) -> list[str]:
    """Lists the faults of the designs that a user's file defines, as `FILE:LINE: fault`.

    `wanted`: names of those to look into; None: all, and what is no design yet.
    """
    entries = {e.cls: e for e in registry.names().values() if e.module == module.__name__}
    own = [
        cls
        for cls in vars(module).values()
        if inspect.isclass(cls)
        and issubclass(cls, FusionDesign)
        and cls.__module__ == module.__name__
    ]
    lines = []
    for cls in own:
        where = f"{module.__file__}:{inspect.getsourcelines(cls)[1]}"
        if cls.__name__ in entries:
            name = entries[cls.__name__].name
            if wanted is None or name in wanted:
                lines += [f"{where}: {name}: {fault}" for fault in faults(name, backbone)]
        elif wanted is None and not any(cls in other.__mro__[1:] for other in own):
            missing = [each for each in ("name", "Config") if each not in vars(cls)]
            lacks = " and ".join(f"`{each}`" for each in missing) or "a `name` that is a string"
            lines.append(f"{where}: class {cls.__name__} is no design yet: it has no {lacks}")
    return lines


def faults(name: str, backbone: Backbone) -> Iterator[str]:
    """Yields what is wrong with a design in its default configuration; nothing where all is well.

    A design that this backbone cannot serve (`facts` raises `SettingError`) is not looked into.
    """
    cls = registry.find(name)
    if not issubclass(cls, FusionDesign):
        yield f"class {cls.__name__} is no FusionDesign"
        return
    missing = sorted(cls.__abstractmethods__)
    if missing:
        yield f"it lacks {', '.join(missing)}"
        return
    if not (inspect.isclass(cls.Config) and issubclass(cls.Config, DesignConfig)):
        yield "`Config` is no class that stands on DesignConfig"
        return
    try:
        facts = cls.facts(registry.config(name, {}), backbone)
        if not isinstance(facts, Facts):
            yield f"`facts` returns {type(facts).__name__}, not Facts"
            return
        with torch.device("meta"):
            design = build.construct(name, {}, backbone, VOCABULARY)
    except SettingError:
        return
    except Exception as error:  # a user's own code, which may raise anything
        yield f"it cannot be built: {_in_a_line(error)}"
        return
    yield from _wrong_slots(design)
    yield from _without_rule(design)
    yield from _wrong_facts(design, facts)


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _wrong_slots(design: FusionDesign) -> Iterator[str]:
    modules, parameters = dict(design.named_modules()), dict(design.named_parameters())
    layers = [f"layers.{j}" for j in range(design.backbone.text_layers)]
    sources = {slots.FRESH, "embeddings", "text_norm", "heads.mlm", *layers}
    others = tuple(design.other_weights())
    for slot, source in design.slots(design.config, design.backbone).items():
        if slot not in modules:
            yield f"slots name {slot!r}, which is no module of it"
        if source not in sources and not (others and source.startswith(others)):
            yield f"slot {slot!r} starts from {source!r}, which no text encoder has"
    for layer in design.crossings():
        if layer not in modules:
            yield f"crossings name {layer!r}, which is no module of it"
    for module, owner in modules.items():
        for own in getattr(owner, "undecayed", ()):
            if (f"{module}.{own}" if module else own) not in parameters:
                yield f"`undecayed` of {module or 'the design'} names {own!r}, no parameter of it"


def _without_rule(design: FusionDesign) -> Iterator[str]:
    """Yields the parameters that have no rule for initial weights, tried one by one."""
    for role, parameter in design.named_parameters():
        tensor = torch.zeros(parameter.shape)
        try:
            slots.draw_into(design, role, tensor, lambda: np.random.default_rng(0), std=1.0)
        except SettingError as error:
            yield str(error)
        except Exception as error:  # `initialise` is a user's own
            yield f"initialise({role!r}) fails: {_in_a_line(error)}"


def _wrong_facts(design: FusionDesign, facts: Facts) -> Iterator[str]:
    """Yields where what the design does is not what its facts say."""
    backbone = design.backbone
    size = (2, backbone.image_channels, backbone.image_size, backbone.image_size)
    pixels = torch.zeros(size, device="meta")
    ids_BL = torch.zeros(2, LENGTH, dtype=torch.int64, device="meta")
    at_BR = torch.tensor([READ_AT, READ_AT], device="meta")
    passes: Mapping[str, Callable[[], Any]] = {
        "encode_image": lambda: design.encode_image(pixels),
        "encode_text": lambda: design.encode_text(ids_BL, ids_BL == 0),
    }
    states = {}
    for method, run in passes.items():
        try:
            states[method] = run()
        except Exception as error:
            yield f"{method} fails: {_in_a_line(error)}"
            return
    image, text = states["encode_image"], states["encode_text"]
    width = design.word_embedding().weight.shape[1]
    if facts.can_fuse:
        for field, method, ability in (
            ("no_images", "for_images", ReasonsOverImages),
            ("no_decoder", "answer_decoder", DecodesAnswers),
            ("no_caption", "encode_caption", WritesCaptions),
        ):
            if not getattr(facts, field) and not isinstance(design, ability):
                yield f"facts give no {field!r}, but it has no method `{method}`"
        for positions, read_at_BR in ((LENGTH, None), (len(READ_AT), at_BR)):
            called = f"fuse with read_at_BR {'None' if read_at_BR is None else list(READ_AT)}"
            try:
                fused: Fused = design.fuse(image, text, read_at_BR=read_at_BR)
            except Exception as error:
                yield f"facts say that it fuses, but {called} fails: {_in_a_line(error)}"
                return
            shape, wanted = tuple(fused.text_BRD.shape), (2, positions, width)
            if not facts.no_words and shape != wanted:
                yield f"{called} returns text_BRD {shape}, not {wanted}"
            shape = tuple(fused.pooled_BD.shape)
            if shape != (2, facts.pooled_width):
                yield f"facts say pooled_width {facts.pooled_width}, {called} returns {shape}"
                break
    if facts.can_align:
        widths = facts.itc_widths or (backbone.image_width, backbone.text_width)
        for side, of, own in (("image", image, widths[0]), ("text", text, widths[1])):
            try:
                shape = tuple(of.pooled_BD.shape)
            except Exception as error:
                yield f"facts say that it aligns, but {side} pooled_BD fails: {_in_a_line(error)}"
                continue
            vectors = (facts.image_vectors,) if side == "image" and facts.image_vectors else ()
            if shape != (2, *vectors, own):
                yield f"facts say ITC reads {(2, *vectors, own)} of the {side}, but it is {shape}"
