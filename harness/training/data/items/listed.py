"""The files of a task's folder are read here, split by split, before any picture is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from architectures.frozen import path_named
from harness.training.data.at_urls import local
from harness.training.data.cache import DataError
from harness.training.data.files import sha256
from harness.training.data.folder_pictures import missing
from harness.training.data.items.image_folders import classes_of, read_classes
from harness.training.data.items.lines import named_images, read_lines
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
    folder = path_named(local(task.source))
    if not folder.is_dir():
        raise DataError(f"{task.name}: source={task.source} is not a folder")
    return {split: _read(task, folder, path) for split, path in _paths(task, folder).items()}


def _every_path(task: ItemTask, folder: Path) -> dict[str, Path]:
    """Names the file, or the folder of classes, of each split, whether it is there or not."""
    ending = {"sentences": ".tsv", "image_probe": ""}.get(task.name, ".jsonl")
    names = {"train": "train", "val": "dev" if task.name == "sentences" else "val", "test": "test"}
    return {split: folder / f"{name}{ending}" for split, name in names.items()}


def _paths(task: ItemTask, folder: Path) -> dict[str, Path]:
    """Names those that are read."""
    every = _every_path(task, folder)
    learnt = task.learning is not None
    needed = ["train", task.split] if learnt or isinstance(task, ImageProbe) else [task.split]
    if learnt:  # whatever is scored, so that one fine-tuning serves both splits
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
    """Digests the folder of a task: the content of its files and of the pictures that they name, or
    paths and content of the pictures of each class. A split that is not scored counts too, so that
    a task that differs in the split alone finds what it had learnt. Raises as `listed_of` does.
    """
    listed_of(task)
    folder = path_named(local(task.source))
    content = hashlib.sha256()
    for split, path in _every_path(task, folder).items():
        if not path.exists():
            continue
        content.update(split.encode() + b"\0")
        if path.is_file():
            content.update(sha256(path))
        for image in _images(path, folder):
            content.update(image.encode() + b"\0" + sha256(folder / image))
    return content.hexdigest()


def _images(path: Path, folder: Path) -> list[str]:
    """Lists the pictures that a file or folder of classes names, each once, as far as they are
    there: what is wrong with a split that is read has been said."""
    if path.is_dir():
        named: Iterable[str] = (
            file.relative_to(folder).as_posix() for its in classes_of(path).values() for file in its
        )
    else:
        named = named_images(path) if path.suffix == ".jsonl" else ()
    return [image for image in dict.fromkeys(named) if not missing(image, folder)]
