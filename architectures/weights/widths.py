"""Under `mup` a matrix starts and learns by how many more inputs it has than at nano's widths.

Maximal update parameterisation (Yang et al., Tensor Programs V, arXiv 2203.03466, table 3; code in
microsoft/mup). One rule says what a weight is, for every design: the model is built at nano's
widths and at twice these on the meta device, and shapes are compared.

- A matrix whose inputs grow has m times those of nano: its learning rate is 1/m, its decay m times,
  so that what is decayed in a step is the same at every width, as in microsoft/mup, and as Blake
  et al. (arXiv 2407.17465) advise. Its deviation is init_std / sqrt(m), and 1 / sqrt(m) of that
  where its outputs do not grow (ITM, classes, pixels).
- All else is as at nano: tables, norms, biases, patch embedding. So the word table is not scaled
  where the MLM head uses it, and the head's input is divided by m.
- Attention scores are divided by d / sqrt(32) in heads of d columns, nano's having 32.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from architectures.backbone import SCALES, Backbone, at_nano_width
from architectures.frozen import SettingError
from architectures.layers.blocks import Attention
from architectures.layers.heads import MLMHead

HEAD_SIZE = SCALES["nano"].text_width // SCALES["nano"].text_heads
"""Columns of a head at nano, in both towers."""


@dataclasses.dataclass(frozen=True)
class Growth:
    """Growth says how a matrix differs from what it is at nano's widths."""

    times: float = 1.0
    """Its inputs, over those at nano's widths."""
    is_output: bool = False
    """Its inputs grow with the width, and its outputs do not."""

    @property
    def of_std(self) -> float:
        """Factor of its deviation, where that is one number for all matrices."""
        return self.times**-0.5 * self.of_bound

    @property
    def of_bound(self) -> float:
        """Factor of its deviation, where that goes by the inputs already, as 1/sqrt(fan_in)."""
        return self.times**-0.5 if self.is_output else 1.0


class Scaled(nn.Module):
    """Queries of a block of timm pass this in place of a norm that it has not."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, q: Tensor) -> Tensor:
        return q * self.factor


def prepare(model: nn.Module, backbone: Backbone, make: Callable[[Backbone], nn.Module]) -> None:
    """Makes a model one of `mup` where its backbone says so, before its weights are drawn.

    `make` builds the same model at another backbone. Nothing is done twice to a part that was
    prepared before. Raises `SettingError` where the model has other parts at nano's widths.
    """
    if backbone.parameterisation == "standard":
        return
    with torch.device("meta"):
        narrow, wide = (dict(make(at_nano_width(backbone, t)).named_modules()) for t in (1, 2))
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            growth = _growth(name, module, narrow.get(name), wide.get(name))
            setattr(module, "growth", growth)  # noqa: B010  mypy: of a module
        elif isinstance(module, Attention):
            columns = module.query.out_features // module.heads
            module.score_factor = (HEAD_SIZE / columns) ** 0.5
        elif hasattr(module, "qkv") and hasattr(module, "head_dim"):
            _scale_queries(module)
    for module in model.modules():
        if isinstance(module, MLMHead):
            module.multiple = 1 / growth_of(module.decoder).times


def _growth(
    name: str, own: nn.Linear | nn.Conv2d, narrow: nn.Module | None, wide: nn.Module | None
) -> Growth:
    kind = type(own)
    if not isinstance(narrow, kind) or not isinstance(wide, kind):
        raise SettingError(
            f"backbone.parameterisation mup compares shapes with those at nano's widths, where "
            f"there is no {name}: make backbone.image_width and text_width equal, or take standard"
        )
    out, *inputs = narrow.weight.shape
    grows, grows_out = inputs != [*wide.weight.shape[1:]], out != len(wide.weight)
    times = math.prod(own.weight.shape[1:]) / math.prod(inputs)
    return Growth(times=times, is_output=grows and not grows_out)


def _scale_queries(attention: nn.Module) -> None:
    """Scales the scores of timm's attention, which takes no factor, by its queries."""
    if not isinstance(attention.q_norm, nn.Identity | Scaled):
        raise SettingError(
            "backbone.parameterisation mup is for image blocks that do not norm their queries; set "
            "the backbone's vision to a plain ViT, for example vit_base_patch16_224, or take "
            "standard"
        )
    factor = (HEAD_SIZE / int(getattr(attention, "head_dim", HEAD_SIZE))) ** 0.5
    attention.q_norm = nn.Identity() if factor == 1 else Scaled(factor)


def growth_of(module: nn.Module) -> Growth:
    """Returns how a module's matrix has grown; under `standard` none has."""
    growth: Growth = getattr(module, "growth", Growth())
    return growth


def times_of(model: nn.Module) -> Mapping[str, float]:
    """Maps the role of every matrix with other inputs than at nano to how many times as many."""
    growths = {name: growth_of(module) for name, module in model.named_modules()}
    return {f"{name}.weight": g.times for name, g in growths.items() if g.times != 1}


def scales_scores(model: nn.Module) -> bool:
    """Says whether some attention divides its scores by something else than sqrt(d)."""
    return any(
        isinstance(module, Scaled) or getattr(module, "score_factor", 1.0) != 1
        for module in model.modules()
    )
