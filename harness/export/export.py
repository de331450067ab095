"""A finished run becomes a folder to give away: weights, configuration, tokenizer, towers, model
card.

Everything is rebuilt from the run folder; nothing is trained or scored.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
from pathlib import Path

from safetensors import SafetensorError

from architectures import build, exported, registry
from architectures.contract import FusionDesign
from architectures.downstream.model import TaskModel
from architectures.downstream.record import TaskRecord
from architectures.frozen import SettingError, checked, path_named
from architectures.weights import remarks
from architectures.weights.weight_files import content
from harness.export.learnt import Learnt, all_learnt, learnt, task_model
from harness.export.model_card import About, Answers, CardFacts, card
from harness.outputs.code import code_digest
from harness.outputs.files import new_folder, read_json
from harness.outputs.find import find_run
from harness.outputs.folder import LoopFolder, RunFolder, studies
from harness.outputs.records import Certificate
from harness.runs.assemble import load_data
from harness.runs.kept import read_weights
from harness.training.data.corpus import Corpus
from harness.training.data.transforms import pixels
from harness.training.settings.spec import RunSpec
from harness.warm_start import keys

LIBRARIES = ("fuselab", "torch", "timm", "transformers")
SPDX = r"[A-Za-z0-9][A-Za-z0-9.+-]*"
"""What an identifier of a licence looks like."""


def export(
    outputs: Path, name: str, folder: Path, license_: str = "", title: str = ""
) -> dict[str, str]:
    """Writes a finished run into a new or empty folder, whole or not at all. Returns the towers
    that were not written -> why.

    `name`: see `find_run`. `license_`: SPDX identifier for the model card; empty: none is stated.
    `title`: of a task that the run has learnt, whose model is written; empty: the trained design.
    Raises `SettingError` where it is no identifier, where the run is not finished, has not learnt
    the task or cannot be rebuilt, and where the folder is not empty.
    """
    if license_ and not re.fullmatch(SPDX, license_):
        raise SettingError(
            f"licence {license_!r} is no SPDX identifier: write it as one of spdx.org/licenses, "
            "for example apache-2.0"
        )
    run = find_run(outputs, name)
    spec = finished(run)
    task = learnt(run, spec, title) if title else None
    with new_folder(folder) as part:
        corpus = same_data(run, spec, outputs)
        design = trained_design(run, spec, corpus)
        model, record = _taught(design, spec, corpus, task) if task else (design, None)
        about = _about(outputs, run, spec, corpus, title)
        longest = design.longest_text if record else corpus.tokenizer.length
        try:
            absent = exported.write(
                part,
                model,
                tokenizer=corpus.tokenizer.with_length(longest).for_transformers(),
                pixels=pixels(
                    task.settings if task and record else spec.asked.data,
                    spec.train.backbone.image_channels,
                ),
                about=about,
                task=record,
            )
        except SafetensorError as error:
            raise OSError(f"{folder} cannot be written: {error}") from error
        own = _own_file(spec)
        if own:
            shutil.copyfile(own, part / exported.DESIGN_FILE)
        facts = CardFacts(
            run=run,
            spec=spec,
            corpus=corpus,
            longest=longest,
            about=about,
            absent=absent,
            own_file=bool(own),
            license_=license_,
            task=task,
            record=record,
        )
        (part / "README.md").write_text(card(facts))
        _readable(part)
    return absent


def finished(run: RunFolder) -> RunSpec:
    """Returns the description of a run that has its final weights. Raises `SettingError`."""
    status = run.status()
    if status.state != "done":
        why = f" ({status.message})" if status.message else ""
        raise SettingError(
            f"run {run.key} is {status.state}{why}; only finished runs are exported or "
            "looked at: `fuselab run` its study first"
        )
    if not run.weights.exists():
        raise SettingError(
            f"run {run.key} has no weights.pt any more (`fuselab clean --weights` takes them "
            "away); delete its folder and run its study again"
        )
    return _spec_of(run)


def same_data(run: RunFolder, spec: RunSpec, outputs: Path) -> Corpus:
    """Opens the data of a run. Raises `SettingError` where they are not what it was trained on."""
    corpus = load_data(spec, outputs)
    if corpus.content != Certificate.read(run.certificate).data:
        raise SettingError(
            f"run {run.key}: its data have changed since it was trained, so its tokenizer "
            "cannot be made again; bring the old data back"
        )
    return corpus


def _spec_of(run: RunFolder) -> RunSpec:
    """The description of a run. Raises `SettingError` where it cannot be read."""
    try:
        content = read_json(run.spec)
    except ValueError as error:
        raise SettingError(
            f"{run.spec} is damaged ({error}); delete the run's folder to train it again"
        ) from error
    if "train" not in content:
        raise SettingError(
            f"{run.spec} was written by an earlier fuselab: export it with that one, or run its "
            "study again"
        )
    return checked(RunSpec, content)


def trained_design(run: RunFolder, spec: RunSpec, corpus: Corpus) -> FusionDesign:
    """Builds the design with its final weights; what it started from is not needed for that."""
    if spec.asked.design_file:
        registry.load_file(Path(spec.asked.design_file))
    name = spec.train.design
    here, then = registry.version(name), spec.train.versions["design"]
    if here != then:
        raise SettingError(
            f"run {run.key} was trained by {name} of version {then}, here it is version "
            f"{here}; export it with the fuselab that trained it"
        )
    config = exported.standing_alone(registry.config(spec.train.design, spec.config))
    design = build.construct(
        spec.train.design,
        dict(config),
        exported.standing_alone(spec.backbone),
        corpus.tokenizer.vocabulary,
        spec.train.objectives.active(),
    )
    _fill(design, run, "the run's folder")
    return design


def _taught(
    design: FusionDesign, spec: RunSpec, corpus: Corpus, task: Learnt
) -> tuple[FusionDesign | TaskModel, TaskRecord | None]:
    """The model of a task with what it learnt, and its record."""
    model, record = task_model(design, spec, corpus, task.settings)
    _fill(model, task.folder, str(task.folder.path))
    return model, record


def _fill(model: FusionDesign | TaskModel, folder: LoopFolder, remedy: str) -> None:
    try:
        model.load_state_dict(read_weights(folder))
    except (ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise SettingError(
            f"{folder.weights} cannot be used ({first}); delete {remedy} and run its study again"
        ) from error


def _own_file(spec: RunSpec) -> Path | None:
    """The user's file that defines the design; None where it only holds the study."""
    file = registry.entry(spec.train.design).file
    return (
        file if spec.asked.design_file and file == Path(spec.asked.design_file).resolve() else None
    )


