"""Keys, names and versions of a warm start tell what it depends on. Nothing is trained here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from architectures import registry
from architectures.backbone import Backbone
from architectures.contract import DesignConfig, FusionDesign, LearnsFromText, TextStage
from architectures.frozen import SettingError
from harness.outputs.files import read_json
from harness.training.settings import versions as current
from harness.training.settings.loop import Numerics
from harness.training.settings.spec import RunSpec, digest, weights_named
from harness.training.settings.warm_start import ALIGNED_AS, WarmStart

BERT, DISTILBERT, VIT, TEXT_STAGE = "bert", "distilbert", "vit.safetensors", "text_stage"

ALIGNED = "aligned"
"""BERT and ViT together, in a ledger."""

LEDGER = "ledger.json"

NAMES = {
    "bert": "BERT",
    "distilbert": "DistilBERT",
    "vit": "ViT",
    ALIGNED: "BERT and ViT aligned by",
    TEXT_STAGE: "text stage",
}

_STARTS = ("vision_weights", "text_weights")

OTHERS = {"scale", "itc_width", *_STARTS}
"""Fields of the backbone that no tower depends on; those of an alignment do on `itc_width`."""


Learnt = Mapping[str, Any]
"""What one model of a warm start cost and learnt, as `one_modality.pretraining` says it."""


def check(recipe: WarmStart | None, backbone: Backbone, config: DesignConfig) -> None:
    """Raises `SettingError` where a warm start, or `mup`, does not go with a backbone or a design's
    config.
    """
    named = {f"backbone.{field}": getattr(backbone, field) for field in _STARTS}
    named |= weights_named(dict(config))
    given = {field: value for field, value in named.items() if value != "random"}
    for field, value in given.items() if backbone.parameterisation == "mup" else ():
        raise SettingError(
            f"backbone.parameterisation mup is for weights that are drawn here, and {field} names "
            f"{value!r}, which was trained without it: set backbone.parameterisation to standard, "
            f"or {field} to random"
        )
    if recipe is None:
        return
    if backbone.text != "bert":
        raise SettingError(
            f"warm_start trains a bert, but backbone.text is {backbone.text!r}; set it to "
            "'bert', or warm_start to null"
        )
    for field, value in given.items():
        raise SettingError(
            f"warm_start would take the place of {field} {value!r}; leave one of them out"
        )


def used(
    recipe: WarmStart | None, design: type[FusionDesign], config: DesignConfig
) -> WarmStart | None:
    """Returns the part of a recipe that a design starts from: no text stage where it has none."""
    if recipe is None or _has_text_stage(design, config):
        return recipe
    default = WarmStart().text_stage_samples
    return recipe.model_copy(update={"text_stage_samples": default})


def _has_text_stage(design: type[FusionDesign], config: DesignConfig) -> bool:
    return issubclass(design, LearnsFromText) and design.text_stage(config) is not None


def versions(
    recipe: WarmStart | None, design: type[FusionDesign], config: DesignConfig
) -> dict[str, str]:
    """Returns the declared versions of what a design starts from; a spec with that of a text stage
    has one.
    """
    if recipe is None:
        return {}
    staged = _has_text_stage(design, config) and recipe.text_stage_samples
    stage = {TEXT_STAGE: current.TEXT_STAGE} if staged else {}
    aligned = {"alignment": alignment()} if recipe.align_samples else {}
    return {"warm_start": current.WARM_START, **aligned, **stage}


def alignment() -> str:
    """Returns the declared version of alignments, with that of the design which they train."""
    return f"{current.ALIGNMENT} {ALIGNED_AS} {registry.version(ALIGNED_AS)}"


def text_stage(spec: RunSpec) -> TextStage | None:
    """Returns what the design of a spec learns from text alone before its run; None: nothing."""
    if TEXT_STAGE not in spec.train.versions:
        return None
    if spec.asked.design_file:
        registry.load_file(Path(spec.asked.design_file))
    design = registry.find(spec.train.design)
    assert issubclass(design, LearnsFromText)
    return design.text_stage(registry.config(spec.train.design, spec.config))


def stage_folder(spec: RunSpec, stage: TextStage) -> str:
    """Names the folder of a spec's text stage, by all that its weights depend on."""
    assert spec.train.warm_start is not None
    parts = [current.TEXT_STAGE, key(spec), spec.train.warm_start.text_stage_samples]
    design = [spec.train.design, spec.train.versions["design"], stage.fields]
    return f"{TEXT_STAGE}-{digest([*parts, *design])}"


def key(spec: RunSpec) -> str:
    """Digests (16 hex characters) all that BERT, DistilBERT and ViT of a spec depend on."""
    assert spec.train.warm_start is not None
    recipe = spec.train.warm_start.changed_fields()
    recipe.pop("text_stage_samples", None)
    backbone = spec.train.backbone.changed_fields()
    parts = [
        [current.KEYS, current.SETTINGS, current.WARM_START],
        recipe,
        spec.train.data,
        {field: value for field, value in backbone.items() if field not in OTHERS},
        numerics_of(spec).changed_fields(),
    ]
    if spec.train.warm_start.align_samples:
        parts.append([alignment(), current.OBJECTIVES, str(spec.train.backbone.itc_width)])
    return digest(parts)


def numerics_of(spec: RunSpec) -> Numerics:
    """Returns the numerics that a spec's warm start is made with: by one worker, always."""
    return spec.train.numerics.model_copy(update={"workers": 1})


def before_alignment(spec: RunSpec) -> RunSpec:
    """Returns the spec whose towers an alignment starts from: the same without one."""
    return spec.with_field("train.warm_start.align_samples", 0)


def learnt(folder: Path) -> Mapping[str, Learnt]:
    """What the ledger in a folder says of each model made there; empty where there is none."""
    entries = read_json(folder / LEDGER).get("made")
    models = entries if isinstance(entries, dict) else {}
    ordered = {name: models.get(name) for name in NAMES}  # as they were made
    return {name: model for name, model in ordered.items() if isinstance(model, dict)}


def line(name: str, record: Learnt) -> str:
    """Says of one model, in words, what it cost and what it learnt."""
    text = f"{NAMES[name]} {record['samples']:,} samples, {record['flops'] / 1e12:.3g} TFLOP"
    if "seconds" in record:
        text += f", {record['seconds']:.0f} s, loss {record['first_loss']:.2f} to "
        text += f"{record['last_loss']:.2f}"
    if "accuracy" in record:
        what = {"vit": "classes", ALIGNED: "pairs of a batch"}.get(name, "masked words")
        guess = "a guess" if name == ALIGNED else "the commonest"
        text += f", {what} {record['accuracy']:.1%} right ({guess}: {record['chance']:.1%})"
    if "words_accuracy" in record:
        text += f"; BERT's head then names {record['words_accuracy']:.1%} of masked words"
    if "error" in record:
        text += (
            f", hidden patches {record['error']:.2f} (their means: {record['error_of_means']:.2f})"
        )
    return text
