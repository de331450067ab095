"""The floors of tasks on scenes say what their texts alone and their pictures alone give away."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from pydantic import JsonValue

from harness.training.data.cache import DataError
from harness.training.data.scenes.entailment import entailments
from harness.training.data.scenes.expressions import expressions
from harness.training.data.scenes.questions import questions
from harness.training.data.scenes.two_pictures import statements
from harness.training.data.splits import Split
from harness.training.scoring.floors import Floors, floors, shrunk

_ITEMS = (2000, 2000)
"""Items to train on and to score."""
_AT_ONCE = 512

Item = tuple[tuple[int, ...], str, Hashable]
"""Rows of the pictures, the text, the label."""
Truths = Sequence[Mapping[str, JsonValue]]


def _expressions(truths: Truths, seed: int, count: int) -> list[Item]:
    rows = expressions(truths, seed, count)
    return [((row.picture,), row.expression, row.right) for row in rows]


def _questions(truths: Truths, seed: int, count: int) -> list[Item]:
    rows = questions(truths, seed, count)
    return [((row.picture,), row.question, row.answers[0][0]) for row in rows]


def _entailments(truths: Truths, seed: int, count: int) -> list[Item]:
    rows = entailments(truths, seed, count)
    return [((row.picture,), row.sentence, row.label) for row in rows]


def _statements(truths: Truths, seed: int, count: int) -> list[Item]:
    rows = statements(truths, seed, count)
    return [(row.pictures, row.statement, row.label) for row in rows]


TASKS: dict[str, Callable[[Truths, int, int], list[Item]]] = {
    "questions": _questions,
    "entailment": _entailments,
    "statements about two pictures": _statements,
    "expressions (which box)": _expressions,
}
"""Name in a table -> its items."""


def task_floors(
    train: Split, val: Split, task: str, *, seed: int = 0, items: tuple[int, int] | None = None
) -> Floors:
    """Measures the floors of one of `TASKS`, trained on items of the train split's pictures and
    scored on items of val's. Raises DataError where the scenes do not allow the task.
    """
    if train.truth is None or val.truth is None:
        raise DataError("floors of tasks are measured on scenes, whose ground truth is known")
    seen, held = (
        TASKS[task](s.truth or (), seed, n)
        for s, n in zip((train, val), items or _ITEMS, strict=True)
    )
    return floors(_columns(train, seen), _columns(val, held))


def _columns(split: Split, items: list[Item]) -> tuple[list[str], np.ndarray, list[Hashable]]:
    """Returns texts, pictures (several of an item in its channels) and labels."""
    rows = np.array([rows for rows, _, _ in items])
    pieces = []
    for start in range(0, len(rows), _AT_ONCE):
        piece = rows[start : start + _AT_ONCE]
        pictures = [shrunk(split.images_NHWC[piece[:, i]]) for i in range(rows.shape[1])]
        pieces.append(np.concatenate(pictures, axis=3))
    return [text for _, text, _ in items], np.concatenate(pieces), [label for *_, label in items]
