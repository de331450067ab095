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
    """The module of a task: VERSION, `why_not(facts, objectives)` for the plan, `refuse(facts,
    objectives, corpus, settings)` before a run trains, `score(design, corpus, settings, device)`,
    `record(scores)`.

    Raises `SettingError` with the nearest name.
    """
    if name not in names():
        raise nearest(name, names(), "task")
    return importlib.import_module(f"harness.training.tasks.{name}")
