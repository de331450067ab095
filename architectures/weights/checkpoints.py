"""Published checkpoints come in by role, and what they lack or hold too much is said.

`read` opens a file or folder of a known kind (`published/`) and names its weights by role; `whole`
fits them to a design.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from architectures.backbone import Backbone
from architectures.contract import FusionDesign
from architectures.frozen import SettingError, path_named
from architectures.weights import kinds
from architectures.weights.fitting import fit
from architectures.weights.pixels import Pixels, folded, stated
from architectures.weights.positions import resize_positions
from architectures.weights.published import timm
from architectures.weights.published.format import Config, Format, Resize, Roles
from architectures.weights.usual import (
    DECODER,
    PUBLISHED_WIDTHS,
    WORDS,
    rounded_up,
    usual_heads,
)
from architectures.weights.weight_files import (
    check_finite,
    configuration,
    open_file,
    open_folder,
    state,
)

PATCHES = "image.vit.patch_embed.proj.weight"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """Published is what a file or folder of weights holds, by the words of this project."""

    source: str
    """Where it was read."""
    kind: str
    """`albef`, `timm`, or what transformers calls the model, as `bert`."""
    tensors: Mapping[str, Tensor]
    """Weights by role. Names that no rule knows stay as they are, to be refused by `fit`."""
    sizes: Mapping[str, Any]
    """Fields of `Backbone` that the source tells, and `vocabulary`; `text_layers` where it has a
    text encoder."""
    left_out: Mapping[str, str]
    """Role of what no design has -> why: momentum twins, queues, heads of tasks, ..."""
    pixels: Pixels | None = None
    """What its image tower was fed, which is folded into `tensors`: they read pixels from -1 to 1.
    None: it has no image tower, or does not say (`from_timm.vision_tensors` goes on)."""
    assumed_pixels: bool = False
    """Whether `pixels` stands nowhere in the source, but is what timm says of a model's name."""
    resize: Resize = "bicubic"
    """How its position table is brought to another grid."""
    whole: tuple[str, Mapping[str, object]] | str
    """Name and fields of the design that it is as a whole, or why it is none."""

    def __str__(self) -> str:
        if isinstance(self.whole, str):
            return f"kind {self.kind}"
        name, fields = self.whole
        design = " ".join([name, *(f"{field}={value}" for field, value in fields.items())])
        return f"kind {self.kind}, as a whole {design}"

    @property
    def has_text(self) -> bool:
        return "text_layers" in self.sizes

    @property
    def has_image(self) -> bool:
        return PATCHES in self.tensors

    def backbone_fields(self) -> dict[str, Any]:
        """Returns fields of `Backbone`. Where nothing tells the heads of a tower, they are those of
        the published ViTs and BERTs of its width (`usual_heads`).
        """
        fields = {field: value for field, value in self.sizes.items() if field != "vocabulary"}
        for part in ("image", "text"):
            if f"{part}_width" in fields:
                fields.setdefault(f"{part}_heads", usual_heads(fields[f"{part}_width"]))
        return fields

    def remarks(self, backbone: Backbone) -> list[str]:
        """Says what is taken for granted of the source because it does not tell it."""
        notes = []
        for part in ("image", "text"):
            if f"{part}_width" in self.sizes and f"{part}_heads" not in self.sizes:
                heads, width = getattr(backbone, f"{part}_heads"), self.sizes[f"{part}_width"]
                notes.append(
                    f"{self.source} does not tell how many heads its {part} layers have: "
                    f"backbone.{part}_heads says {heads}, of {width // heads} columns each"
                )
        if self.kind == "lxmert":  # padding_idx=0 in its three embeddings
            notes.append(
                f"{self.source}: LXMERT's own code never trains the first row of its tables of "
                "words, positions and types; here they learn like the others"
            )
        if self.assumed_pixels:
            notes.append(
                f"{self.source} does not tell what pixels it was fed: {self.pixels} are assumed "
                f"({self.pixels.by if self.pixels else ''})"
            )
        return notes


def read(source: str | Path) -> Published:
    """Reads the weights of a local file or folder. Only safe formats are opened (`weight_files`).

    Raises `SettingError` that says what the source seems to be and what to do, where it is torn, of
    an unknown kind, or has layers that are not ours.
    """
    path = path_named(source)
    if not path.exists():
        raise SettingError(f"{path}: there is no such file or folder")
    return _read(path, state(path))


def forget() -> None:
    """Lets go of what was read last, which may be large."""
    _read.cache_clear()


@functools.lru_cache(maxsize=2)  # towers and checks ask for one file after another
def _read(path: Path, as_it_is: tuple[tuple[Path, int, int], ...]) -> Published:
    config: Config = {}
    if path.is_dir():
        config = configuration(path)
        form, held = kinds.of_folder(path, config), open_folder(path)
    else:
        held = open_file(path)
        form = kinds.of_file(path, held)
        config = kinds.beside(path) if form is timm.WHOLE else config
    try:
        tensors, left_out = _tied(*form.split(held))
        check_finite(tensors)
        sizes = form.sizes(config, tensors)
        pixels = _pixels(path, form, config, tensors)
        tensors = folded(tensors, pixels) if pixels else tensors
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from None
    return Published(
        source=str(path),
        kind=form.kind,
        tensors=tensors,
        sizes=sizes,
        left_out=left_out,
        pixels=pixels,
        resize=form.resize,
        whole=_whole(form, config, tensors),
    )


