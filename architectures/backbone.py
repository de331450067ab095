"""Backbone holds what every design of a study shares; the named scales are kept here too.

No torch here: studies are data, and listing them must stay quick.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from architectures.frozen import Frozen, nearest

Positive = Annotated[int, Field(gt=0, le=1_000_000)]

Layers = Annotated[int, Field(gt=0, le=1000)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextKind:
    """TextKind holds what sets one published text encoder apart from another, sizes aside."""

    eps: float
    """Of every norm."""
    act: Literal["gelu", "quick_gelu"] = "gelu"
    first_position: int = 0
    """Row of the position table that the first token takes."""
    types: int = 2
    """Rows of the token type table, of which row 0 is used; 0: no table."""
    pre_norm: bool = False
    """Norms stand before each sub-layer, and one at the end; embeddings are not normed."""
    causal: bool = False
    """A token reads those before it only, and the last one stands for the text."""


TextName = Literal["bert", "roberta", "distilbert", "clip"]
TEXT_KINDS: dict[TextName, TextKind] = {
    "bert": TextKind(eps=1e-12),
    "roberta": TextKind(eps=1e-5, first_position=2, types=1),
    "distilbert": TextKind(eps=1e-12, types=0),
    "clip": TextKind(eps=1e-5, act="quick_gelu", types=0, pre_norm=True, causal=True),
}


class Backbone(Frozen, allow_inf_nan=False):
    """Backbone holds image tower, text stack, width, heads, sizes and where weights come from."""

    scale: str = "custom"
    """Name of the scale these numbers started from; a label, not a setting."""
    vision: str = "vit_base_patch16_224"
    """A ViT by timm's name; the sizes below override the named model's own."""
    vision_weights: str = "random"
    """`random`, `hub` (timm's published weights), or what has an image tower: an ALBEF checkpoint,
    a file or folder of a ViT of timm, or the folder or hub name of a CLIP, BridgeTower, ViLT or
    BLIP-2. Its sizes must be the backbone's, but for the image size: its position table is
    resized. The mean and deviation of the pixels that it was trained on are folded into its patch
    embedding."""
    image_size: Positive = 256
    """Pixels on a side."""
    image_channels: Annotated[int, Field(ge=1, le=4)] = 3
    """Channels of a picture; 1 adapts the patch embedding to grey pictures."""
    patch_size: Positive = 16
    """Pixels on a side of a patch."""
    image_width: Positive = 768
    """Hidden size of the image tower."""
    image_layers: Layers = 12
    """Blocks of the image tower."""
    image_heads: Positive = 12
    """Attention heads of the image tower."""
    image_mlp: Positive | None = None
    """Inner width of the image tower's MLPs; None: the named model's multiple of its width."""
    image_norm_eps: Annotated[float, Field(gt=0)] | None = None
    """Epsilon of the image tower's norms; None: the named model's own."""
    text: TextName = "bert"
    """Kind of text encoder, and of the layers of every fusion stack."""
    text_weights: str = "random"
    """`random`, or what has a text encoder: an ALBEF checkpoint, or the folder or hub name of a
    BERT, RoBERTa, DistilBERT, CLIP, BridgeTower, VisualBERT, LXMERT or BLIP-2, of exactly these
    sizes."""
    weights_allow: tuple[str, ...] = ()
    """Patterns of roles, as `image.vit.norm.*`, that vision_weights and text_weights may lack, hold
    in another size, or hold besides ours. Another such role is an error."""
    text_width: Positive = 768
    """Hidden size of text and fusion layers."""
    text_layers: Layers = 12
    """Layers of the BERT stack that a design divides between text and fusion."""
    text_heads: Positive = 12
    """Attention heads of text and fusion layers."""
    text_mlp: Positive = 3072
    """Inner width of text and fusion MLPs."""
    max_positions: Positive = 512
    """Rows of the text position table."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout of text and fusion layers, on hidden states and attention."""
    init_std: Annotated[float, Field(gt=0)] = 0.02
    """Standard deviation of freshly drawn matrices and embeddings. Under `mup` it is that at nano's
    widths, and where nobody sets it nano's own, 0.08."""
    parameterisation: Literal["standard", "mup"] = "standard"
    """How initial weights and learning rates go by width. `standard`: not at all; each scale wants
    settings of its own. `mup`: so that what is found at nano holds at wider scales (maximal update
    parameterisation, Yang et al., arXiv 2203.03466): a matrix with m times the inputs that it has
    at nano is drawn with deviation init_std / sqrt(m) (init_std / m where its outputs are logits)
    and learns at 1/m of the rate, with m times the decay; logits of words are divided by m, and
    attention scores by the width of a head in place of its square root. At nano's widths both are
    the same, to the bit. Only for weights that are drawn here: published ones keep `standard`."""
    itc_width: Positive = 256
    """Width of the common space of ITC."""

    @model_validator(mode="before")
    @classmethod
    def _starts_as_nano(cls, values: object) -> object:
        """Gives `init_std` nano's value under `mup`, where nobody sets it."""
        if isinstance(values, dict) and values.get("parameterisation") == "mup":
            return {"init_std": SCALES["nano"].init_std, **values}
        return values

    def with_fields(self, changes: Mapping[str, Any], under: str = "") -> Self:
        """Returns a copy with several changed; one that becomes `mup` takes nano's `init_std`,
        where it still has the default of `standard`, and one that turns back that of its scale."""
        default, nano = type(self).model_fields["init_std"].default, SCALES["nano"].init_std
        becomes = changes.get("parameterisation", self.parameterisation)
        if becomes == "mup" != self.parameterisation and self.init_std == default:
            changes = {"init_std": nano, **changes}
        if becomes == "standard" != self.parameterisation and self.init_std == nano:
            own = SCALES[self.scale].init_std if self.scale in SCALES else default
            changes = {"init_std": own, **changes}
        return super().with_fields(changes, under)

    @model_validator(mode="after")
    def _sizes_fit(self) -> Backbone:
        if self.image_size % self.patch_size:
            fitting = self.image_size // self.patch_size * self.patch_size or self.patch_size
            raise ValueError(
                f"image_size {self.image_size} is not divisible by patch_size {self.patch_size}; "
                f"take {fitting} or {fitting + self.patch_size}"
            )
        for part in ("image", "text"):
            width, heads = getattr(self, f"{part}_width"), getattr(self, f"{part}_heads")
            if width % heads:
                raise ValueError(f"{part}_width {width} is not divisible by {part}_heads {heads}")
        return self

    @property
    def text_kind(self) -> TextKind:
        """Returns the constants of the text encoder."""
        return TEXT_KINDS[self.text]

    @property
    def patches(self) -> int:
        """Counts the image tokens, without the class token."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def longest_text(self) -> int:
        """Counts the tokens of the longest text that there are positions for."""
        return self.max_positions - self.text_kind.first_position


def _scale(name: str, **sizes: Any) -> Backbone:
    return Backbone(scale=name, **sizes)


SCALES: dict[str, Backbone] = {
    # Seconds on two CPU cores; 12 text layers, so that 6+6 is literal. No dropout: such a run sees
    # each picture a few times at most. A narrow matrix needs a wider draw than BERT's 0.02: at 64
    # columns 0.08 gives a layer the gain that 0.023 gives at 768.
    "nano": _scale(
        "nano", vision="vit_tiny_patch16_224", image_size=32, patch_size=8, image_width=64,
        image_layers=4, image_heads=2, text_width=64, text_layers=12, text_heads=2, text_mlp=256,
        max_positions=64, dropout=0.0, init_std=0.08, itc_width=64,
    ),
    "tiny": _scale(
        "tiny", vision="vit_tiny_patch16_224", image_size=64, patch_size=8, image_width=192,
        image_layers=6, image_heads=3, text_width=192, text_layers=12, text_heads=3, text_mlp=768,
        max_positions=64, itc_width=128,
    ),
    "small": _scale(
        "small", vision="vit_small_patch16_224", image_size=224, image_width=384,
        image_heads=6, text_width=384, text_heads=6, text_mlp=1536,
    ),
    # The sizes of ALBEF's paper: ViT-B/16 at 256 px beside BERT-base.
    "base": _scale("base"),
}  # fmt: skip


def scale(name: str) -> Backbone:
    """Returns the backbone of a named scale.

    Raises `SettingError` with the nearest name.
    """
    if name not in SCALES:
        raise nearest(name, SCALES, "scale")
    return SCALES[name]


def at_nano_width(backbone: Backbone, times: int = 1) -> Backbone:
    """Returns a standard backbone that is as wide as nano, or so many `times` as wide in heads of
    the same size, and else as given: what `mup` compares the shapes of weights with.
    """
    nano = SCALES["nano"]
    names = ("image_width", "image_heads", "text_width", "text_heads", "text_mlp", "itc_width")
    sizes: dict[str, int | None] = {name: times * getattr(nano, name) for name in names}
    sizes["image_mlp"] = None if backbone.image_mlp is None else sizes["text_mlp"]
    return backbone.model_copy(update={**sizes, "parameterisation": "standard"})
