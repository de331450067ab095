"""Builds the design of a cell without weights, to say before data are open what it cannot do."""

from __future__ import annotations

from collections.abc import Collection

from architectures.backbone import Backbone
from architectures.contract import DesignConfig, FusionDesign
from harness.training.settings.loop import Freeze
from harness.training.settings.objectives import Objectives


def freezable(
    freeze: Freeze, name: str, config: DesignConfig, backbone: Backbone
) -> tuple[Freeze, dict[str, str]]:
    """Returns what of a design can be frozen, and why the rest that is asked for cannot."""
    if not (asked := freeze.changed_fields()):
        return freeze, {}
    from architectures.freezing import TOWERS, no_tower

    design = _without_weights(name, config, backbone)
    why = {f"freeze.{t}": no_tower(design, t) for t in TOWERS if t in asked}
    reasons = {field: reason for field, reason in why.items() if reason}
    return freeze.with_fields({field.partition(".")[2]: None for field in reasons}), reasons


def check_widths(
    name: str, config: DesignConfig, backbone: Backbone, objectives: Objectives
) -> None:
    """Raises `SettingError` where `mup` cannot compare a design's shapes with those at nano's
    widths."""
    if backbone.parameterisation != "standard":
        _without_weights(name, config, backbone, objectives.active())


def _without_weights(
    name: str, config: DesignConfig, backbone: Backbone, active: Collection[str] = ()
) -> FusionDesign:
    import torch

    from architectures import build, registry

    with torch.device("meta"), registry.blamed(name):
        return build.construct(name, dict(config), backbone, 1, active)
