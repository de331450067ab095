"""Every design has this image tower: a ViT of timm without its classifier.

Shape suffixes: B rows, C channels, H height, W width, P image tokens, D width.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import ImageStates
from architectures.frozen import SettingError
from architectures.weights.checkpoints import (
    Published,
    check_heads,
    check_sizes,
)
from architectures.weights.fitting import fit
from architectures.weights.from_timm import adapted_patches, vision_tensors, vit
from architectures.weights.positions import resize_positions

PATCHES = "image.vit.patch_embed.proj.weight"
PATCHES_BIAS = "image.vit.patch_embed.proj.bias"


Encode = Callable[[Tensor], tuple[Tensor, ...]]
"""Pixels (B, C, H, W) to tokens (B, P, D) and, where they are kept, the outputs of every block."""


class ImageTower(nn.Module):
    """A timm ViT without its classifier returns all tokens, normed, class token first."""

    memory: Callable[[Tensor, Encode], tuple[Tensor, ...]] | None = None
    """While set, it is asked for what the blocks make of pictures, and given how to make it."""

    def __init__(self, backbone: Backbone, *, blocks: int | None = None) -> None:
        """Builds the tower. `blocks`: how many of the lowest blocks it has; None: all of the
        backbone's.

        Blocks above the backbone's own start fresh; with 0 blocks there is no final norm either.
        """
        super().__init__()
        self.backbone = backbone
        eps, inner = backbone.image_norm_eps, backbone.image_mlp
        own = {} if eps is None else {"norm_layer": functools.partial(nn.LayerNorm, eps=eps)}
        self.sizes: dict[str, JsonValue] = {  # plain numbers, by timm's names
            "img_size": backbone.image_size,
            "patch_size": backbone.patch_size,
            "in_chans": backbone.image_channels,
            "embed_dim": backbone.image_width,
            "depth": backbone.image_layers if blocks is None else blocks,
            "num_heads": backbone.image_heads,
        }
        if inner is not None:  # half a column more, since timm cuts the product to a whole number
            self.sizes["mlp_ratio"] = (inner + 0.5) / backbone.image_width
        self.vit = vit(backbone.vision, **own, **self.sizes)
        self.vit.patch_embed.node = "patches"
        for block in self.vit.blocks:
            block.node = "layer"
        self.left_out: tuple[str, ...] = ()
        if blocks == 0:
            self.vit.norm = nn.Identity()
            self.left_out = ("norm.",)

    def block_names(self, count: int | None = None) -> tuple[str, ...]:
        """Returns the roles of the lowest blocks in a design; `count` None: of all."""
        return tuple(f"image.vit.blocks.{j}" for j in range(len(self.vit.blocks)))[:count]

    def leave_out(self, *parts: str) -> None:
        """Takes parts of the ViT away; a checkpoint's weights of them are passed over."""
        for part in parts:
            owner, _, name = part.rpartition(".")
            setattr(self.vit.get_submodule(owner), name, None)
        self.left_out += parts

    def forward(
        self, image_BCHW: Tensor, *, every_layer: bool = False, embed_only: bool = False
    ) -> ImageStates:
        """Encodes normalised pixels (B, C, H, W).

        every_layer: keep the raw output of every block in `layers`
        embed_only: stop before the first block; ITC then reads the mean of the tokens, since the
            class token has seen nothing yet
        """
        if embed_only:
            embedded_BPD = self.embed(image_BCHW)
            return ImageStates(distinct_UPD=embedded_BPD, pooled=embedded_BPD.mean(1))
        run = functools.partial(self._run, every_layer=every_layer)
        outputs = run(image_BCHW) if self.memory is None else self.memory(image_BCHW, run)
        return ImageStates(distinct_UPD=outputs[0], pooled=outputs[0][:, 0], layers=outputs[1:])

    def _run(self, image_BCHW: Tensor, *, every_layer: bool) -> tuple[Tensor, ...]:
        """Returns the normed tokens (B, P, D) and, if wanted, the raw output of every block."""
        with self._attention(image_BCHW.device):
            if not every_layer:
                return (self.vit.forward_features(image_BCHW),)
            tokens_BPD, outputs = self.vit.forward_intermediates(
                image_BCHW, output_fmt="NLC", return_prefix_tokens=True
            )
            return tokens_BPD, *(torch.cat([prefix, patches], 1) for patches, prefix in outputs)

    @contextlib.contextmanager
    def _attention(self, device: torch.device) -> Iterator[None]:
        """Turns torch's fused attention off in bfloat16 on a CPU, where its backward takes a third
        longer than products one by one; elsewhere timm chooses.
        """
        slow = device.type == "cpu" and torch.is_autocast_enabled("cpu")
        fused = [part for part in self.vit.modules() if getattr(part, "fused_attn", False)]
        for part in fused if slow else ():
            part.fused_attn = False
        try:
            yield
        finally:
            for part in fused:
                part.fused_attn = True

    def embed(self, image_BCHW: Tensor) -> Tensor:
        """Embeds normalised pixels (B, C, H, W): tokens (B, P, D) before the first block, class
        token first, with their positions.
        """
        own = self.vit
        return own.norm_pre(own.patch_drop(own._pos_embed(own.patch_embed(image_BCHW))))

    @torch.no_grad()
    def load(self, backbone: Backbone) -> None:
        """Takes the weights that `backbone.vision_weights` names; `random` changes nothing.

        The position table is resized (bicubic) where the grid differs, the patch embedding adapted
        where channels differ. Of a deeper tower the lowest blocks are taken. Raises `SettingError`
        that names sizes that differ, or lists missing and unexpected roles.
        """
        if backbone.vision_weights == "random":
            return
        where = f"vision_weights {backbone.vision_weights!r}"
        published = vision_tensors(backbone)
        self.check(published, where)
        shifted = published.pixels is not None and not published.pixels.are_ours
        if shifted and PATCHES_BIAS not in published.tensors and "pos_embed" in self.left_out:
            raise SettingError(
                f"{where}: its patch embedding has no bias to take the mean of its pixels, and "
                "this design has no position table either; take a tower with a bias, as timm's ViTs"
            )
        depth = min(len(self.vit.blocks), backbone.image_layers)
        away = tuple(f"image.vit.{part}" for part in self.left_out)
        state = {
            role: value
            for role, value in published.tensors.items()
            if role.startswith("image.") and not role.startswith(away) and _block_of(role) < depth
        }
        own = {f"image.vit.{name}": p for name, p in self.vit.named_parameters()}
        own = {role: p for role, p in own.items() if _block_of(role) < depth}
        if not any(role.endswith(".gamma") for role in state):  # without scales is with scales of 1
            scales = [role for role in own if role.endswith(".gamma")]
            state |= {role: torch.ones_like(own[role]) for role in scales}
        table, patches = "image.vit.pos_embed", backbone.patches
        if table in state and table in own:
            prefix = own[table].shape[1] - patches
            state[table] = resize_positions(state[table], patches, prefix, published.resize)
        weight = state.get(PATCHES)
        if weight is not None and weight.shape[1] != backbone.image_channels:
            state[PATCHES] = adapted_patches(weight, backbone.image_channels)
        allow, field = backbone.weights_allow, "backbone.weights_allow"
        fitting = fit(own, state, f"{where} does not fit the image tower", allow, field)
        for role, value in fitting.items():
            own[role].copy_(value)

    def check(self, published: Published, where: str) -> None:
        """Raises `SettingError` that names the settings to change, where a source has an image
        tower of other sizes, or of another activation or epsilon, which no weight shows.
        """
        backbone, vision = self.backbone, published.sizes.get("vision")
        names = ("patch_size", "image_width", "image_heads", "image_mlp", "parameterisation")
        ours = {name: getattr(backbone, name) for name in names}
        ours = {name: value for name, value in ours.items() if value is not None}
        norms = [part.eps for part in self.vit.modules() if isinstance(part, nn.LayerNorm)]
        if norms:
            ours["image_norm_eps"] = norms[0]
        if published.sizes.get("image_layers", 0) < backbone.image_layers:
            ours["image_layers"] = backbone.image_layers
        if vision and ("quickgelu" in vision) != ("quickgelu" in backbone.vision):
            ours["vision"] = backbone.vision
        check_sizes(published, ours, where)
        check_heads(published, "image", backbone, where)


def _block_of(role: str) -> int:
    """Returns the number of the block that a role belongs to; -1: none."""
    match = re.match(r"image\.vit\.blocks\.(\d+)\.", role)
    return int(match[1]) if match else -1
