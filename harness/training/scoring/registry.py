"""Finds the task that a study names: the file of that name in `harness/training/tasks/`."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from architectures.frozen import nearest

TASKS = Path(__file__).parents[1] / "tasks"


def names() -> list[str]:
    """Returns the names of all tasks, sorted."""
    return sorted(file.stem for file in TASKS.glob("*.py") if file.stem != "__init__")


def find(name: str) -> ModuleType:
    """Returns the module of a task. It has

    - `VERSION`, raised when the same weights score differently than before;
    - `why_not(facts, objectives, settings)`, which the plan calls;
    - `refuse(facts, objectives, corpus, settings)`, which raises while a study is prepared and
      before a run trains;
    - `names(settings, data)` of the scores that some design gets on such data;
    - `loop(design, corpus, settings, train)`, where a design learns the task first: a `Loop` whose
      `final()` is scored in the design's place;
    - `record(corpus, settings)`, where that is more than a design: the `TaskRecord` of the model;
    - `score(design, corpus, settings, device)`, which returns `TaskScores`.

    Raises `SettingError` with the nearest name where there is no such task.
    """
    if name not in names():
        raise nearest(name, names(), "task")
    return importlib.import_module(f"harness.training.tasks.{name}")