def _pixels(path: Path, form: Format, config: Config, tensors: Roles) -> Pixels | None:
    """Returns what the image tower was fed: what its folder says, else what its kind was published
    with where that has as many channels.
    """
    if PATCHES not in tensors:
        return None
    own = stated(path) if path.is_dir() else None
    usual = form.pixels(config)
    if own or usual is None or config:
        return own or usual
    return usual if len(usual.mean) == tensors[PATCHES].shape[1] else None


def _tied(
    tensors: dict[str, Tensor], left_out: dict[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Leaves out an MLM head whose decoder is not the word embedding, as ours is."""
    tied = WORDS in tensors and DECODER in tensors and torch.equal(tensors[DECODER], tensors[WORDS])
    if DECODER in tensors and not tied:
        head = [role for role in tensors if role.startswith("heads.mlm.")]
        why = "its decoder is not the word embedding, as a design's is"
        tensors = {role: x for role, x in tensors.items() if role not in head}
        left_out = {**left_out, **dict.fromkeys(head, why)}
    return tensors, left_out


def _whole(
    form: Format, config: Config, tensors: Mapping[str, Tensor]
) -> tuple[str, Mapping[str, object]] | str:
    if form.design is None:
        return f"a {form.kind} is a tower alone; take it as vision_weights or text_weights"
    try:
        return form.design(config, tensors)
    except SettingError as error:
        return str(error)


@torch.no_grad()
def load_whole(
    design: FusionDesign,
    tensors: Mapping[str, Tensor],
    *,
    allow: Collection[str] = (),
    subject: str = "the checkpoint",
) -> None:
    """Fills the weights of a design with those that `whole` finds for them."""
    own = dict(design.named_parameters())
    for role, value in whole(design, tensors, allow=allow, subject=subject).items():
        own[role].copy_(value)


def whole(
    design: FusionDesign,
    tensors: Mapping[str, Tensor],
    *,
    allow: Collection[str] = (),
    subject: str = "the checkpoint",
    resize: Resize = "bicubic",
) -> dict[str, Tensor]:
    """Returns what a checkpoint of the whole design gives it, by role, tied weights by their first;
    the image position table is resized where the grid differs.

    `allow`: patterns of roles that may be missing or too much (`fit`). `resize`: see
    `resize_positions`. Raises `SettingError` that lists what does not fit.
    """
    own = dict(design.named_parameters())  # of tied weights one name
    first = {id(parameter): role for role, parameter in own.items()}
    names = {r: first[id(p)] for r, p in design.named_parameters(remove_duplicate=False)}
    offered: dict[str, Tensor] = {}
    for role, value in tensors.items():
        name = names.get(role, role)
        if name in offered and not torch.equal(offered[name], value):
            raise SettingError(
                f"{subject}: {role} and {name} are one weight here, but differ there"
            )
        offered[name] = value
    table = "image.vit.pos_embed"
    if table in offered and table in own:
        patches = design.backbone.patches
        prefix = own[table].shape[1] - patches
        offered[table] = resize_positions(offered[table], patches, prefix, resize)
    return fit(own, offered, f"{subject} does not fit {design.name}", allow, "whole_allow")


def check_heads(published: Published, part: str, backbone: Backbone, subject: str) -> None:
    """Raises `SettingError` where a source that does not tell its heads is as wide as published
    models, but `backbone` has other heads than these and does not allow it by name: the same
    weights under other heads are another model.
    """
    field = f"{part}_heads"
    width, heads = published.sizes.get(f"{part}_width"), getattr(backbone, field)
    if width not in PUBLISHED_WIDTHS or field in published.sizes or field in backbone.weights_allow:
        return
    if heads != usual_heads(width):
        raise SettingError(
            f"{subject} does not tell its heads; models {width} wide are published with "
            f"{usual_heads(width)}, but backbone.{field} is {heads}. Set it to "
            f"{usual_heads(width)}, or name {field} in backbone.weights_allow"
        )


def check_sizes(
    published: Published,
    ours: Mapping[str, Any],
    subject: str,
    called: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raises `SettingError` that names the settings to change, where sizes that a source tells are
    not ours (by the names of `Backbone`, and `vocabulary`).

    `called`: what a design calls a size that is not the backbone's.
    """
    theirs = published.sizes
    wrong = {name: value for name, value in ours.items() if theirs.get(name, value) != value}
    if "vocabulary" in wrong and rounded_up(wrong["vocabulary"], theirs["vocabulary"]):
        del wrong["vocabulary"]
    if not wrong:
        return
    differ = [f"{called.get(n, n)} is {value}, there {theirs[n]}" for n, value in wrong.items()]
    settings = {name: called.get(name, f"backbone.{name}") for name in wrong}
    change = [f"{to} to {theirs[name]!r}" for name, to in settings.items() if name != "vocabulary"]
    if "vocabulary" in wrong:
        change.append("the data's text.tokenizer to the one that the model was trained with")
    raise SettingError(f"{subject} does not fit: {'; '.join(differ)}. Set {', and '.join(change)}")
