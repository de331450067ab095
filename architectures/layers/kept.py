"""Self-attention of a layer is made explicit here, so that its probabilities can be looked at.

Shape suffixes: B rows, H heads, Q queries, K keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

from architectures.frozen import SettingError
from architectures.layers.blocks import Layer
from architectures.layers.vit_blocks import ViTBlock


@contextlib.contextmanager
def kept_attention(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Yields a list that receives the self-attention probabilities (B, H, Q, K) of every call of a
    layer inside the context: of timm's block, a `ViTBlock`, or a `Layer` without cross-attention.

    They are part of the autograd graph, so gradients with respect to them can be taken; what the
    layer computes stays the same. Raises `SettingError` for another kind of block of timm.
    """
    kept: list[Tensor] = []
    with contextlib.ExitStack() as stack:
        if isinstance(layer, ViTBlock | Layer):
            hook = layer.register_forward_pre_hook(
                lambda _, args, named: (args, {**named, "keep": kept}), with_kwargs=True
            )
        else:
            attention = getattr(layer, "attn", None)
            dropout = getattr(attention, "attn_drop", None)
            if not isinstance(attention, nn.Module) or not isinstance(dropout, nn.Dropout):
                raise SettingError(
                    f"image blocks of kind {type(layer).__name__} do not show their attention; set "
                    "the backbone's vision to a plain ViT, for example vit_base_patch16_224"
                )
            # timm's fused attention never has the probabilities; one by one, they pass dropout.
            stack.callback(setattr, attention, "fused_attn", attention.fused_attn)
            setattr(attention, "fused_attn", False)  # noqa: B010  mypy: of a module
            hook = dropout.register_forward_hook(lambda _, __, given: kept.append(given))
        stack.callback(hook.remove)
        yield kept
