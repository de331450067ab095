"""Items are what a downstream task asks of pictures: sentences, questions, with answers and boxes.

Letters: N items, P different pictures, I pictures of an item, H W C height, width, channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, as shares of the picture's side from its top left corner."""


@dataclass(frozen=True, kw_only=True)
class Items:
    """The items of one split. A column that a task does not have is empty."""

    images_PHWC: np.ndarray
    """uint8, square, all pictures that some item shows; of a scene's split, all of it."""
    picture_NI: np.ndarray
    """int64 rows of `images_PHWC` that each item shows, as (N, I); I is 0 for text alone."""
    texts: tuple[str, ...] = ()
    """Sentence, question or expression of each item; empty for pictures alone."""
    labels: tuple[str, ...] = ()
    """The right label of each item; of VQA its most common answer."""
    answers: tuple[tuple[tuple[str, float], ...], ...] = ()
    """Of VQA: answers with the share of people who give them, the most common first."""
    box: tuple[Box, ...] = ()
    """Of grounding: where the thing is."""
    proposals: tuple[tuple[Box, ...], ...] = ()
    """Of grounding: the boxes to choose from; none where the file names none."""

    def __len__(self) -> int:
        return len(self.picture_NI)


@dataclass(frozen=True, kw_only=True)
class ItemSets:
    """The items of a task: to train on, to measure curves on, and to score."""

    train: Items
    val: Items
    test: Items
    """What is scored: of the split that the task names."""
    content: str
    """Digest of all that they were made of."""
