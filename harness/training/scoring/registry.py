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
    """Returns the module of a task. It has `VERSION`; `why_not(facts, objectives)`, which the plan
    calls; `refuse(facts, objectives, corpus, settings)`, which raises while a study is prepared and
    before a run trains; `score(design, corpus, settings, device)`, which returns `TaskScores`; and
    `names(settings, data)` of the scores that some design gets on such data.

    Raises `SettingError` with the nearest name where there is no such task.
    """
    if name not in names():
        raise nearest(name, names(), "task")
    return importlib.import_module(f"harness.training.tasks.{name}")
