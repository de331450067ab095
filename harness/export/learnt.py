"""Finds what a run has learnt by fine-tuning, and rebuilds the model of one of its tasks."""

from __future__ import annotations

from dataclasses import dataclass

from architectures.contract import FusionDesign
from architectures.downstream.model import TaskModel
from architectures.downstream.record import TaskRecord
from architectures.frozen import SettingError
from harness.outputs.folder import LoopFolder, RunFolder
from harness.runs.scoring import refuse_changed
from harness.training.data.corpus import Corpus
from harness.training.scoring import registry as tasks
from harness.training.settings.spec import RunSpec
from harness.training.settings.tasks import TaskSpec


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """A task that a run has learnt."""

    settings: TaskSpec
    key: str
    """Of its fine-tuning."""
    folder: LoopFolder


def all_learnt(run: RunFolder, spec: RunSpec) -> dict[str, Learnt]:
    """Returns every task that the run has learnt, by its title."""
    keys = {
        task.title: (task, spec.finetune_key(task)) for task in spec.asked.tasks if task.learning
    }
    every = {
        title: Learnt(settings=task, key=key, folder=run.finetuning(key))
        for title, (task, key) in keys.items()
    }
    return {title: its for title, its in every.items() if its.folder.weights.exists()}


def learnt(run: RunFolder, spec: RunSpec, title: str) -> Learnt:
    """Returns the task of a title. Raises `SettingError` that lists the titles that there are."""
    every = all_learnt(run, spec)
    if title in every:
        return every[title]
    listed = f"it has learnt {', '.join(every)}" if every else "it has learnt no task"
    asked = {task.title: task.learning is not None for task in spec.asked.tasks}
    why = {
        None: "it is not asked for it: add the task to its study and run that again",
        True: "it is asked for it, and its fine-tuning is not finished: `fuselab run` its study",
        False: "that task is scored without fine-tuning: leave --task out",
    }[asked.get(title)]
    raise SettingError(f"run {run.key} has not learnt the task {title!r}; {listed} ({why})")


def task_model(
    design: FusionDesign, spec: RunSpec, corpus: Corpus, task: TaskSpec
) -> tuple[FusionDesign | TaskModel, TaskRecord | None]:
    """Builds what is fine-tuned for a task around a design, still without what it learnt, and its
    record; the design alone and None where the task adds nothing to it, as retrieval.

    Raises `SettingError` where the folder of the task has changed, for the labels stand there.
    """
    module = tasks.find(task.name)
    if not hasattr(module, "record"):
        return design, None
    refuse_changed(spec, task)
    record: TaskRecord = module.record(corpus, task)
    return record.model(design), record
