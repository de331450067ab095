"""Finds the task that a study names: the file of that name in this folder."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import harness.tasks
from architectures.frozen import nearest

_NOT_TASKS = {"registry"}


def names() -> list[str]:
    """Tasks that can be named."""
    found = (module.name for module in pkgutil.iter_modules(harness.tasks.__path__))
    return sorted(set(found) - _NOT_TASKS)


def find(name: str) -> ModuleType:
    """The module of a task: VERSION, `why_not(facts, objectives)` for the plan, `refuse(facts,
    objectives, corpus, settings)` before a run trains, `score(design, corpus, settings, device)`,
    `record(scores)`.

    Raises `SettingError` with the nearest name.
    """
    if name not in names():
        raise nearest(name, names(), "task")
    return importlib.import_module(f"harness.tasks.{name}")
