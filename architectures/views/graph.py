"""This view shows a design as a JSON graph: its parts, and which reads which.

Nobody draws the graph by hand: the design is run once on the meta device, every tensor carries the
names of the parts it comes from, and a part that is called is joined to those that its output
depends on. So a new design has a diagram without a line of its own.

A part works on its first argument. Whatever else its output depends on is an input too where it
descends from the same modality, and is read where it descends from another one: that makes a layer
a crossing, whatever it calls its arguments.

A part is a module with `node`, its kind in words (`Embeddings`, `Layer`, blocks of the image tower,
heads); of parts inside parts only the innermost are shown. A part that is called several times in
one phase, as a layer that two streams share, stands there once for each call: `role`, `role#2`. A
part that another one calls, as a crossing inside a tower's layer, stands `inside` that one.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from architectures import build
from architectures.backbone import Backbone
from architectures.contract import FusionDesign, ImageStates, TextStates
from architectures.frozen import path_named
from architectures.layers.heads import itc_head
from architectures.layers.read import CrossingInside, Read
from architectures.weights import checkpoints
from architectures.weights.slots import FRESH

IMAGE, TEXT = "image", "text"
TEXT_TOKENS = 8
WHOLE = "whole"
"""The `source` of weights that a checkpoint of the whole design gives."""


def graph(
    name: str, fields: Mapping[str, object], backbone: Backbone, vocabulary: int
) -> dict[str, Any]:
    """Returns the graph of a design: `design`, the fields `changed` from their defaults, what a
    checkpoint of the whole design `lacks`, `nodes` and `edges`, ready for `json.dumps`.

    A node: `id` (its role, and which call), `kind`, `phase` (fusion where fusion calls it, else
    where it was first called: image, text or heads), `mlp` (the same of a layer's own MLP; empty
    where others always stand in for it), `inside` (the part that calls it; empty: none), `width` of
    what it gives, attention `heads`, `parameters`, `slot` (the pretrained layer that most of it
    would start from, or `fresh`), `slot_rest` (where its other weights would; empty: all the same),
    `source` and `source_rest` (the same, where weights are given; `whole` where a checkpoint of the
    whole design gives them) and `tied` (nodes that hold some of its weights). An edge: `from`, `to`
    and `as`: `input`, or `reads` where a layer looks at another modality. Raises `SettingError`
    like `build.design`.
    """
    with torch.device("meta"):
        design = build.construct(name, fields, backbone, vocabulary)
    whole = set(build.whole_weights(design))
    checkpoints.forget()
    nodes = {
        id(m): role
        for role, m in design.named_modules()
        if _kind(m) and not any(_kind(inner) for inner in m.modules() if inner is not m)
    }
    trace = _Trace(nodes)
    with trace.watching(design), trace, torch.no_grad():
        _run(design, trace)
    calls = {call: call.partition("#")[0] for role in nodes.values() for call in trace.named(role)}
    tied = _tied({call: design.get_submodule(role) for call, role in calls.items()})
    silent = {"phase": "", "inside": "", "width": 0}
    return {
        "design": name,
        "changed": {field: _named(field, value) for field, value in _changed(design).items()},
        "lacks": _lacks(design, whole),
        "nodes": [
            {"id": call, **silent, "mlp": trace.mlps.get(role, ""), "tied": tied[call]}
            | _node(design, role)
            | _starts(design, role, whole)
            | trace.facts.get(call, {})
            for call, role in calls.items()
        ],
        "edges": [{"from": source, "to": role, "as": kind} for source, role, kind in trace.edges],
    }


def _changed(design: FusionDesign) -> dict[str, Any]:
    return design.config.model_dump(mode="json", exclude_defaults=True)


def _named(field: str, value: Any) -> object:
    """Returns a value as others may see it: of weights on a disk the name without its path."""
    here = field.endswith("_weights") and path_named(value).exists()
    return Path(value).name if here else value


def _lacks(design: FusionDesign, whole: Collection[str]) -> list[str]:
    """Lists the parts that a checkpoint of the whole design does not give, each by the shortest
    name that fits no weight it gives, with * for several numbers; empty where there is no
    checkpoint.
    """
    if not whole:
        return []
    taken = {role[:i] for role in whole for i in range(len(role)) if role[i] == "."}
    lacking = dict[str, dict[str, None]]()
    for role, _ in design.named_parameters():
        if role not in whole:
            steps = role.split(".")
            names = (".".join(steps[: i + 1]) for i in range(len(steps)))
            name = next(name for name in names if name not in taken)
            lacking.setdefault(re.sub(r"\d+", "*", name), {})[name] = None
    return [pattern if len(names) > 1 else next(iter(names)) for pattern, names in lacking.items()]


def _run(design: FusionDesign, trace: _Trace) -> None:
    backbone, heads = design.backbone, design.heads
    size = (1, backbone.image_channels, backbone.image_size, backbone.image_size)
    ids_BL = torch.zeros(1, TEXT_TOKENS, dtype=torch.int64, device="meta")
    real_BL = ids_BL == 0  # before ids are marked: who looks at a mask reads no text
    trace.phase = IMAGE
    image = design.encode_image(trace.starts(torch.zeros(size, device="meta"), IMAGE))
    trace.phase = TEXT
    text = design.encode_text(trace.starts(ids_BL, TEXT), real_BL)
    if design.facts(design.config, backbone).can_fuse:
        trace.phase = "fusion"
        fused = design.fuse(image, text)
        trace.phase = "heads"
        heads["itm"](fused.pooled_BD)
        if "mlm" in heads:
            heads["mlm"](fused.text_BRD[0])
    if "itc" in heads:  # last: what it reads may be made only now, by layers of the fusion stack
        trace.phase = "heads"
        itc_head(design).features(image, text)


def _node(design: FusionDesign, role: str) -> dict[str, Any]:
    module, part = design.get_submodule(role), "image" if role.startswith("image.") else "text"
    kind = _kind(module)
    return {
        "kind": kind,
        "heads": getattr(design.backbone, f"{part}_heads") if kind == "layer" else 0,
        "parameters": sum(p.numel() for p in module.parameters()),
    }


def _starts(design: FusionDesign, part: str, whole: Collection[str]) -> dict[str, str]:
    """Says where a part's weights would start, and where they do: of most, and of the rest."""
    table, backbone = design.slots(design.config, design.backbone), design.backbone
    others, new = design.other_weights(), tuple(design.new_parts())
    would, does = Counter[str](), Counter[str]()
    named = [(role, p) for role, p in design.named_parameters() if role.startswith(f"{part}.")]
    # Of a module with two names the weights have the first.
    for role, parameter in named or design.get_submodule(part).named_parameters(part):
        image = role.startswith("image.")
        slot = next((s for s in table if role.startswith(f"{s}.")), "")
        source = table[slot] if slot else backbone.vision if image else FRESH
        source = FRESH if role.startswith(new) else source
        weights = backbone.vision_weights if image else backbone.text_weights
        weights = next((w for prefix, w in others.items() if source.startswith(prefix)), weights)
        would[source] += parameter.numel()
        start = WHOLE if role in whole else FRESH if weights == "random" else source
        does[start] += parameter.numel()
    most = [[name for name, _ in counted.most_common()] for counted in (would, does)]
    (slot, *slot_rest), (source, *source_rest) = most
    return {
        "slot": slot,
        "slot_rest": next(iter(slot_rest), ""),
        "source": source,
        "source_rest": next(iter(source_rest), ""),
    }


