"""What stands in for pretrained weights where none can be downloaded: made of a study's own
training data, once, before its first run, and the start of every design alike.

outputs/warm_start/<key>/
  bert/               BertForMaskedLM as transformers keeps it, with the tokenizer
  distilbert/         DistilBertForMaskedLM: every other layer of it, distilled
  vit.safetensors     the ViT by timm's names, without what it learnt by
  ledger.json         the recipe, what each cost and what it learnt
outputs/warm_start/text_stage-<key>/
                      only for a design that learns from text alone before images and words
                      meet: the model of that stage, over that ViT, as `fuselab export` keeps
                      one, and a ledger

The key depends on the recipe, the data's content, the backbone's sizes and the numerics, never on a
path, that of a text stage on the design too. The train key of a run holds the same, so a run is
known by what it started from.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from architectures import build, registry
from architectures.backbone import Backbone
from architectures.contract import DesignConfig, FusionDesign, LearnsFromText, TextStage
from architectures.frozen import SettingError
from architectures.weights import from_transformers
from harness.outputs.folder import new_folder, write_json
from harness.study import RunSpec, digest
from harness.training.data.cache import MANIFEST, stored
from harness.training.data.corpus import Corpus
from harness.training.settings.loop import WarmStart

if TYPE_CHECKING:
    from harness.planning.plan import Plan

VERSION = "1"
"""Raised when the same recipe gives other weights."""
STAGE_VERSION = "1"
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


def made(
    spec: RunSpec, corpus: Corpus, outputs: Path, say: Callable[[str], object] = str
) -> Path | None:
    """The folder that a spec's towers start from, made first where it is not there; None where they
    start from random weights. A text stage is made beside it where the spec has one. Another
    process that makes them is waited for; one that is stopped leaves nothing behind.
    """
    if spec.warm_start is None:
        return None
    root, name = outputs / "warm_start", key(spec)

    def towers(folder: Path) -> None:
        _begin(spec, f"warm start {name}", say)
        _fill(folder, spec, corpus, say)

    start = stored(root, name, towers)
    if stage := text_stage(spec):
        known = stage_folder(spec, stage)

        def text(folder: Path) -> None:
            _begin(spec, f"{known} of {spec.design}", say)
            _fill_stage(folder, spec, corpus, start / VIT, say)

        stored(root, known, text)
    return start


def _begin(spec: RunSpec, what: str, say: Callable[[str], object]) -> None:
    from harness.training.loop import numerics

    say(f"{what}: made once, then kept")
    numerics.prepare(spec.numerics)


def _fill(folder: Path, spec: RunSpec, corpus: Corpus, say: Callable[[str], object]) -> None:
    from safetensors.torch import save_file

    from harness.training.one_modality.pretraining import Pretraining

    told: dict[str, Any] = {}
    course = Pretraining(spec, corpus)

    def keep(name: str, found: dict[str, Any]) -> None:
        told[name] = found
        say(f"  {line(name, found)}")

    def save(model: Any, name: str) -> None:
        weights = {role: value.detach().cpu() for role, value in model.state_dict().items()}
        words = corpus.tokenizer.for_transformers()
        from_transformers.save_text(
            model.backbone.text, model.backbone, weights, words, folder / name
        )

    bert, found = course.bert()
    save(bert, BERT)
    keep("bert", found)
    half, found = course.distilbert(bert)
    save(half, DISTILBERT)
    keep("distilbert", found)
    vit, found = course.vit()
    state = vit.image.vit.state_dict()
    save_file({name: value.cpu().contiguous() for name, value in state.items()}, folder / VIT)
    keep("vit", found)
    write_json(folder / LEDGER, {**_recipe(spec), "made": told})
    del course, bert, half, vit, state
    _leave_gpu(spec)


def _fill_stage(
    folder: Path, spec: RunSpec, corpus: Corpus, vit: Path, say: Callable[[str], object]
) -> None:
    from architectures import exported
    from harness.export.export import pixels
    from harness.training.one_modality.pretraining import Pretraining

    stage = text_stage(spec)
    assert stage is not None
    model, found = Pretraining(spec, corpus).text_stage(stage, vit)
    exported.write(
        folder,
        model.cpu(),
        words=corpus.tokenizer.for_transformers(),
        pixels=pixels(spec),
        about={"warm_start": key(spec), "trained": list(stage.trains)},
    )
    say(f"  {line(TEXT_STAGE, found)}")
    write_json(folder / LEDGER, {**_recipe(spec), "made": {TEXT_STAGE: found}})
    del model
    _leave_gpu(spec)


def _leave_gpu(spec: RunSpec) -> None:
    """The driver does not train: the GPU is for the runs."""
    import torch

    if spec.numerics.device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def _recipe(spec: RunSpec) -> dict[str, Any]:
    assert spec.warm_start is not None
    return {
        "version": VERSION,
        "warm_start": spec.warm_start.model_dump(mode="json"),
        "backbone": spec.backbone.model_dump(mode="json", exclude=_OTHERS),
        "numerics": spec.numerics.model_dump(mode="json"),
        "data_content": spec.data_content,
    }


def applied(spec: RunSpec, start: Path | None) -> tuple[Backbone, Mapping[str, Any]]:
    """Backbone and fields of a spec's design, starting from a folder of `made`."""
    if start is None:
        return spec.backbone, spec.config
    both = {"text_weights": str(start / BERT), "vision_weights": str(start / VIT)}
    own = registry.find(spec.design).weights_of
    fields: dict[str, Any] = {field: str(start / kind) for field, kind in own.items()}
    if stage := text_stage(spec):
        whole = start.parent / stage_folder(spec, stage)
        fields |= {"whole_weights": str(whole), "whole_allow": stage.lacks}
    return spec.backbone.model_copy(update=both), {**spec.config, **fields}


def make_all(
    planned: Plan, corpora: Mapping[str, Corpus], outputs: Path, say: Callable[[str], object] = str
) -> list[Path]:
    """Every folder that the runs of a plan start from, made where it is not there; `corpora`: cell
    -> corpus.

    Raises `SettingError` naming the cell where a design cannot start from it.
    """
    import torch

    cells = {row.cell: row.spec for row in planned.rows if row.spec.warm_start}
    folders: dict[Path, None] = {}  # each once, in the order made
    for cell, spec in cells.items():
        try:
            made(spec, corpora[cell], outputs, say)
            folder = outputs / "warm_start" / key(spec)
            folders[folder] = None
            if stage := text_stage(spec):
                folders[folder.parent / stage_folder(spec, stage)] = None
            backbone, config = applied(spec, folder)
            with torch.device("meta"):  # says at once what would not fit
                words = corpora[cell].tokenizer.vocabulary
                build.construct(spec.design, config, backbone, words)
        except SettingError as error:
            raise SettingError(f"cell {cell!r}: {error}") from None
    return list(folders)


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


def copied(folder: Path, to: Path) -> Path:
    """The same files in a new or empty folder, whole or not at all.

    Raises `SettingError` where the folder is not empty.
    """
    with new_folder(to) as part:
        skipped = shutil.ignore_patterns(MANIFEST)
        copy = shutil.copyfile  # with the modes of ordinary files
        shutil.copytree(folder, part, ignore=skipped, copy_function=copy, dirs_exist_ok=True)
    return to
