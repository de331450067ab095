"""A warm start stands in for pretrained weights where none can be downloaded: it is made of a
study's own training data, once, before its first run, and every design starts from it alike.

outputs/warm_start/<key>/
  bert/               BertForMaskedLM as transformers keeps it, with the tokenizer
  distilbert/         DistilBertForMaskedLM: every other layer of it, distilled
  vit.safetensors     the ViT by timm's names, without what it learnt by
  ledger.json         the recipe, what each cost and what it learnt

Where the recipe aligns the towers there are two such folders. The first is that of the same recipe
without alignment. In the second BERT and ViT have learnt ITC together, and DistilBERT is that of
the first: its losses read what masked words taught its teacher, which ITC moves away from, and the
published one has seen no image either.

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
from collections.abc import Callable, Iterable, Set
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from architectures import registry
from architectures.backbone import Backbone
from architectures.frozen import SettingError
from architectures.weights import from_transformers
from harness.outputs.files import new_folder, write_json
from harness.outputs.for_all import stored_for_all
from harness.training.data.cache import MANIFEST
from harness.training.data.corpus import Corpus
from harness.training.settings import versions
from harness.training.settings.spec import RunSpec
from harness.warm_start.keys import (
    ALIGNED,
    BERT,
    DISTILBERT,
    LEDGER,
    OTHERS,
    TEXT_STAGE,
    VIT,
    before_alignment,
    key,
    learnt,
    line,
    numerics_of,
    stage_folder,
    text_stage,
)

if TYPE_CHECKING:
    from architectures.stacks.image_tower import ImageTower
    from harness.training.one_modality.models import MaskedWords


def made(
    spec: RunSpec, corpus: Corpus, outputs: Path, say: Callable[[str], object] = str
) -> Path | None:
    """Returns the folder that a spec's towers start from, made first where it is not there; None
    where they start from random weights. A text stage is made beside it where the spec has one.
    Another process that makes them is waited for; one that is stopped leaves nothing behind.
    """
    if spec.train.warm_start is None:
        return None
    root = outputs / "warm_start"
    start = _towers(spec, corpus, root, say)
    if stage := text_stage(spec):
        stage_name = stage_folder(spec, stage)

        def text(folder: Path) -> None:
            _begin(spec, f"{stage_name} of {spec.train.design}", say)
            _fill_stage(folder, spec, corpus, start / VIT, say)

        stored_for_all(root, stage_name, text)
    return start


def _towers(spec: RunSpec, corpus: Corpus, root: Path, say: Callable[[str], object]) -> Path:
    """Returns the folder of BERT, DistilBERT and ViT; aligned ones start from the folder of those
    that are not.
    """
    assert spec.train.warm_start is not None
    name, aligns = key(spec), spec.train.warm_start.align_samples > 0

    def fill(folder: Path) -> None:
        apart = _towers(before_alignment(spec), corpus, root, say) if aligns else None
        _begin(spec, f"warm start {name}", say)
        if apart:
            _fill_aligned(folder, spec, corpus, apart, say)
        else:
            _fill(folder, spec, corpus, say)

    return stored_for_all(root, name, fill)


def _begin(spec: RunSpec, what: str, say: Callable[[str], object]) -> None:
    from harness.training.loop import numerics

    say(f"{what}: made once, then kept")
    numerics.prepare(spec.train.numerics)


def _fill(folder: Path, spec: RunSpec, corpus: Corpus, say: Callable[[str], object]) -> None:
    from harness.training.one_modality.pretraining import Pretraining

    models: dict[str, JsonValue] = {}
    course = Pretraining(spec.train, corpus)

    def keep(name: str, record: dict[str, JsonValue]) -> None:
        models[name] = record
        say(f"  {line(name, record)}")

    bert, record = course.bert()
    _save_text(bert, corpus, folder / BERT)
    keep("bert", record)
    half, record = course.distilbert(bert)
    _save_text(half, corpus, folder / DISTILBERT)
    keep("distilbert", record)
    vit, record = course.vit()
    _save_vit(vit.image, spec, folder / VIT)
    keep("vit", record)
    write_json(folder / LEDGER, {**_recipe(spec), "made": models})
    del course, bert, half, vit
    _leave_gpu(spec)


def _fill_aligned(
    folder: Path, spec: RunSpec, corpus: Corpus, apart: Path, say: Callable[[str], object]
) -> None:
    """Writes what the folder `apart` holds, with BERT and ViT aligned."""
    from harness.training.one_modality.pretraining import Pretraining

    course = Pretraining(spec.train, corpus)
    bert, vit, record = course.aligned(apart / BERT, apart / VIT)
    shutil.copytree(apart / DISTILBERT, folder / DISTILBERT)
    _save_text(bert, corpus, folder / BERT)
    _save_vit(vit, spec, folder / VIT)
    say(f"  {line(ALIGNED, record)}")
    models: dict[str, JsonValue] = {name: dict(model) for name, model in learnt(apart).items()}
    write_json(folder / LEDGER, {**_recipe(spec), "made": {**models, ALIGNED: record}})
    del course, bert, vit
    _leave_gpu(spec)


def _save_text(model: MaskedWords, corpus: Corpus, folder: Path) -> None:
    weights = {role: value.detach().cpu() for role, value in model.state_dict().items()}
    tokenizer = corpus.tokenizer.for_transformers()
    from_transformers.save_text(model.backbone.text, model.backbone, weights, tokenizer, folder)


def _save_vit(image: ImageTower, spec: RunSpec, file: Path) -> None:
    from safetensors.torch import save_file

    from architectures.weights.digests import seal
    from harness.training.data.transforms import pixels

    tensors = {name: value.cpu().contiguous() for name, value in image.vit.state_dict().items()}
    save_file(tensors, file)
    config = {"architecture": spec.backbone.vision, "model_args": image.sizes}
    taken = pixels(spec.asked.data, spec.train.backbone.image_channels)
    seal(file, tensors, {**config, "pretrained_cfg": taken})


def _fill_stage(
    folder: Path, spec: RunSpec, corpus: Corpus, vit: Path, say: Callable[[str], object]
) -> None:
    from architectures import exported
    from harness.training.data.transforms import pixels
    from harness.training.one_modality.pretraining import Pretraining

    stage = text_stage(spec)
    assert stage is not None
    model, record = Pretraining(spec.train, corpus).text_stage(stage, vit)
    exported.write(
        folder,
        model.cpu(),
        tokenizer=corpus.tokenizer.for_transformers(),
        pixels=pixels(spec.asked.data, spec.train.backbone.image_channels),
        about={"warm_start": key(spec), "trained": list(stage.trains)},
    )
    say(f"  {line(TEXT_STAGE, record)}")
    write_json(folder / LEDGER, {**_recipe(spec), "made": {TEXT_STAGE: record}})
    del model
    _leave_gpu(spec)


def _leave_gpu(spec: RunSpec) -> None:
    """Frees the GPU for the runs: the driver does not train."""
    import torch

    if spec.train.numerics.device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


STAGE_SAMPLES = "text_stage_samples"
"""Field of a recipe that BERT, DistilBERT and ViT do not depend on, nor their key."""


def _recipe(spec: RunSpec, without: Set[str] = frozenset()) -> dict[str, JsonValue]:
    """All that a folder depends on, for its ledger; `without`: fields of the recipe."""
    assert spec.train.warm_start is not None
    return {
        "version": versions.WARM_START,
        "warm_start": spec.train.warm_start.model_dump(mode="json", exclude=set(without)),
        "backbone": spec.backbone.model_dump(mode="json", exclude=OTHERS),
        "numerics": numerics_of(spec).model_dump(mode="json"),
        "data_content": spec.train.data,
    }


def applied(spec: RunSpec, start: Path | None) -> tuple[Backbone, dict[str, JsonValue]]:
    """Returns backbone and fields of a spec's design, starting from a folder of `made`."""
    if start is None:
        return spec.backbone, spec.config
    both = {"text_weights": str(start / BERT), "vision_weights": str(start / VIT)}
    own = registry.find(spec.train.design).weights_of
    fields: dict[str, JsonValue] = {field: str(start / kind) for field, kind in own.items()}
    if stage := text_stage(spec):
        whole = start.parent / stage_folder(spec, stage)
        fields |= {"whole_weights": str(whole), "whole_allow": [*stage.lacks]}
    return spec.backbone.model_copy(update=both), {**spec.config, **fields}


def refuse_copies(specs: Iterable[RunSpec]) -> None:
    """Raises `SettingError` where other libraries would compute something else with the weights."""
    if any(spec.backbone.parameterisation == "mup" for spec in specs):
        raise SettingError(
            "--to writes folders for transformers and timm, and weights under "
            "backbone.parameterisation mup are only right here: leave --to out, or take standard"
        )


def copied(folder: Path, to: Path) -> Path:
    """Copies a folder's files into a new or empty one, whole or not at all.

    Raises `SettingError` where the folder is not empty.
    """
    with new_folder(to) as part:
        skipped = shutil.ignore_patterns(MANIFEST)
        copy = shutil.copyfile  # with the modes of ordinary files
        shutil.copytree(folder, part, ignore=skipped, copy_function=copy, dirs_exist_ok=True)
    return to
