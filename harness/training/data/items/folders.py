"""Items of a folder: its files are read and checked as a whole, its pictures decoded once.

Letters: N items, I pictures of an item.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from architectures.frozen import path_named
from harness.training.data.at_urls import local
from harness.training.data.cache import DataError
from harness.training.data.decoding import Square
from harness.training.data.holding_out import hold_out
from harness.training.data.items.answers import answer_list, targets_of
from harness.training.data.items.boxes import outside, share_of_square
from harness.training.data.items.items import Items, ItemSets, item_sets_of, no_items
from harness.training.data.items.kept_pictures import KeptPictures, kept_pictures
from harness.training.data.items.listed import ItemTask, listed_of
from harness.training.data.items.rows import Listed
from harness.training.data.json_lines import BadLines
from harness.training.data.scenes.truth import Box
from harness.training.settings.tasks import VQA, Grounding

_VAL_SHARE = 0.1
"""Of a task that does not name it."""


def folder_sets(task: ItemTask, side: int, channels: int, cache: Path) -> ItemSets:
    """Opens the items of the folder that a task names, pictures `side` pixels square.

    Raises DataError that names file, line and field of what cannot be used: lines, labels that
    training does not have, pictures, boxes.
    """
    listed = listed_of(task)
    _check_labels(listed, task)
    _check_pictures(listed)
    square = Square(side=side, channels=channels, fit=getattr(task, "fit", "squash"))
    pictures = _pictures(listed, path_named(local(task.source)), square, cache)
    splits = {name: _items(of_split, pictures, task, side) for name, of_split in listed.items()}
    finetune = task.learning
    if finetune is not None and "val" not in splits:
        try:
            splits |= _held_out(splits["train"], getattr(task, "val_share", _VAL_SHARE))
        except DataError as error:
            where = listed["train"].path
            raise DataError(f"{where}: {error}; or put a validation file beside it") from error
    if isinstance(task, VQA):
        _check_answers(splits, task, listed["train"].path)
    none = no_items(pictures.images_PHWC)
    val = splits.get("val", none)
    return item_sets_of(
        splits.get("train", none),
        none if finetune is None else val.at_most(finetune.measure.items),
        splits[task.split],
        pictures.content,
    )


def _pictures(
    listed: Mapping[str, Listed], folder: Path, square: Square, cache: Path
) -> KeptPictures:
    def complain(problems: Mapping[str, str]) -> None:
        for of_split in listed.values():
            bad = BadLines(of_split.path, "items")
            for row in of_split.rows:
                for image in row.images:
                    if image in problems:
                        where = ", ".join(filter(None, (row.where, of_split.pictures)))
                        bad.add(f"{where}: {image!r} is {problems[image]}")
            bad.complain(len(of_split.rows))

    every = (image for its in listed.values() for row in its.rows for image in row.images)
    return kept_pictures(folder, every, square, cache, complain)


def _check_labels(listed: Mapping[str, Listed], task: ItemTask) -> None:
    """Raises DataError where val or test has a label that training has not, and where training has
    fewer than two."""
    if isinstance(task, VQA | Grounding):
        return
    train = listed["train"]
    labels = sorted({row.label for row in train.rows})
    shown = ", ".join(labels[:10]) + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
    if len(labels) < 2:
        raise DataError(f"{train.path}: every item has the {train.label} {shown!r}; two are needed")
    _check_spelling(train)
    allowed = set(labels)
    for of_split in listed.values():
        bad = BadLines(of_split.path, "items")
        for row in of_split.rows:
            if row.label not in allowed:
                bad.add(
                    f"{row.where}, {of_split.label}: {row.label!r} is no label of "
                    f"{train.path.name}, which has {shown}"
                )
        bad.complain(len(of_split.rows))


def _check_spelling(train: Listed) -> None:
    """Raises DataError where two labels of lines differ in case alone: one is a slip of the pen and
    would be a class of its own. Folders and tables may have classes `a` and `A`.
    """
    if train.path.suffix != ".jsonl":
        return
    counts = Counter(row.label for row in train.rows)
    usual: dict[str, str] = {}
    for label, _ in counts.most_common():
        usual.setdefault(label.casefold(), label)
    bad = BadLines(train.path, "items")
    for row in train.rows:
        if row.label != (other := usual[row.label.casefold()]):
            bad.add(
                f"{row.where}, {train.label}: {row.label!r} is {other!r} elsewhere; write alike"
            )
    bad.complain(len(train.rows))


def _check_pictures(listed: Mapping[str, Listed]) -> None:
    """Raises DataError where the items of two files have different numbers of pictures."""
    first, *others = listed.values()
    for other in others:
        counts = [len(of_split.rows[0].images) for of_split in (other, first)]
        if counts[0] != counts[1]:
            raise DataError(
                f"{other.path}: items of {counts[0]} images, where {first.path.name} has "
                f"{counts[1]}; all items of a folder have equally many"
            )


def _check_answers(splits: Mapping[str, Items], task: VQA, train: Path) -> None:
    """Raises DataError where no question of a split has an answer that can be given."""
    answers = answer_list(splits["train"], task.answers)
    for name, items in splits.items():
        if not targets_of(items, answers).any():
            raise DataError(
                f"{train.parent}: no answer of {name} is among the {len(answers)} most common ones "
                f"of {train.name} (setting answers); are they written alike?"
            )


def _items(listed: Listed, pictures: KeptPictures, task: ItemTask, side: int) -> Items:
    rows = listed.rows
    shown = [[pictures.row[image] for image in row.images] for row in rows]
    boxes = _boxes(listed, pictures, task, side) if isinstance(task, Grounding) else []
    return Items(
        images_PHWC=pictures.images_PHWC,
        picture_NI=np.array(shown, dtype=np.int64).reshape(len(rows), -1),
        texts=tuple(row.text for row in rows if row.text),
        labels=tuple(row.label for row in rows if row.label),
        answers=tuple(row.answers for row in rows if row.answers),
        box=tuple(own for own, _ in boxes),
        proposals=tuple(others for _, others in boxes),
    )


def _boxes(
    listed: Listed, pictures: KeptPictures, task: Grounding, side: int
) -> list[tuple[Box, tuple[Box, ...]]]:
    """Returns box and proposals of each item, as shares of the square."""
    bad = BadLines(listed.path, "items")
    boxes = []
    for row in listed.rows:
        size = pictures.size[row.images[0]]
        named = [("box", row.box), *(("proposals", box) for box in row.proposals)]
        problems = [(field, outside(box, size)) for field, box in named if box]
        if wrong := next((pair for pair in problems if pair[1]), None):
            bad.add(f"{row.where}, field {wrong[0]!r}: {wrong[1]}")
            continue
        own, *others = (share_of_square(box, size, task.fit, side) for _, box in named if box)
        boxes.append((own, tuple(others)))
    bad.complain(len(listed.rows))
    return boxes


def _held_out(items: Items, share: float) -> dict[str, Items]:
    """Holds validation items out of the training items: those that share a picture, or without
    pictures a text, stay together.
    """
    count, shown = items.picture_NI.shape
    row_K = np.repeat(np.arange(count), max(shown, 1))
    if shown:
        groups, picture_K = row_K.astype(str).tolist(), items.picture_NI.ravel()
    else:
        groups, picture_K = [text.casefold() for text in items.texts], row_K
    held = hold_out(groups, picture_K, {"val": share}, 0)
    return {name: items.take(np.unique(row_K[places_K])) for name, places_K in held.items()}