def _about(outputs: Path, run: RunFolder, spec: RunSpec, corpus: Corpus, title: str) -> About:
    """Where the weights come from, for the configuration."""
    certificate = Certificate.read(run.certificate)
    lines = run.covered_lines()
    chain = (
        lines[-1].chain
        if lines and lines[-1].chain
        else certificate.batches[max(certificate.batches)]
    )
    answers: list[Answers] = [
        {"study": name, "cell": row.cell, "seed": row.seed}
        for name, study in studies(outputs).items()
        for row in study.rows
        if row.run == run.key
    ]
    return {
        "run": run.key,
        "seed": spec.train.seed,
        "answers": answers,
        "versions": spec.train.versions | {n: importlib.metadata.version(n) for n in LIBRARIES},
        "digests": {
            "batches": chain,
            "data": certificate.data,
            "code": "+".join(certificate.code),
            "code_of_export": code_digest(spec.asked.design_file),
        },
        "started_from": _started_from(spec),
        "pixels_folded": _pixels_folded(spec),
        "caption_tokens": corpus.tokenizer.length,
        "finetuned_for": title,
        "learnt": {name: its.settings.name for name, its in all_learnt(run, spec).items()},
    }


def _started_from(spec: RunSpec) -> dict[str, str]:
    """Lists the settings that named pretrained weights; of a folder only its name, a path is
    nobody's.
    """
    named = {f"backbone.{k}": v for k, v in dict(spec.backbone).items()} | spec.config
    warm = {"warm_start": keys.key(spec)} if spec.train.warm_start else {}
    if stage := keys.text_stage(spec):
        warm["text_stage"] = keys.stage_folder(spec, stage)
    return warm | {
        setting: Path(value).name if path_named(value).exists() else value
        for setting, value in named.items()
        if setting.endswith("_weights") and value != "random"
    }


def _pixels_folded(spec: RunSpec) -> dict[str, str]:
    """Says, by setting, what pixels the sources of image towers were fed; nothing where they are
    not there as they were when the run began.
    """
    if any(content(source) != digest for digest, source in spec.asked.sources.items()):
        return {}
    try:
        return remarks.pixels_read(spec.backbone, spec.config)
    except SettingError:  # a hub that cannot be reached
        return {}


def _readable(folder: Path) -> None:
    """Gives every file the mode of an ordinary one; safetensors keeps its files to their owner."""
    mode = (folder / "README.md").stat().st_mode
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)
