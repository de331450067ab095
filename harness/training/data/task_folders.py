"""Folders that tasks name are known by their content, whatever lies there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from harness.training.data.group_files import folder_digest
from harness.training.data.items.listed import ItemTask, item_folder_digest
from harness.training.settings.tasks import Pairs, TaskSpec


def task_folder_digests(tasks: Sequence[TaskSpec]) -> dict[str, str]:
    """Returns each folder that a task names -> digest of what these tasks read there: lines and
    tables, and the pictures that they name, or pictures by class.

    A folder that is read in several ways has the digest of all. Raises DataError that names file,
    line and field of what cannot be used.
    """
    digests: dict[str, set[str]] = {}
    for task in tasks:
        if isinstance(task, Pairs):
            if task.groups:
                digests.setdefault(task.groups, set()).add(folder_digest(task.groups))
        elif isinstance(task, ItemTask) and task.source:
            digests.setdefault(task.source, set()).add(item_folder_digest(task))
    return {where: _joined(sorted(several)) for where, several in digests.items()}


def _joined(digests: Sequence[str]) -> str:
    first, *others = digests
    return hashlib.sha256("".join(digests).encode()).hexdigest() if others else first
