"""The files of a task's folder are read here, split by split, before any picture is opened."""

from __future__ import annotations

import hashlib
from pathlib import Path

from architectures.frozen import path_named
from harness.training.data.cache import DataError
from harness.training.data.files import sha256
from harness.training.data.items.image_folders import read_classes
from harness.training.data.items.lines import read_lines
from harness.training.data.items.rows import Listed
from harness.training.data.items.tables import read_table
from harness.training.settings.tasks import (
    NLVR2,
    VQA,
    Entailment,
    Grounding,
    ImageProbe,
    Sentences,
)

ItemTask = Entailment | VQA | NLVR2 | Grounding | ImageProbe | Sentences
"""Settings of the tasks that have items."""


def listed_of(task: ItemTask) -> dict[str, Listed]:
    """Reads what the task needs of its folder: split -> its items. `val` is not there where it is
    to be held out of `train`.

    Raises DataError that names file, line and field of what cannot be used, and says which file the
    folder lacks.
    """
    folder = path_named(task.source)
    if not folder.is_dir():
        raise DataError(f"{task.name}: source={task.source} is not a folder")
    return {split: _read(task, folder, path) for split, path in _paths(task, folder).items()}


def _paths(task: ItemTask, folder: Path) -> dict[str, Path]:
    """Names the file, or the folder of classes, of each split that is read."""
    ending = {"sentences": ".tsv", "image_probe": ""}.get(task.name, ".jsonl")
    names = {"train": "train", "val": "dev" if task.name == "sentences" else "val", "test": "test"}
    every = {split: folder / f"{name}{ending}" for split, name in names.items()}
    needed = [task.split] if isinstance(task, Grounding) else ["train", task.split]
    learnt = not isinstance(task, Grounding | ImageProbe)
    if learnt:
        needed = list(dict.fromkeys(name for name in needed if name != "val"))
    for split in needed:
        if not every[split].exists():
            other = "val" if split == "test" else "test"
            there = learnt or every[other].exists()
            hint = f"; set the task's split to {other!r}" if split == task.split and there else ""
            raise DataError(f"{task.name}: {every[split]} does not exist{hint}")
    optional = ["val"] if learnt and every["val"].exists() else []
    return {split: every[split] for split in every if split in {*needed, *optional}}


def _read(task: ItemTask, folder: Path, path: Path) -> Listed:
    if isinstance(task, Sentences):
        return read_table(path, task.text, task.column)
    if isinstance(task, ImageProbe):
        return read_classes(path, folder)
    return read_lines(path, folder, task.name)


def item_folder_digest(task: ItemTask) -> str:
    """Digests what the task reads of its folder: the content of its files and of the pictures that
    they name, or paths and content of the pictures of each class. Raises as `listed_of` does.
    """
    folder = path_named(task.source)
    content = hashlib.sha256()
    for split, listed in listed_of(task).items():
        content.update(split.encode() + b"\0")
        if listed.path.is_file():
            content.update(sha256(listed.path))
        for image in dict.fromkeys(image for row in listed.rows for image in row.images):
            content.update(image.encode() + b"\0" + sha256(folder / image))
    return content.hexdigest()
