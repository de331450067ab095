"""The settings of every downstream task that can score a trained design."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from architectures.frozen import Frozen
from harness.training.settings.data import Positive


class TaskSettings(Frozen, allow_inf_nan=False):
    """What every task has."""

    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]*$")] = ""
    """What its scores stand under; empty: the task's name. Two settings of one task in one study
    need one."""

    @property
    def title(self) -> str:
        """What its scores stand under."""
        return self.label or str(getattr(self, "name"))  # noqa: B009  a field of every kind


class Retrieval(TaskSettings, allow_inf_nan=False):
    """Image-text retrieval: ITC alone, the top k re-ranked by the ITM head, or by ITM alone."""

    name: Literal["retrieval"] = "retrieval"
    """Which task file scores it."""
    rerank: Positive = 16
    """Candidates of the ITC ranking that the ITM head scores again."""
    every_pair: Positive = 500_000
    """Without ITC nothing ranks first, and the ITM head scores every picture with every caption: up
    to so many pairs; a split with more is refused before the run trains. With ITC, the most pairs
    beyond `rerank` that are scored because cosines tie; with more, ties are drawn by lot."""
    split: Literal["val", "test"] = "test"
    """Which split is scored."""
    captions: Literal["first", "all"] = "first"
    """Captions of a picture that are queries and candidates."""


TaskSpec = Retrieval

KINDS: tuple[type[TaskSettings], ...] = get_args(next(iter(get_args(TaskSpec)), None)) or (
    Retrieval,
)
"""The records that `TaskSpec` is one of."""
