"""What a warm start depends on, and what it is called: keys, names, versions. Trains nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from architectures import registry
from architectures.contract import DesignConfig, FusionDesign, LearnsFromText, TextStage
from architectures.frozen import SettingError
from harness.training.settings.spec import RunSpec, digest
from harness.training.settings.warm_start import WarmStart

VERSION = "1"
"""Raised when the same recipe gives other weights."""

STAGE_VERSION = "2"
"""The same for a text stage."""

BERT, DISTILBERT, VIT, TEXT_STAGE = "bert", "distilbert", "vit.safetensors", "text_stage"

LEDGER = "ledger.json"

NAMES = {"bert": "BERT", "distilbert": "DistilBERT", "vit": "ViT", TEXT_STAGE: "text stage"}

_STARTS = ("vision_weights", "text_weights")

_OTHERS = {"scale", "itc_width", *_STARTS}
"""Fields of the backbone that no tower depends on."""


def check(spec: RunSpec) -> None:
    """Raises `SettingError` where a warm start does not go with the rest of a spec."""
    if spec.warm_start is None:
        return
    if spec.backbone.text != "bert":
        raise SettingError(
            f"warm_start trains a bert, but backbone.text is {spec.backbone.text!r}; set it to "
            "'bert', or warm_start to null"
        )
    named = {f"backbone.{field}": getattr(spec.backbone, field) for field in _STARTS}
    named |= {field: value for field, value in spec.config.items() if field.endswith("_weights")}
    for field, value in named.items():
        if value != "random":
            raise SettingError(
                f"warm_start would take the place of {field} {value!r}; leave one of them out"
            )


def versions(
    recipe: WarmStart | None, design: type[FusionDesign], config: DesignConfig
) -> dict[str, str]:
    """Declared versions of what a design starts from; a spec with that of a text stage has one."""
    if recipe is None:
        return {}
    learns = issubclass(design, LearnsFromText) and design.text_stage(config) is not None
    stage = {TEXT_STAGE: STAGE_VERSION} if learns and recipe.text_stage_samples else {}
    return {"warm_start": VERSION, **stage}


def text_stage(spec: RunSpec) -> TextStage | None:
    """What the design of a spec learns from text alone before its run; None: nothing."""
    if TEXT_STAGE not in spec.versions:
        return None
    if spec.design_file:
        registry.load_file(Path(spec.design_file))
    design = registry.find(spec.design)
    assert issubclass(design, LearnsFromText)
    return design.text_stage(registry.config(spec.design, spec.config))


def stage_folder(spec: RunSpec, stage: TextStage) -> str:
    """Name of the folder of a spec's text stage, by all that its weights depend on."""
    assert spec.warm_start is not None
    parts = [STAGE_VERSION, key(spec), spec.warm_start.text_stage_samples]
    design = [spec.design, spec.versions["design"], stage.fields]
    return f"{TEXT_STAGE}-{digest([*parts, *design])}"


def key(spec: RunSpec) -> str:
    """Hex digest (16 characters) of all that BERT, DistilBERT and ViT of a spec depend on."""
    assert spec.warm_start is not None
    return digest(
        [
            VERSION,
            spec.warm_start.model_dump(mode="json", exclude={"text_stage_samples"}),
            spec.data_content,
            spec.backbone.model_dump(mode="json", exclude=_OTHERS),
            spec.numerics.model_dump(mode="json"),
        ]
    )


def line(name: str, told: Mapping[str, Any]) -> str:
    """One model in words: what it cost, and what it learnt."""
    said = f"{NAMES[name]} {told['samples']:,} samples, {told['flops'] / 1e12:.3g} TFLOP"
    if "seconds" in told:
        said += f", {told['seconds']:.0f} s, loss {told['first_loss']:.2f} to "
        said += f"{told['last_loss']:.2f}"
    if "accuracy" in told:
        what = {"vit": "classes"}.get(name, "masked words")
        said += f", {what} {told['accuracy']:.1%} right (the commonest: {told['chance']:.1%})"
    if "error" in told:
        said += f", hidden patches {told['error']:.2f} (their means: {told['error_of_means']:.2f})"
    return said
