"""RunSpec: one run, described whole, and the keys that its folder and its scores are known by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from pydantic import JsonValue

from architectures.backbone import Backbone
from architectures.frozen import Frozen
from harness.training.settings import versions
from harness.training.settings.data import Data
from harness.training.settings.run import TrainSettings
from harness.training.settings.tasks import TaskSpec


class TrainSpec(TrainSettings):
    """All that shapes the trained weights of one run, and nothing else: its digest names the run.

    No path stands here: files are known by the digest of their content, so the same run has the
    same key on every machine.
    """

    design: str
    """Name in the registry."""
    config: dict[str, JsonValue] = {}
    """Fields of the design's config that differ from its defaults, which the design's declared
    version stands for."""
    data: str
    """Digest of what training and its curves read of the data (`data.corpus.training_key`)."""
    seed: int
    """Of data order, captions, masks, initial weights and dropout."""
    versions: dict[str, str] = {}
    """Declared versions: the design's under `design`, and those of `settings.versions`."""

    def key(self) -> str:
        """The train key: sixteen hexadecimal characters over this record and the rule of keys."""
        return digest([versions.KEYS, self.changed_fields()])


class Asked(Frozen):
    """What is asked of a run besides its training: a change here trains nothing again."""

    data: Data
    """The data as the study names them, with paths on this machine."""
    content: str = ""
    """Digest of the settings and content of all splits (`data.corpus.content_key`)."""
    tasks: tuple[TaskSpec, ...] = ()
    """Scores to be made of the trained design."""
    task_versions: dict[str, str] = {}
    """Name of a task -> its declared version."""
    task_sources: dict[str, str] = {}
    """Folder that a task names -> digest of what lies there."""
    sources: dict[str, str] = {}
    """Digest of a weights file or folder, as `TrainSpec` names it -> where it lies here."""
    not_applicable: dict[str, str] = {}
    """Objective or task that the study asks for -> why this design cannot serve it."""
    design_file: str = ""
    """The user's own file that defines the design, or another one of its study: all runs of a study
    are trained by the same code."""


class RunSpec(Frozen):
    """One run, described whole."""

    train: TrainSpec
    """What its weights depend on."""
    asked: Asked
    """What it is asked."""

    def train_key(self) -> str:
        """Name of the run and of its folder."""
        return self.train.key()

    def score_key(self, task: TaskSpec) -> str:
        """Digest of the trained weights, the data of all splits, a task's settings and version, and
        of the fine-tuning that it scores."""
        version = self.asked.task_versions.get(task.name, "")
        settings = {k: v for k, v in self._of_task(task).items() if k != "label"}
        learnt = [self.finetune_key(task)] if task.learning else []
        return digest([self.train_key(), self.asked.content, settings, version, *learnt])

    def finetune_key(self, task: TaskSpec) -> str:
        """Digest of all that a task's fine-tuning depends on: tasks that differ only in what they
        score have one."""
        version = [self.asked.task_versions.get(task.name, ""), versions.FINETUNE]
        settings = {k: v for k, v in self._of_task(task).items() if k not in task.asked}
        return digest([self.train_key(), self.asked.content, settings, version])

    def _of_task(self, task: TaskSpec) -> dict[str, JsonValue]:
        """Returns a task's changed settings, every folder as the digest of what lies there."""
        settings = task.changed_fields()
        for field in settings.keys() & set(task.paths):
            settings[field] = self.asked.task_sources.get(settings[field], settings[field])
        return settings

    @property
    def backbone(self) -> Backbone:
        """The backbone with the paths of its weights on this machine."""
        return self.train.backbone.model_copy(update=self._paths(dict(self.train.backbone)))

    @property
    def config(self) -> dict[str, JsonValue]:
        """Changed fields of the design's config, with the paths of weights on this machine."""
        return {**self.train.config, **self._paths(self.train.config)}

    def _paths(self, fields: Mapping[str, object]) -> dict[str, str]:
        sources = self.asked.sources
        return {f: sources[v] for f, v in weights_named(fields).items() if v in sources}


def weights_named(fields: Mapping[str, object]) -> dict[str, str]:
    """Fields that name weights, and what they name."""
    return {f: v for f, v in fields.items() if f.endswith("_weights") and isinstance(v, str)}


def digest(value: object) -> str:
    """Sixteen hex characters of the SHA-256 of the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
