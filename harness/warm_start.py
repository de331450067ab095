"""What stands in for pretrained weights where none can be downloaded: made of a study's own
training data, once, before its first run, and the start of every design alike.

outputs/warm_start/<key>/
  bert/               BertForMaskedLM as transformers keeps it, with the tokenizer
  distilbert/         DistilBertForMaskedLM: every other layer of it, distilled
  vit.safetensors     the ViT by timm's names, without what it learnt by
  ledger.json         the recipe, what each cost and what it learnt

The key depends on the recipe, the data's content, the backbone's sizes and the numerics, never on a
path. The train key of a run holds the same, so a run is known by what it started from.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from architectures import encoders, registry
from architectures.backbone import Backbone
from architectures.frozen import SettingError
from harness.data.cache import MANIFEST, stored
from harness.data.corpus import Corpus
from harness.folder import new_folder, read_json, write_json
from harness.study import RunSpec, digest

if TYPE_CHECKING:
    from harness.plan import Plan

VERSION = "1"
"""Raised when the same recipe gives other weights."""
BERT, DISTILBERT, VIT = "bert", "distilbert", "vit.safetensors"
LEDGER = "ledger.json"
NAMES = {"bert": "BERT", "distilbert": "DistilBERT", "vit": "ViT"}
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


def key(spec: RunSpec) -> str:
    """Hex digest (16 characters) of all that the weights of a spec's warm start depend on."""
    assert spec.warm_start is not None
    return digest(
        [
            VERSION,
            spec.warm_start.model_dump(mode="json"),
            spec.data_content,
            spec.backbone.model_dump(mode="json", exclude=_OTHERS),
            spec.numerics.model_dump(mode="json"),
        ]
    )


def made(
    spec: RunSpec, corpus: Corpus, outputs: Path, say: Callable[[str], object] = str
) -> Path | None:
    """The folder that a spec's towers start from, made first where it is not there; None where they
    start from random weights. Another process that makes it is waited for; one that is stopped
    leaves nothing behind.
    """
    if spec.warm_start is None:
        return None

    def build(folder: Path) -> None:
        from harness import numerics

        say(f"warm start {key(spec)}: made once, then kept")
        numerics.prepare(spec.numerics)
        _fill(folder, spec, corpus, say)

    return stored(outputs / "warm_start", key(spec), build)


def _fill(folder: Path, spec: RunSpec, corpus: Corpus, say: Callable[[str], object]) -> None:
    import torch
    from safetensors.torch import save_file

    from harness.pretraining import Pretraining

    told: dict[str, Any] = {}
    course = Pretraining(spec, corpus)

    def keep(name: str, found: dict[str, Any]) -> None:
        told[name] = found
        say(f"  {line(name, found)}")

    def save(model: Any, name: str) -> None:
        weights = {role: value.detach().cpu() for role, value in model.state_dict().items()}
        words = corpus.tokenizer.for_transformers()
        encoders.save_text(model.backbone.text, model.backbone, weights, words, folder / name)

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
    if spec.numerics.device == "cuda":  # the driver does not train: leave the GPU to the runs
        del course, bert, half, vit, state
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
    fields = {field: str(start / kind) for field, kind in own.items()}
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
    folders = {}
    for cell, spec in cells.items():
        try:
            folder = folders[key(spec)] = made(spec, corpora[cell], outputs, say)
            backbone, config = applied(spec, folder)
            with torch.device("meta"):  # says at once what would not fit
                words = corpora[cell].tokenizer.vocabulary
                registry.construct(spec.design, config, backbone, words)
        except SettingError as error:
            raise SettingError(f"cell {cell!r}: {error}") from None
    return [folder for folder in folders.values() if folder]


def notes(planned: Plan, corpora: Mapping[str, Corpus], outputs: Path) -> list[str]:
    """What the runs of a plan start from and what that cost, or will cost."""
    cells = {row.cell: row.spec for row in planned.rows if row.spec.warm_start}
    by_key: dict[str, list[str]] = {}
    for cell, spec in cells.items():
        by_key.setdefault(key(spec), []).append(cell)
    said = []
    for name, own in by_key.items():
        ledger = read_json(outputs / "warm_start" / name / LEDGER)
        told = ledger["made"] if ledger else expected(cells[own[0]], corpora[own[0]])
        who = "all designs" if len(own) == len(planned.study.cells) else ", ".join(own)
        when = "made before the runs" if ledger else "to be made before the first run"
        parts = "; ".join(line(part, known) for part, known in told.items())
        said.append(f"{who} start from weights trained on the training data, {when}: {parts}")
    return said


def expected(spec: RunSpec, corpus: Corpus) -> dict[str, dict[str, Any]]:
    """What each of the three will cost, before any is made."""
    import torch

    from architectures.one_modality import MaskedWords
    from harness.pretraining import Course, Distilled, Pretraining, Words, flops_of

    course = Pretraining(spec, corpus)
    batch, recipe = course.batches.at(0), course.recipe
    with torch.device("meta"):
        bert = MaskedWords(spec.backbone, corpus.tokenizer.vocabulary)
        asked: dict[str, tuple[Course, int]] = {
            "bert": (Words(bert), recipe.bert_samples),
            "distilbert": (Distilled(bert), recipe.distil_samples),
            "vit": (course.vit_course(), recipe.vit_samples),
        }
    return {
        name: {
            "steps": course.steps(samples),
            "samples": course.steps(samples) * recipe.batch_size,
            "flops": flops_of(what, batch) * course.steps(samples),
        }
        for name, (what, samples) in asked.items()
    }


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
