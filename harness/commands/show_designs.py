"""Prints what `fuselab designs` shows: all designs, what they cost, and one design from its fields
to its parts. torch is imported only where something is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from harness.commands.show_fields import as_typed, show_fields
from harness.commands.terminal import console, say, table
from harness.scheduling.progress import working
from harness.words import count

if TYPE_CHECKING:
    from architectures.backbone import Backbone
    from architectures.contract import Facts, FusionDesign
    from architectures.views.cost import Cost
    from harness.results.tables import Graph

VOCABULARY, TEXT_TOKENS, ROWS = 30_522, 25, 64
"""BERT's vocabulary, ALBEF's text length, and a batch: what costs are counted for where no data is
named.
"""
COSTS = ("design", "text / fusion / image layers", "parameters", "FLOPs/sample", "objectives")
Fields = Mapping[str, JsonValue]
Schema = Mapping[str, Any]
"""A JSON schema, as pydantic makes it."""


def designs() -> None:
    """Prints every design in the registry, a line each."""
    from architectures import registry

    entries = registry.names().values()
    table(
        ("design", "family", "what it is"),
        [(entry.name, entry.family, entry.summary) for entry in entries],
        words=("family", "what it is"),
    )
    console.print("\nfuselab designs NAME shows one; --cost what each costs; --file adds your own.")


def costs(variants: Sequence[tuple[str, Fields]], scale_name: str) -> None:
    """Prints layers, parameters, FLOPs and objectives of designs with some fields changed; what
    cannot be built at this scale is told below, with its reason.
    """
    from architectures import registry
    from architectures.backbone import scale
    from architectures.frozen import SettingError

    backbone, rows, reasons = scale(scale_name), [], []
    for name, fields in variants:
        registry.config(name, fields)  # a mistyped field is no matter of scale
        label = _label(name, fields)
        try:
            with counting(name):
                rows.append(_cost_row(label, _built(name, fields, backbone)))
        except SettingError as error:
            rows.append((label, "-", "-", "-", "not at this scale"))
            reasons.append((name, str(error).removeprefix(f"{name}: ")))
    table(COSTS, rows, words=("objectives",))
    console.print(f"\n{_conditions(backbone)}; FLOPs forward and backward.")
    for name, reason in reasons:
        say(f"{name} cannot be built at {scale_name}: {reason}")


def design(name: str, fields: Fields, scale_name: str) -> None:
    """Prints one design: its fields with their documentation, and what it serves. Nothing is built,
    which would take timm and seconds."""
    from architectures import registry
    from architectures.backbone import scale

    entry, backbone = registry.entry(name), scale(scale_name)
    # From here on torch is loaded: whatever is ready is shown before.
    console.print(f"[bold]{name}[/]  version {entry.version}, family {entry.family}", markup=True)
    console.print(f"{entry.summary}\n")
    with counting(name):
        config, cls = registry.config(name, fields), registry.find(name)
        facts = cls.facts(config, backbone)
        cls.slots(config, backbone)  # says what is wrong with rules of pretrained layers
    show_fields(config)
    _objectives(facts)
    console.print()
    say("--cost shows its slots, where each starts from, and what it costs; --draw its picture.")


def parts(name: str, fields: Fields, scale_name: str) -> None:
    """Prints one design as it is built: its slots, and its cost by part."""
    from architectures.backbone import scale

    with counting(name):
        built = _built(name, fields, scale(scale_name))
        counted = _forward(built)
    _slots(built)
    console.print()
    table(("part", "parameters", "forward FLOPs"), _parts(counted))
    console.print()
    say(
        "Forward: one image, one text, every position; heads: ITC with the passes it alone needs, "
        f"one ITM row, MLM at {counted.masked} positions. FLOPs/sample: a training step of these "
        f"objectives on {ROWS} pairs, forward and backward; what rows share is counted once."
    )


def graphs(name: str, fields: Fields, scale_name: str) -> list[tuple[str, Graph]]:
    """Returns what a design is in a line, and its graph; of every design where `name` is empty."""
    from architectures import registry
    from architectures.backbone import scale
    from architectures.views.graph import graph

    entries = [registry.entry(name)] if name else registry.names().values()
    backbone = scale(scale_name)
    return [(e.summary, graph(e.name, fields, backbone, VOCABULARY)) for e in entries]


def check(module: ModuleType, scale_name: str) -> None:
    """Raises `SettingError` with a line for each fault of the designs in a user's file."""
    from architectures.backbone import scale
    from architectures.frozen import SettingError
    from architectures.views.checks import faults_of_file

    with counting("the designs of the file"):
        faults = faults_of_file(module, scale(scale_name))
    if faults:
        raise SettingError("\n".join(faults))


def counting(what: str) -> AbstractContextManager[object]:
    """Shows a bar that says what takes a second or two, while it does."""
    return working(f"counting {what}")


