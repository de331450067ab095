"""This is the door to timm: its ViTs, their weights, and folders written as timm writes them.

The only import of timm, inside functions, so that a tool that only lists designs stays quick.

Shape suffixes: D width, C channels, H height, W width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from architectures.backbone import Backbone
from architectures.frozen import SettingError, nearest
from architectures.weights import checkpoints
from architectures.weights.digests import seal
from architectures.weights.pixels import HALF, Pixels, folded
from architectures.weights.published import timm as timm_format
from architectures.weights.sources import published, quiet


def vit(name: str, **sizes: Any) -> Any:
    """Makes a ViT of timm, without classifier, freshly drawn. Raises `SettingError` where it is
    none.
    """
    import timm
    from timm.models.vision_transformer import VisionTransformer

    if not timm.is_model(name):
        raise nearest(name, timm.list_models("vit_*") + timm.list_models("deit_*"), "vision")
    try:
        model = timm.create_model(name, pretrained=False, num_classes=0, **sizes)
    except TypeError:
        model = None
    if not isinstance(model, VisionTransformer) or model.cls_token is None:
        raise SettingError(
            f"vision {name!r} is no ViT with a class token; take for example vit_base_patch16_224"
        )
    return model


def vision_tensors(backbone: Backbone) -> checkpoints.Published:
    """Reads what `vision_weights` names. Raises `SettingError` where it has no image tower."""
    source = backbone.vision_weights
    if source == "hub":
        import timm

        model = timm.create_model(backbone.vision, pretrained=True, num_classes=0)
        state = {f"image.vit.{name}": value for name, value in model.state_dict().items()}
        hub = checkpoints.Published(
            source="hub",
            kind="timm",
            tensors=state,
            sizes={},
            left_out={},
            resize=timm_format.WHOLE.resize,
            whole="",
        )
        return _with_pixels(hub, backbone.vision)
    source_weights = published(source, "vision_weights")
    if not source_weights.has_image:
        raise SettingError(
            f"vision_weights {source!r} is a {source_weights.kind} without an image tower"
        )
    if source_weights.pixels is None:
        return _with_pixels(source_weights, source_weights.sizes.get("vision", backbone.vision))
    return source_weights


def pixels_of(name: str) -> Pixels:
    """Returns what timm says that a ViT's published weights were fed."""
    import timm

    published = timm.get_pretrained_cfg(name)
    mean, std = (published.mean, published.std) if published else (HALF.mean, HALF.std)
    return Pixels(mean=tuple(mean), std=tuple(std), by=f"what timm says of {name}")


def _with_pixels(weights: checkpoints.Published, name: str) -> checkpoints.Published:
    """Folds in the statistics of the named model, since the source says none of its own. A tower of
    another number of channels is fed their means, as timm feeds it (`timm.data.loader.
    adapt_to_chs`).
    """
    pixels = pixels_of(name)
    channels = weights.tensors[checkpoints.PATCHES].shape[1]
    if channels != len(pixels.mean):
        mean, std = ((sum(row) / len(row),) * channels for row in (pixels.mean, pixels.std))
        pixels = Pixels(mean=mean, std=std, by=f"{pixels.by}, averaged over channels")
    return dataclasses.replace(
        weights, pixels=pixels, tensors=folded(weights.tensors, pixels), assumed_pixels=True
    )


def adapted_patches(weight_DCHW: Tensor, channels: int) -> Tensor:
    """Adapts a patch embedding (D, C, H, W) to pictures of another number of channels, by timm's
    rule.
    """
    from timm.models import adapt_input_conv

    return adapt_input_conv(channels, weight_DCHW, weight_DCHW.shape[1])


def save_vit(
    model: Any, sizes: Mapping[str, object], pixels: Mapping[str, object], folder: Path
) -> None:
    """Writes a ViT, made by `vit` with these sizes, as a folder of timm; `pixels` is what timm says
    of the pictures a model takes.
    """
    from safetensors.torch import load_file
    from timm.models import save_for_hf

    config = {
        "pretrained_cfg": {"tag": "fuselab", "license": None, **pixels}
    }  # not the named model's
    with quiet():
        save_for_hf(model, str(folder), config, dict(sizes), safe_serialization=True)
    path = folder / "model.safetensors"
    seal(path, load_file(path))
