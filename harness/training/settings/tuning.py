"""These settings say what `fuselab tune` searches: the same draws for every cell."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from architectures.frozen import Frozen

Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Range(Frozen, allow_inf_nan=False):
    """Where a tuned hyper-parameter is drawn from."""

    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    log: bool = False
    """Uniform in the logarithm."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 where log is set")
        return self


class Tuning(Frozen):
    """Equal tuning: the same trials, drawn from the same table, for every cell."""

    space: Annotated[dict[str, Range], Field(min_length=1)] = {
        "optimizer.learning_rate": Range(low=1e-4, high=2e-3, log=True),
        "optimizer.weight_decay": Range(low=1e-3, high=0.2, log=True),
        "optimizer.warmup_share": Range(low=0.02, high=0.3),
    }
    """Dotted path of a setting -> its range: of training, or, as `tasks.vqa.finetune.` and what
    follows, of the fine-tuning of one task."""
    trials: Annotated[int, Field(gt=0, le=10_000)] = 8
    """Trials of every cell."""
    seed: Seed = 10_000
    """Training seed of the trials; must not be one of the study's seeds."""
    score: str = "val/loss"
    """Validation curve whose last value is minimised; of a task's fine-tuning its own, as
    `vqa/val/task_loss`. Where an objective's weight is tuned not `val/loss`, the sum by weights,
    but a loss by itself, as `val/itc_loss`."""

    @property
    def task(self) -> str:
        """Title of the task whose fine-tuning is tuned; empty: training is."""
        first, _, rest = next(iter(self.space)).partition(".")
        return rest.partition(".")[0] if first == "tasks" else ""

    @model_validator(mode="after")
    def _of_one_kind(self) -> Tuning:
        kinds = {path.partition(".finetune.")[0] for path in self.space if path[:6] == "tasks."}
        if kinds and (len(kinds) > 1 or any(path[:6] != "tasks." for path in self.space)):
            raise ValueError("space: tune training, or the fine-tuning of one task, at a time")
        if any(path[:6] == "tasks." and ".finetune." not in path for path in self.space):
            raise ValueError("space: of a task only fields of `finetune` are tuned")
        return self
