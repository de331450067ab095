"""Scores a trained run: the last validation, and the downstream tasks it is asked for."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from architectures.contract import Facts, FusionDesign
from architectures.frozen import SettingError, place_of
from harness.outputs.files import Locked, atomic_file, outside, write_text
from harness.outputs.folder import RunFolder
from harness.outputs.records import DamagedFile, ScoresRecord
from harness.runs.finetuning import finetuned
from harness.runs.kept import read_weights
from harness.runs.missing import missing_scores
from harness.training.data.corpus import Corpus
from harness.training.data.task_folders import task_folder_digests
from harness.training.loop.trainer import Trainer
from harness.training.scoring import registry as tasks
from harness.training.scoring.chance import majority_level
from harness.training.scoring.contract import Level, Score
from harness.training.settings.spec import RunSpec
from harness.training.settings.tasks import VALIDATION, TaskSpec

LONGEST_FAILURE = 500


def refuse_scores(folder: RunFolder, spec: RunSpec, design: FusionDesign, corpus: Corpus) -> None:
    """Raises `SettingError` where a missing score could not be made, before anything trains."""
    facts = design.facts(design.config, design.backbone)
    for task in missing_scores(folder, spec):
        _refuse(facts, spec, corpus, task)


def _refuse(facts: Facts, spec: RunSpec, corpus: Corpus, task: TaskSpec) -> None:
    refuse_changed(spec, task)
    tasks.find(task.name).refuse(facts, spec.train.objectives, corpus, task)


def refuse_changed(spec: RunSpec, task: TaskSpec) -> None:
    """Raises `SettingError` where the folder of a task is no longer what it was in the plan."""
    named = _folders(task)
    readers = [other for other in spec.asked.tasks if named & _folders(other)]
    for where, digest in task_folder_digests(readers).items():
        if where in named and digest != spec.asked.task_sources.get(where):
            raise SettingError(f"the folder {where} has changed since the run was planned")


def _folders(task: TaskSpec) -> set[str]:
    return {getattr(task, field) for field in task.paths} - {""}


def score(
    folder: RunFolder,
    spec: RunSpec,
    design: FusionDesign,
    corpus: Corpus,
    *,
    load: bool,
    should_stop: Callable[[], bool] = bool,
) -> bool:
    """Makes every score that is missing, and writes it with its predictions. One that fails is
    written as failed, with the reason; the others go on. Returns False where fine-tuning was
    stopped on request.

    `load`: whether the design gets its final weights first.
    """
    wanted = missing_scores(folder, spec)
    device = torch.device(spec.train.numerics.device)
    try:
        if load:
            design.load_state_dict(read_weights(folder))
    except (OSError, ValueError, RuntimeError, DamagedFile) as error:
        for settings in wanted:
            _failed(folder, spec, settings, error)
        return True
    design.to(device).eval()
    facts = design.facts(design.config, design.backbone)
    for settings in wanted:
        task = tasks.find(settings.name)
        try:
            _refuse(facts, spec, corpus, settings)
            model: nn.Module | None = design
            if settings.learning:
                model = finetuned(folder, spec, design, corpus, settings, should_stop)
            if model is None:
                return False
            result = task.score(model, corpus, settings, device)
        except Exception as error:
            if outside(error) or isinstance(error, Locked):
                raise  # the score did not fail: it is made when there is room
            write_text(folder.path / "traceback.txt", traceback.format_exc())
            _failed(folder, spec, settings, error)
            continue
        folder.scores.mkdir(exist_ok=True)
        predictions = folder.score_file(settings.title).with_suffix(".npz")
        with atomic_file(predictions, durable=True) as part, part.open("wb") as file:
            np.savez_compressed(file, **result.predictions)
        ScoresRecord(
            task=settings.title,
            score_key=spec.score_key(settings),
            protocol=result.protocol,
            scores=result.scores,
            levels=result.levels,
            seconds=result.seconds,
            finetuning=spec.finetune_key(settings) if settings.learning else "",
        ).write(folder.score_file(settings.title))
    return True


def _failed(folder: RunFolder, spec: RunSpec, settings: TaskSpec, error: Exception) -> None:
    ScoresRecord(
        task=settings.title,
        score_key=spec.score_key(settings),
        failure=_reason(error, tasks.find(settings.name).__file__)[:LONGEST_FAILURE],
    ).write(folder.score_file(settings.title))


def _reason(error: Exception, file: str | None) -> str:
    """Tells what an error says, and where in the task's file it was raised."""
    if isinstance(error, SettingError) or not file:
        return str(error)
    place = place_of(error, Path(file))
    where = "" if place == file else f" in {place}"
    return f"{type(error).__name__}{where}: {error}"


def write_validation(folder: RunFolder, trainer: Trainer) -> None:
    """Writes the last validation, of the final weights: accuracies in percent, losses in nats, and,
    by items, what the most frequent answer would earn. A study may name one as its primary score,
    for instance `validation/mlm_accuracy`.
    """
    terms = trainer.validated or trainer.validate(trainer.final())
    labels = torch.cat([batch.mask_labels_BR.flatten() for batch in trainer.validation])
    chances = {"mlm": majority_level(labels[labels != -100].tolist())}
    if "lm" in terms:
        said = [batch.ids_BL[:, 1:][batch.text_is_real_BL[:, 1:]] for batch in trainer.validation]
        chances["lm"] = majority_level(torch.cat(said).tolist())
    if "itm" in terms:  # rows without a negative are left out, so it need not be two thirds
        pairs = sum(len(batch) for batch in trainer.validation)
        rows = int(terms["itm"].items)
        chances["itm"] = max(pairs, rows - pairs) / rows
    scores, levels = [], []
    for name, term in terms.items():
        last = term.values(name)
        loss, accuracy = last[f"{name}_loss"], 100 * last[f"{name}_accuracy"]
        scores.append(_of_validation(f"{name}_loss", loss, "nats"))
        scores.append(_of_validation(f"{name}_accuracy", accuracy, "percent"))
        if name in chances:
            levels.append(
                Level(
                    name=f"{name}_accuracy",
                    successes=int(term.correct),
                    items=int(term.items),
                    chance=chances[name],
                )
            )
    ScoresRecord(task=VALIDATION, scores=tuple(scores), levels=tuple(levels)).write(
        folder.score_file(VALIDATION)
    )


def _of_validation(name: str, value: float, unit: str) -> Score:
    return Score(
        name=name,
        value=value,
        unit=unit,
        higher_is_better=unit == "percent",
        protocol="the last validation",
    )