def _built(name: str, fields: Fields, backbone: Backbone) -> FusionDesign:
    """Builds the design on the meta device, with its heads."""
    import torch

    from architectures import build

    with torch.device("meta"):
        return build.construct(name, fields, backbone, VOCABULARY)


def _forward(built: FusionDesign) -> Cost:
    from architectures.views.cost import measure

    return measure(built, text_tokens=TEXT_TOKENS)


def _cost_row(label: str, built: FusionDesign) -> tuple[str, ...]:
    from harness.training.loop.flops import training_flops
    from harness.training.settings.objectives import Objectives

    facts = built.facts(built.config, built.backbone)
    layers = f"{facts.text_layers} / {facts.fusion_layers} / {facts.image_layers}"
    parameters = sum(p.numel() for p in built.parameters())
    flops = training_flops(built, Objectives(), text_tokens=TEXT_TOKENS, rows=ROWS)
    return (label, layers, count(parameters), count(flops), ", ".join(built.heads))


def _label(name: str, fields: Fields) -> str:
    """Returns the name, and what was changed in lines below it."""
    return "\n  ".join([name, *(f"{field} = {as_typed(value)}" for field, value in fields.items())])


def _conditions(backbone: Backbone) -> str:
    return (
        f"{backbone.scale}: {backbone.image_size} px, {TEXT_TOKENS} tokens, "
        f"vocabulary {VOCABULARY:,}"
    )


def _parts(counted: Cost) -> Iterator[tuple[str, ...]]:
    heads = sum(one.flops for one in counted.heads.values())
    flops = {
        "image": counted.image.flops,
        "text": counted.text.flops,
        "fusion": counted.fuse.flops,
        "heads": heads,
    }
    for part, parameters in counted.by_part.items():
        yield part, count(parameters), count(flops[part])
    yield "all", count(counted.parameters), count(sum(flops.values()))


def _objectives(facts: Facts) -> None:
    console.print("\n[bold]Objectives[/]", markup=True)
    itc = f"reads {facts.itc_reads}" if facts.can_align else _why_not(facts.no_align)
    say(itc, lead="  ITC       ")
    if facts.why_not("mlm") != facts.why_not("itm"):
        say("applies" if facts.can_fuse else _why_not(facts.no_fuse), lead="  ITM       ")
        say(_why_not(facts.why_not("mlm")), lead="  MLM       ")
    else:
        say("apply" if facts.can_fuse else _why_not(facts.no_fuse), lead="  ITM, MLM  ")
    if facts.fusion_reads:
        say(facts.fusion_reads, lead="  Reads     ")


def _why_not(reason: str) -> str:
    return f"not applicable, because {reason}"


# ---- Slots ---------------------------------------------------------------------------------------


def _slots(built: FusionDesign) -> None:
    console.print("\n[bold]Slots[/]", markup=True)
    table(("slot", "source layer", "starts"), slot_rows(built), words=("source layer", "starts"))
    others = "".join(f", {prefix}* from {x}" for prefix, x in built.other_weights().items())
    console.print()
    say(
        "pretrained: from the backbone's vision_weights and text_weights"
        f"{others}. Where those are random, as at {built.backbone.scale}, slots of one source "
        "still start alike."
    )


def slot_rows(built: FusionDesign) -> Iterator[tuple[str, str, str]]:
    """Lists slot, source layer, and fresh or pretrained, of every part of a design, heads left
    aside. Fresh parts inside a pretrained slot stand under it.
    """
    from architectures.weights.slots import FRESH

    slots = dict(built.slots(built.config, built.backbone))
    roles = [role for role, _ in built.named_parameters()]
    new = [p for p in sorted(built.new_parts()) if any(role.startswith(p) for role in roles)]
    yield "image", built.backbone.vision, "pretrained"
    for slot, source in slots.items():
        fresh = source == FRESH
        yield slot, "-" if fresh else source, "fresh" if fresh else "pretrained"
        # A slot inside this one shows its own.
        deeper = tuple(f"{other}." for other in slots if other.startswith(f"{slot}."))
        own = [part for part in new if part.startswith(f"{slot}.") and not part.startswith(deeper)]
        inside = [part[len(slot) + 1 :].rstrip(".") for part in own]
        if inside and not fresh and inside != [""]:
            yield f"  {slot}.{', '.join(inside)}", "-", "fresh"
    named = ("image.", "heads.", *(f"{slot}." for slot in slots))
    rest = [role for role in roles if not role.startswith(named)]
    for part in dict.fromkeys(_part(role, new) for role in rest):
        yield part, "-", "fresh"


def _part(role: str, new: Sequence[str]) -> str:
    """Returns the part that a role belongs to, as the design names it, else its top module."""
    named = next((part.rstrip(".") for part in new if role.startswith(part)), "")
    return named or role.partition(".")[0]
