"""A design as a JSON graph: its parts, and which reads which.

Nobody draws the graph by hand: the design is run once on the meta device, every tensor carries the
names of the parts it comes from, and a part that is called is joined to where its inputs come
from. So a new design has a diagram without a line of its own.

A part is a module with `node`, its kind in words (`Embeddings`, `Layer`, blocks of the image tower,
heads); of parts inside parts only the innermost are shown. A part that is called several times in
one phase, as a layer that two streams share, stands there once for each call: `role`, `role#2`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from architectures import registry
from architectures.backbone import Backbone
from architectures.blocks import Beside, Read
from architectures.contract import FusionDesign, ImageStates, TextStates
from architectures.slots import FRESH

TEXT_TOKENS = 8


def graph(
    name: str, fields: Mapping[str, Any], backbone: Backbone, vocabulary: int
) -> dict[str, Any]:
    """The graph of a design: `design`, the fields `changed` from their defaults, `nodes` and
    `edges`, ready for `json.dumps`.

    A node: `id` (its role, and which call), `kind`, `phase` (fusion where fusion calls it, else
    where it was first called: image, text or heads), `width` of what it gives, attention `heads`,
    `parameters`, `slot` (the pretrained layer that it would start from, or `fresh`), `source` (the
    same, where weights are given) and `tied` (nodes that hold some of its weights). An edge:
    `from`, `to` and `as`: `input`, or `reads` where a layer looks at another modality. Raises
    `SettingError` like `registry.build`.
    """
    with torch.device("meta"):
        design = registry.construct(name, fields, backbone, vocabulary)
    nodes = {
        id(m): role
        for role, m in design.named_modules()
        if _kind(m) and not any(_kind(inner) for inner in m.modules() if inner is not m)
    }
    trace = _Trace(nodes)
    with trace.watching(design), trace, torch.no_grad():
        _run(design, trace)
    table = design.slots(design.config, backbone)
    found = {call: call.partition("#")[0] for role in nodes.values() for call in trace.named(role)}
    tied = _tied({call: design.get_submodule(role) for call, role in found.items()})
    return {
        "design": name,
        "changed": design.config.model_dump(mode="json", exclude_defaults=True),
        "nodes": [
            {"id": call, "phase": "", "width": 0, "tied": tied[call]}
            | _node(design, role, table)
            | trace.said.get(call, {})
            for call, role in found.items()
        ],
        "edges": [{"from": source, "to": role, "as": kind} for source, role, kind in trace.edges],
    }


def _run(design: FusionDesign, trace: _Trace) -> None:
    backbone, heads = design.backbone, design.heads
    size = (1, backbone.image_channels, backbone.image_size, backbone.image_size)
    ids_BL = torch.zeros(1, TEXT_TOKENS, dtype=torch.int64, device="meta")
    trace.phase = "image"
    image = design.encode_image(torch.zeros(size, device="meta"))
    trace.phase = "text"
    text = design.encode_text(ids_BL, ids_BL == 0)
    if design.facts(design.config, backbone).can_fuse:
        trace.phase = "fusion"
        fused = design.fuse(image, text)
        trace.phase = "heads"
        heads["itm"](fused.pooled_BD)
        if "mlm" in heads:
            heads["mlm"](fused.text_BRD[0])
    if "itc" in heads:  # last: what it reads may be made only now, by layers of the fusion stack
        trace.phase = "heads"
        heads["itc"](image.pooled_BD, text.pooled_BD)


def _node(design: FusionDesign, role: str, table: Mapping[str, str]) -> dict[str, Any]:
    module, backbone = design.get_submodule(role), design.backbone
    kind, part = _kind(module), "image" if role.startswith("image.") else "text"
    slot = table.get(role, backbone.vision if part == "image" else FRESH)
    weights = backbone.vision_weights if part == "image" else backbone.text_weights
    for prefix, other in design.other_weights().items():
        weights = other if slot.startswith(prefix) else weights
    return {
        "kind": kind,
        "heads": getattr(backbone, f"{part}_heads") if kind == "layer" else 0,
        "parameters": sum(p.numel() for p in module.parameters()),
        "slot": slot,
        "source": slot if weights != "random" else FRESH,
    }


def _tied(parts: Mapping[str, nn.Module]) -> dict[str, list[str]]:
    """Part -> others that hold some of its parameters."""
    held = {name: {id(p) for p in module.parameters()} for name, module in parts.items()}
    return {
        name: [other for other in held if other != name and held[other] & own]
        for name, own in held.items()
    }


def _kind(module: nn.Module) -> str:
    """What kind of part a module is; empty: it is no part of its own."""
    return str(getattr(module, "node", ""))


class _Trace(TorchDispatchMode):
    """Follows tensors from part to part."""

    def __init__(self, nodes: Mapping[int, str]) -> None:
        super().__init__()
        self.nodes = nodes
        self.phase = ""
        self.said: dict[str, dict[str, Any]] = {}  # of every call: phase and width
        self.edges: dict[tuple[str, str, str], None] = {}  # in the order of the calls
        self._calls: Counter[tuple[str, str]] = Counter()
        self._origins: dict[int, frozenset[str]] = {}
        self._kept: list[Tensor] = []  # so that no storage's address is used again

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._mark(result, self._come_from((args, kwargs)))
        return result

    @contextlib.contextmanager
    def watching(self, design: nn.Module) -> Iterator[None]:
        """Sees every call of a part."""
        hooks = []
        for module in design.modules():
            if id(module) in self.nodes:
                hooks.append(module.register_forward_hook(self._called, with_kwargs=True))
        yield
        for hook in hooks:
            hook.remove()

    def named(self, role: str) -> list[str]:
        """The names of a part, one for each time that it was called in one phase."""
        return [role, *(call for call in self.said if call.startswith(f"{role}#"))]

    def _called(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        call, reads = self._call(self.nodes[id(module)]), _kind(module) == "layer"
        said = self.said.setdefault(call, {"phase": self.phase})
        said["width"] = _tensors(output)[0].shape[-1]
        if self.phase == "fusion":
            said["phase"] = "fusion"
        for place, given in enumerate([*args, *kwargs.values()]):
            # A layer's first argument is what it works on; tensors after it are what it reads, if
            # it has cross-attention.
            crosses = getattr(module, "crosses", True) or isinstance(given, Beside)
            if place and reads and not crosses:
                continue
            for source in sorted(self._come_from(given)):
                self.edges[source, call, "reads" if place and reads else "input"] = None
        self._mark(output, frozenset([call]))

    def _call(self, role: str) -> str:
        """The name of this call. Passes that the heads alone need are no calls of their own."""
        self._calls[self.phase, role] += 1
        count = self._calls[self.phase, role]
        return role if count == 1 or self.phase == "heads" else f"{role}#{count}"

    def _mark(self, value: Any, origins: frozenset[str]) -> None:
        for tensor in _tensors(value):
            self._origins[tensor.untyped_storage()._cdata] = origins
            self._kept.append(tensor)

    def _come_from(self, value: Any) -> frozenset[str]:
        storages = (tensor.untyped_storage()._cdata for tensor in _tensors(value))
        return frozenset().union(*(self._origins.get(key, frozenset()) for key in storages))


def _tensors(value: Any) -> list[Tensor]:
    """Tensors of nested arguments; states and reads are looked into, layouts are not."""
    leaves: list[Any] = []
    for leaf in tree_leaves(value):
        inner = isinstance(leaf, ImageStates | TextStates | Beside)
        leaf = leaf.states if isinstance(leaf, Read) else leaf  # what else it has is not read
        leaves += _tensors(list(vars(leaf).values())) if inner else [leaf]
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]
