"""This is the door to timm: its ViTs, their weights, and folders written as timm writes them.

The only import of timm, inside functions, so that a tool that only lists designs stays quick.

Shape suffixes: D width, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from architectures.backbone import Backbone
from architectures.frozen import SettingError, nearest
from architectures.weights import checkpoints
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
        nothing: dict[str, Any] = {}
        return checkpoints.Published(
            source="hub", kind="timm", tensors=state, sizes={}, left_out=nothing, whole=""
        )
    source_weights = published(source, "vision_weights")
    if not source_weights.has_image:
        raise SettingError(
            f"vision_weights {source!r} is a {source_weights.kind} without an image tower"
        )
    return source_weights


def adapted_patches(weight_DCHW: Tensor, channels: int) -> Tensor:
    """Adapts a patch embedding (D, C, H, W) to pictures of another number of channels, by timm's
    rule.
    """
    from timm.models import adapt_input_conv

    return adapt_input_conv(channels, weight_DCHW, weight_DCHW.shape[1])


def save_vit(model: Any, sizes: Mapping[str, Any], pixels: Mapping[str, Any], folder: Path) -> None:
    """Writes a ViT, made by `vit` with these sizes, as a folder of timm; `pixels` is what timm says
    of the pictures a model takes.
    """
    from timm.models import save_for_hf

    config = {
        "pretrained_cfg": {"tag": "fuselab", "license": None, **pixels}
    }  # not the named model's
    with quiet():
        save_for_hf(model, str(folder), config, dict(sizes), safe_serialization=True)
