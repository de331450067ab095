"""Every part starts from weights that are drawn anew by role, or taken from a pretrained layer.

A role is a parameter's name in its design. Every weight is drawn by a generator that depends on the
seed and the role alone, so a part that two designs share starts bit-identical in both, whatever
else they hold (DomainBed's seeds, which hash the method's name, pair nothing).
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from architectures.contract import DrawsWeights, FusionDesign, LearnsFromText
from architectures.frozen import SettingError
from architectures.weights.widths import growth_of

Draw = Callable[[str], np.random.Generator]

FRESH = "fresh"

Rule = Literal["first", "last", "every_other", "copies", "random"] | tuple[int | None, ...]
"""Which pretrained layers a stack starts from, lowest slot first; `RULES` says it in words."""
RULES = {
    "first": "as many as are needed, the lowest layers",
    "last": "the highest layers",
    "every_other": "every second layer, counted down from the highest (X-VLM)",
    "copies": "the highest layers, each of them twice (ALBEF for two images)",
    "random": "none, all are drawn fresh",
    "a list": "the layer of every slot, counted from 0; repeats make copies, null a fresh layer",
}
TOKENS = ("cls_token", "dist_token", "reg_token", "pos_embed")
"""Parameters of a timm ViT that are tables rather than layers."""
CONSTANTS = (".gamma", ".scaled_factor", ".beta", ".bias_table")
"""Scales of a layer or a bridge, and biases of relative positions: their constructor's constant is
their start.
"""


def choose(rule: Rule, count: int, there: int, field: str) -> tuple[int | None, ...]:
    """Chooses the source layer of each of `count` slots, of a pretrained stack of `there`; None:
    fresh.

    Raises `SettingError` that names `field` where the rule does not give that many.

    >>> choose("every_other", 6, 12, "fusion_from")
    (1, 3, 5, 7, 9, 11)
    """
    if isinstance(rule, tuple):
        wrong = [layer for layer in rule if layer is not None and not 0 <= layer < there]
        if len(rule) != count or wrong:
            raise SettingError(
                f"{field} {list(rule)} must name {count} layers from 0 to {there - 1}"
                f"{f', not {wrong[0]}' if wrong else f', not {len(rule)}'}"
            )
        return rule
    longest = {"first": there, "last": there, "every_other": (there + 1) // 2, "copies": 2 * there}
    if count > longest.get(rule, count):
        raise SettingError(
            f"{field} {rule!r} gives at most {longest[rule]} layers of {there}, but {count} are "
            "needed; take copies, random, or a list"
        )
    top = range(there)[::-1]
    layers: dict[str, Sequence[int | None]] = {
        "first": range(count),
        "last": top[:count][::-1],
        "every_other": top[::2][:count][::-1],
        "copies": [layer for layer in top for _ in range(2)][:count][::-1],
        "random": [None] * count,
    }
    return tuple(layers[rule])


def named(
    stack: str, sources: Iterable[int | None], source_stack: str = "layers"
) -> dict[str, str]:
    """Maps every slot of a stack to its source layer, as `FusionDesign.slots` gives them."""
    return {
        f"{stack}.{slot}": FRESH if layer is None else f"{source_stack}.{layer}"
        for slot, layer in enumerate(sources)
    }


@torch.no_grad()
def redraw(
    model: nn.Module,
    draw: Draw,
    *,
    std: float,
    source_of: Callable[[str], str] = str,
    only: tuple[str, ...] = ("",),
) -> None:
    """Draws every weight of a model anew, in float32, tied weights once.

    `source_of`: role -> the role by whose name it is drawn. Two slots that start from the same
    pretrained layer start alike without pretrained weights too. `only`: prefixes of the roles that
    are drawn; the others stay.

    Matrices and embeddings N(0, std), biases 0, norms 1 and 0, patch embedding N(0, 1/fan_in) in
    variance, tables of the image tower N(0, 0.02), ITC and ITM heads uniform(+-1/sqrt(fan_in)) as
    ALBEF leaves them, all by width where `widths.prepare` says so; what a design draws itself
    (`DrawsWeights`) comes first. Raises
    `SettingError` for a parameter without a rule, so that none keeps what a library drew for it
    from the global generator.
    """
    for role, parameter in model.named_parameters():
        if role.startswith(only):
            draw_into(model, role, parameter, functools.partial(draw, source_of(role)), std=std)


def draw_into(
    model: nn.Module,
    role: str,
    tensor: Tensor,
    stream: Callable[[], np.random.Generator],
    *,
    std: float,
) -> None:
    """Draws one weight of a model into a tensor of its shape, as `redraw` says."""
    owner = model.get_submodule(role.rpartition(".")[0])
    if isinstance(model, DrawsWeights) and model.initialise(role, tensor, stream()):
        return
    if role.endswith(CONSTANTS):
        return
    shape = tuple(tensor.shape)
    if role.startswith(("heads.itc.", "heads.itm.")) and isinstance(owner, nn.Linear):
        bound = owner.in_features**-0.5 * growth_of(owner).of_bound
        values = stream().random(shape, dtype=np.float32) * (2 * bound) - bound
    elif isinstance(owner, nn.LayerNorm):
        values = np.full(shape, float(role.endswith(".weight")), np.float32)
    elif role.endswith(".bias") and isinstance(owner, nn.Linear | nn.Conv2d):
        values = np.zeros(shape, np.float32)
    else:
        scale = _scale(role, owner, std)
        values = stream().standard_normal(shape, np.float32) * scale
    tensor.copy_(torch.from_numpy(np.asarray(values, np.float32)))


def _scale(role: str, owner: nn.Module, std: float) -> np.float32:
    if isinstance(owner, nn.Linear):
        return np.float32(std * growth_of(owner).of_std)
    if isinstance(owner, nn.Embedding):
        return np.float32(std)
    if isinstance(owner, nn.Conv2d):
        return np.float32(owner.weight[0].numel() ** -0.5)
    if role.rpartition(".")[2] in TOKENS:
        return np.float32(0.02)
    raise SettingError(
        f"no rule for the initial weights of {role} ({type(owner).__name__}); "
        "build it from Linear, Embedding, LayerNorm or Conv2d, or give the design the method "
        "`initialise(role, tensor, stream)`"
    )


def role_digests(model: nn.Module) -> dict[str, str]:
    """Maps every role to a digest of its value, shape and dtype included: a pairing certificate's
    lines.
    """
    digests = {}
    for role, parameter in model.named_parameters():
        value = parameter.detach().cpu().contiguous()
        head = f"{value.dtype}{tuple(value.shape)}".encode()
        raw = value.view(torch.uint8) if value.ndim else value[None].view(torch.uint8)
        digests[role] = hashlib.blake2b(head + raw.numpy().tobytes(), digest_size=16).hexdigest()
    return digests


def paired_share(model: nn.Module, other: nn.Module) -> float:
    """Returns the share of the first model's parameters, in [0, 1], that the other has too, by role
    and shape.
    """
    theirs = {role: tuple(p.shape) for role, p in other.named_parameters()}
    own = {role: (tuple(p.shape), p.numel()) for role, p in model.named_parameters()}
    shared = sum(size for role, (shape, size) in own.items() if theirs.get(role) == shape)
    return shared / sum(size for _, size in own.values())


@torch.no_grad()
def load_slots(
    design: FusionDesign,
    source: Mapping[str, Tensor],
    table: Mapping[str, str],
    allow: Collection[str] = (),
) -> None:
    """Copies pretrained layers into the slots that a table gives them.

    `source` is keyed by role (`from_transformers.text_tensors`). Slots that are `fresh`, and parts
    named by `design.new_parts()`, keep what was drawn, and so do those that a pattern of `allow`
    names by the source's role and the source lacks. Raises `SettingError` that lists what else the
    source lacks or holds in another size.
    """
    wrong = []
    for role, parameter in design.named_parameters():
        wanted = source_role(role, design, table)
        if wanted is None:
            continue
        tensor = source.get(wanted)
        if tensor is None and any(fnmatch.fnmatchcase(wanted, each) for each in allow):
            continue
        if tensor is None:
            wrong.append(f"{role}: the source has no {wanted}")
        elif tensor.shape != parameter.shape:
            wrong.append(f"{role}: {tuple(parameter.shape)} here, {tuple(tensor.shape)} there")
        else:
            parameter.copy_(tensor)
    if wrong:
        shown = "; ".join(wrong[:8]) + (f"; and {len(wrong) - 8} more" if len(wrong) > 8 else "")
        raise SettingError(f"the pretrained weights do not fit {design.name}: {shown}")


def origins(design: FusionDesign) -> dict[str, str]:
    """Maps every role to the role by whose name it is drawn: its slot's source, or itself where
    fresh.
    """
    table = design.slots(design.config, design.backbone)
    return {role: source_role(role, design, table) or role for role, _ in design.named_parameters()}


def starts(design: FusionDesign) -> dict[str, str]:
    """Maps every role to the name under which its start is compared with other designs': that of
    `origins`, but `whole:ROLE` for parts of no tower, and those that text alone trains after the
    towers, where a checkpoint of the whole design gives them.
    """
    names = origins(design)
    if design.config.whole_weights == "random":
        return names
    table = design.slots(design.config, design.backbone)
    stage = design.text_stage(design.config) if isinstance(design, LearnsFromText) else None

    def is_towers(role: str) -> bool:
        if stage and role.startswith(stage.trains):
            return False
        return role.startswith("image.vit.") or bool(source_role(role, design, table))

    return {role: name if is_towers(role) else f"whole:{name}" for role, name in names.items()}


def source_role(role: str, design: FusionDesign, table: Mapping[str, str]) -> str | None:
    """Returns the source's name of a role: its slot's source layer and the rest of the role. None
    where it starts fresh.
    """
    if role.startswith(tuple(design.new_parts())):
        return None
    for slot, layer in table.items():
        if role.startswith(f"{slot}."):
            return None if layer == FRESH else layer + role[len(slot) :]
    return None
