"""What every downstream task has, and how a trained design goes on to learn one.

Frozen records without torch. The documentation of a field stands under the field.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from architectures.frozen import Frozen
from harness.training.settings.data import Positive
from harness.training.settings.loop import Budget, Decay, Measure, Optimizer


class TaskSettings(Frozen, allow_inf_nan=False):
    """What every task has."""

    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]*$")] = ""
    """What its scores stand under; empty: the task's name. Two settings of one task in one study
    need one."""

    paths: ClassVar[tuple[str, ...]] = ()
    """Fields that name a folder, empty for none: scores are known by its content, not its place."""
    asked: ClassVar[tuple[str, ...]] = ("label",)
    """Fields that say what is scored and how, and shape no weight: tasks that differ in these alone
    are scored by one fine-tuning."""

    @property
    def title(self) -> str:
        """What its scores stand under."""
        return self.label or str(getattr(self, "name"))  # noqa: B009  a field of every kind

    @property
    def learning(self) -> FineTune | None:
        """How a design learns it first; None: the trained design is scored as it is."""
        return getattr(self, "finetune", None)


class FineTune(Frozen, allow_inf_nan=False):
    """How a trained design goes on to learn a task; its budget is its own, equal for every design.

    Its seed, threads, device and dtype are those of the run.
    """

    budget: Budget = Budget(steps=500)
    """Of fine-tuning alone."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Items a step."""
    optimizer: Optimizer = Optimizer(learning_rate=3e-4)
    """AdamW's settings."""
    head_rate: Annotated[float, Field(gt=0)] = 10.0
    """Learning-rate multiple of the task's own new parts (50 in BridgeTower's VQA, 10 in its
    NLVR2). At 1 the design forgets, under gradients of a head that is still noise, what the head
    would read (LOG.md)."""
    distil: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the target that is the softmax of a momentum twin (.4 in ALBEF); 0: no twin."""
    momentum: Decay = 0.995
    """Of the twin: the share of itself that it keeps in a step."""
    measure: Measure = Measure(points=5, items=256, gap_items=0, checkpoints=2)
    """When and on how many validation items its curves are measured. Only `points`, `items` and
    `checkpoints` are read."""

    @model_validator(mode="after")
    def _of_a_unit_for_all(self) -> Self:
        if self.budget.per_design:
            raise ValueError(
                f"budget.{self.budget.unit}: fine-tuning has a budget in steps or samples"
            )
        return self


class Learnt(TaskSettings, allow_inf_nan=False):
    """A task that a design is fine-tuned for, on items of a folder or of the scenes."""

    source: str = ""
    """Folder of `train.jsonl`, `val.jsonl` and `test.jsonl` with their pictures (README.md says
    what a line holds); empty: items made of the scenes' ground truth."""
    train_items: Positive = 20_000
    """Of scenes: items made of the training pictures. A folder is taken whole."""
    items: Positive = 2_000
    """Of scenes: items that are scored. A folder is taken whole."""
    split: Literal["val", "test"] = "test"
    """Which split is scored. A folder without `test.jsonl` has only `val`."""
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Of a folder without `val.jsonl`: the share of the training items, by picture, that is held
    out for it."""
    fit: Literal["squash", "crop", "pad"] = "squash"
    """How a picture of a folder becomes square: stretched, cut in the centre, or put on white."""
    floors: bool = True
    """Also train the text-only and the picture-only floor on the same items."""
    finetune: FineTune = FineTune()
    """How the design learns it."""

    paths: ClassVar[tuple[str, ...]] = ("source",)
    asked: ClassVar[tuple[str, ...]] = ("label", "split", "items", "floors")