def _tied(parts: Mapping[str, nn.Module]) -> dict[str, list[str]]:
    """Returns part -> others that hold some of its parameters."""
    held = {name: {id(p) for p in module.parameters()} for name, module in parts.items()}
    return {
        name: [other for other in held if other != name and held[other] & own]
        for name, own in held.items()
    }


def _kind(module: nn.Module) -> str:
    """Returns what kind of part a module is; empty: it is no part of its own."""
    return str(getattr(module, "node", ""))


class _Trace(TorchDispatchMode):
    """A trace follows tensors from part to part."""

    def __init__(self, nodes: Mapping[int, str]) -> None:
        super().__init__()
        self.nodes = nodes
        self.phase = ""
        self.facts: dict[str, dict[str, Any]] = {}  # of every call: phase, width, inside what
        self.mlps: dict[str, str] = {}  # layer -> phase in which its own MLP is called
        self.edges: dict[tuple[str, str, str], None] = {}  # in the order of the calls
        self._calls: Counter[tuple[str, str]] = Counter()
        self._under_way: list[str] = []
        self._origins: dict[int, frozenset[str]] = {}
        self._sides = {IMAGE: frozenset([IMAGE]), TEXT: frozenset([TEXT])}
        """What a part descends from, reads left aside: image, text, learnt queries."""
        self._kept: list[Tensor] = []  # so that no storage's address is used again

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._mark(result, self._come_from((args, kwargs)))
        return result

    @contextlib.contextmanager
    def watching(self, design: nn.Module) -> Iterator[None]:
        """Watches every call of a part, and of a layer's own MLP."""
        hooks = []
        for module in design.modules():
            if id(module) not in self.nodes:
                continue
            hooks.append(module.register_forward_pre_hook(self._begins))
            hooks.append(module.register_forward_hook(self._called, with_kwargs=True))
            mlp = getattr(module, "mlp", None)
            if _kind(module) == "layer" and isinstance(mlp, nn.Module):
                seen = functools.partial(self._thinks, self.nodes[id(module)])
                hooks.append(mlp.register_forward_pre_hook(seen))
        yield
        for hook in hooks:
            hook.remove()

    def named(self, role: str) -> list[str]:
        """Returns the names of a part, one for each time that it was called in one phase."""
        return [role, *(call for call in self.facts if call.startswith(f"{role}#"))]

    def _begins(self, module: nn.Module, args: object) -> None:
        self._under_way.append(self._call(self.nodes[id(module)]))

    def _thinks(self, layer: str, mlp: nn.Module, args: object) -> None:
        if self.phase == "fusion" or layer not in self.mlps:
            self.mlps[layer] = self.phase

    def _called(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        call, sources = self._under_way.pop(), self._come_from(output)
        facts = self.facts.setdefault(call, {"phase": self.phase})
        if self._under_way:
            facts["inside"] = outer = self._under_way[-1]
            self.edges[call, outer, "input"] = None
        facts["width"] = _tensors(output)[0].shape[-1]
        if self.phase == "fusion":
            facts["phase"] = "fusion"
        # A part works on its first argument. What else its output depends on it reads, where that
        # is of another modality; heads work on all that they are given.
        works_on = self._come_from(next(iter([*args, *kwargs.values()]), None))
        own = self._sides_of(works_on) or frozenset([call])
        for source in sorted(
            sources - {IMAGE, TEXT}, key=lambda part: (part not in works_on, part)
        ):
            if self.facts[source].get("inside") == call:
                continue  # its edge stands there already
            reads = _kind(module) != "head" and not self._sides[source] <= own
            self.edges[source, call, "reads" if reads else "input"] = None
            for outer in self._under_way if reads else ():
                self.edges[source, outer, "reads"] = None  # which reads by this part
            own |= frozenset() if reads else self._sides[source]
        self._sides[call] = own
        self._mark(output, frozenset([call]))

    def starts(self, tensor: Tensor, modality: str) -> Tensor:
        """Marks what an encoder is given, pixels or ids, as the start of its modality."""
        self._mark(tensor, frozenset([modality]))
        return tensor

    def _sides_of(self, sources: Iterable[str]) -> frozenset[str]:
        return frozenset[str]().union(*(self._sides[source] for source in sources))

    def _call(self, role: str) -> str:
        """Names this call. Passes that the heads alone need are no calls of their own."""
        self._calls[self.phase, role] += 1
        count = self._calls[self.phase, role]
        return role if count == 1 or self.phase == "heads" else f"{role}#{count}"

    def _mark(self, value: object, origins: frozenset[str]) -> None:
        for tensor in _tensors(value):
            self._origins[tensor.untyped_storage()._cdata] = origins
            self._kept.append(tensor)

    def _come_from(self, value: object) -> frozenset[str]:
        storages = (tensor.untyped_storage()._cdata for tensor in _tensors(value))
        return frozenset().union(*(self._origins.get(key, frozenset()) for key in storages))


def _tensors(value: object) -> list[Tensor]:
    """Lists the tensors of nested arguments; states and reads are looked into, layouts are not."""
    leaves: list[Any] = []
    for leaf in tree_leaves(value):
        inner = isinstance(leaf, ImageStates | TextStates | CrossingInside)
        leaf = leaf.states if isinstance(leaf, Read) else leaf  # what else it has is not read
        leaves += _tensors(list(vars(leaf).values())) if inner else [leaf]
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]
