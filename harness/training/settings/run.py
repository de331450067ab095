"""What a study sets for its runs, and what each of its cells may change."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from architectures.backbone import SCALES, Backbone, scale
from architectures.frozen import Frozen
from harness.training.settings.data import Data, Scenes
from harness.training.settings.loop import Budget, Final, Freeze, Measure, Numerics, Optimizer
from harness.training.settings.objectives import Objectives
from harness.training.settings.tasks import KINDS, Retrieval, TaskSpec
from harness.training.settings.warm_start import WarmStart


class TrainSettings(Frozen):
    """What shapes trained weights besides the design, the data and the seed."""

    backbone: Backbone = SCALES["nano"]
    """What all designs share."""
    warm_start: WarmStart | None = None
    """Weights that all designs start from, made of the training data; null: random ones, or those
    that the backbone names."""
    objectives: Objectives = Objectives()
    """Pre-training losses."""
    optimizer: Optimizer = Optimizer()
    """AdamW's settings."""
    freeze: Freeze = Freeze()
    """Towers that do not learn, for the whole run or a part of it."""
    budget: Budget = Budget(samples=16_000)
    """The binding unit."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Pairs a step."""
    numerics: Numerics = Numerics()
    """Threads, dtype and device of every run."""
    measure: Measure = Measure()
    """Validation curves."""
    final: Final = Final()
    """Which weights are scored and exported."""

    @field_validator("backbone", mode="before")
    @classmethod
    def _scale_by_name(cls, value: object) -> object:
        return scale(value) if isinstance(value, str) else value


class RunSettings(TrainSettings):
    """All that a study sets for its runs, and that a cell may change by a dotted path."""

    data: Data = Scenes()
    """Where pictures and captions come from."""
    tasks: tuple[TaskSpec, ...] = (Retrieval(),)
    """Downstream evaluations."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _of_known_kinds(cls, tasks: object) -> object:
        names = ", ".join(kind.__name__ for kind in KINDS)
        for task in tasks if isinstance(tasks, list | tuple) else ():
            if isinstance(task, Frozen) and not isinstance(task, KINDS):
                raise ValueError(
                    f"{type(task).__name__} is none of the tasks that a study can have: {names}; "
                    "a task of your own joins TaskSpec in harness/training/settings/tasks.py"
                )
        return (tasks,) if isinstance(tasks, KINDS) else tasks
