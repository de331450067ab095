"""The image tower of every design: a ViT of timm without its classifier.

Shape suffixes: B rows, C channels, H height, W width, P image tokens, D width.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.checkpoints import check_keys, resize_positions
from architectures.contract import ImageStates
from architectures.encoders import adapted_patches, vision_state, vit

CLASSIFIER = ("head.", "head_dist.", "fc_norm.")
"""Keys of a checkpoint's classifier, which a tower has no use for."""


class ImageTower(nn.Module):
    """A timm ViT without its classifier: all tokens after the final norm, class token first."""

    def __init__(self, backbone: Backbone, *, blocks: int | None = None) -> None:
        """`blocks`: how many of the lowest blocks it has; None: all of the backbone's. More than
        those start fresh; without any there is no final norm either.
        """
        super().__init__()
        eps, inner = backbone.image_norm_eps, backbone.image_mlp
        own = {} if eps is None else {"norm_layer": functools.partial(nn.LayerNorm, eps=eps)}
        self.sizes: dict[str, Any] = {  # plain numbers, by timm's names
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

    def leave_out(self, *parts: str) -> None:
        """Takes parts of the ViT away; a checkpoint's weights of them are passed over."""
        for part in parts:
            owner, _, name = part.rpartition(".")
            setattr(self.vit.get_submodule(owner), name, None)
        self.left_out += parts

    def forward(
        self, image_BCHW: Tensor, *, every_layer: bool = False, embed_only: bool = False
    ) -> ImageStates:
        """(B, C, H, W) normalised pixels -> states; `layers` are raw block outputs. `embed_only`:
        tokens before the first block, for ITC their mean (the class token has seen nothing yet).
        """
        if embed_only:
            embedded_BPD = self.embed(image_BCHW)
            return ImageStates(distinct_UPD=embedded_BPD, pooled=embedded_BPD.mean(1))
        layers: tuple[Tensor, ...] = ()
        if every_layer:
            tokens_BPD, outputs = self.vit.forward_intermediates(
                image_BCHW, output_fmt="NLC", return_prefix_tokens=True
            )
            layers = tuple(torch.cat([prefix, patches], 1) for patches, prefix in outputs)
        else:
            tokens_BPD = self.vit.forward_features(image_BCHW)
        return ImageStates(distinct_UPD=tokens_BPD, pooled=tokens_BPD[:, 0], layers=layers)

    def embed(self, image_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) normalised pixels -> tokens before the first block: class token, then
        patches, with their positions.
        """
        own = self.vit
        return own.norm_pre(own.patch_drop(own._pos_embed(own.patch_embed(image_BCHW))))

    def load(self, backbone: Backbone) -> None:
        """Takes the weights that `backbone.vision_weights` names; `random` changes nothing.

        The position table is resized (bicubic) where the grid differs, the patch embedding adapted
        where channels differ. Raises `SettingError` that lists missing and unexpected keys.
        """
        if backbone.vision_weights == "random":
            return
        source = f"vision_weights {backbone.vision_weights!r}"
        state = vision_state(backbone)
        depth = min(len(self.vit.blocks), backbone.image_layers)
        state = {
            key: value
            for key, value in state.items()
            if not key.startswith((*CLASSIFIER, *self.left_out)) and _block_of(key) < depth
        }
        own = {key: value for key, value in self.vit.state_dict().items() if _block_of(key) < depth}
        scales = [key for key in own if key.endswith(".gamma")]
        if not any(key.endswith(".gamma") for key in state):  # without scales is with scales of 1
            state |= {key: torch.ones_like(own[key]) for key in scales}
        if "pos_embed" in state and "pos_embed" in own:
            prefix = own["pos_embed"].shape[1] - backbone.patches
            state["pos_embed"] = resize_positions(state["pos_embed"], backbone.patches, prefix)
        weight = state.get("patch_embed.proj.weight")
        if weight is not None and weight.shape[1] != backbone.image_channels:
            state["patch_embed.proj.weight"] = adapted_patches(weight, backbone.image_channels)
        check_keys(source, own, state)
        self.vit.load_state_dict(state, strict=False)


def _block_of(key: str) -> int:
    """The block that a key of a checkpoint belongs to; -1: none."""
    return int(key.split(".")[1]) if key.startswith("blocks.") else -1
