"""Which weights a part starts from: drawn anew by role, or taken from a pretrained layer.

A role is a parameter's name in its design. Every weight is drawn by a generator that depends on the
seed and the role alone, so a part that two designs share starts bit-identical in both, whatever
else they hold (DomainBed's seeds, which hash the method's name, pair nothing).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from architectures.contract import FusionDesign
from architectures.frozen import SettingError

Draw = Callable[[str], np.random.Generator]

FRESH = "fresh"
TOKENS = ("cls_token", "dist_token", "reg_token", "pos_embed")
"""Parameters of a timm ViT that are tables rather than layers."""


@torch.no_grad()
def redraw(model: nn.Module, draw: Draw, *, std: float) -> None:
    """Draws every weight of a model anew, in float32, tied weights once.

    Matrices and embeddings N(0, std), biases 0, norms 1 and 0, patch embedding N(0, 1/fan_in) in
    variance, tables of the image tower N(0, 0.02), ITC and ITM heads uniform(+-1/sqrt(fan_in)) as
    ALBEF leaves them. Raises `SettingError` for a parameter without a rule, so that none keeps
    what a library drew for it from the global generator.
    """
    for role, parameter, owner in _parameters(model):
        if role.endswith(".gamma"):  # a layer scale: its constructor's constant is its start
            continue
        shape = tuple(parameter.shape)
        if role.startswith(("heads.itc.", "heads.itm.")) and isinstance(owner, nn.Linear):
            bound = owner.in_features**-0.5
            values = draw(role).random(shape, dtype=np.float32) * (2 * bound) - bound
        elif isinstance(owner, nn.LayerNorm):
            values = np.full(shape, float(role.endswith(".weight")), np.float32)
        elif role.endswith(".bias") and isinstance(owner, nn.Linear | nn.Conv2d):
            values = np.zeros(shape, np.float32)
        else:
            values = draw(role).standard_normal(shape, np.float32) * _scale(role, owner, std)
        parameter.copy_(torch.from_numpy(np.asarray(values, np.float32)))


def _scale(role: str, owner: nn.Module, std: float) -> np.float32:
    if isinstance(owner, nn.Linear | nn.Embedding):
        return np.float32(std)
    if isinstance(owner, nn.Conv2d):
        return np.float32(owner.weight[0].numel() ** -0.5)
    if role.rpartition(".")[2] in TOKENS:
        return np.float32(0.02)
    raise SettingError(
        f"no rule for the initial weights of {role} ({type(owner).__name__}); "
        "build it from Linear, Embedding, LayerNorm or Conv2d, or add a rule to slots.py"
    )


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Module]]:
    """Role, parameter and the module that owns it; a tied parameter once, by its first name."""
    for role, parameter in model.named_parameters():
        yield role, parameter, model.get_submodule(role.rpartition(".")[0])


def role_digests(model: nn.Module) -> dict[str, str]:
    """Role -> digest of its value, shape and dtype included: one line of a pairing certificate."""
    digests = {}
    for role, parameter in model.named_parameters():
        value = parameter.detach().cpu().contiguous()
        head = f"{value.dtype}{tuple(value.shape)}".encode()
        raw = value.view(torch.uint8) if value.ndim else value[None].view(torch.uint8)
        digests[role] = hashlib.blake2b(head + raw.numpy().tobytes(), digest_size=16).hexdigest()
    return digests


def paired_share(model: nn.Module, other: nn.Module) -> float:
    """Share of the first model's parameters that the other has too, by role and shape."""
    theirs = {role: tuple(p.shape) for role, p in other.named_parameters()}
    own = {role: (tuple(p.shape), p.numel()) for role, p in model.named_parameters()}
    shared = sum(size for role, (shape, size) in own.items() if theirs.get(role) == shape)
    return shared / sum(size for _, size in own.values())


@torch.no_grad()
def load_slots(
    design: FusionDesign, source: Mapping[str, Tensor], table: Mapping[str, str]
) -> None:
    """Copies pretrained layers into the slots that a design's table gives them.

    `source` is keyed by role (`encoders.text_tensors`). Parts named by `design.new_parts()` keep
    what was drawn. Raises `SettingError` that lists what the source lacks or holds in another size.
    """
    wrong = []
    new = tuple(design.new_parts())
    for role, parameter in design.named_parameters():
        found = _source_of(role, table)
        if found is None or role.startswith(new):
            continue
        tensor = source.get(found)
        if tensor is None:
            wrong.append(f"{role}: the source has no {found}")
        elif tensor.shape != parameter.shape:
            wrong.append(f"{role}: {tuple(parameter.shape)} here, {tuple(tensor.shape)} there")
        else:
            parameter.copy_(tensor)
    if wrong:
        shown = "; ".join(wrong[:8]) + (f"; and {len(wrong) - 8} more" if len(wrong) > 8 else "")
        raise SettingError(f"text_weights {design.backbone.text_weights!r} do not fit: {shown}")


def _source_of(role: str, table: Mapping[str, str]) -> str | None:
    """The source's name of a role: its slot's source layer and the rest of the role."""
    for slot, layer in table.items():
        if role.startswith(f"{slot}.") and layer != FRESH:
            return layer + role[len(slot) :]
    return None
