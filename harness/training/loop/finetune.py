"""The fine-tuner teaches a trained design one task: a head of its own, a budget of its own.

One loop for all tasks. A task brings a `Lesson`: the model, the items with their targets, what is
read of the model, and the loss; the loop, its order of items, its schedule and its measurements are
the same for every design.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from architectures.contract import undecayed
from architectures.downstream.model import TaskModel
from architectures.weights.widths import times_of
from harness.training.data.items.batches import ItemBatch, ItemBatches, ReadyItems
from harness.training.loop import optimizer as adamw
from harness.training.loop.gradients import Gradients
from harness.training.loop.loop import Loop
from harness.training.objectives.term import Losses, Term
from harness.training.objectives.twin import ModelTwin
from harness.training.randomness import torch_seed
from harness.training.settings.loop import Budget, Measure, Numerics, Optimizer
from harness.training.settings.task import FineTune

HEAD = "heads.task."
"""What parameters beside the design's own count as, for gradients by part."""


@dataclass(frozen=True, kw_only=True)
class FineTuneSpec:
    """What the loop reads: the task's settings, and seed and numerics of the run."""

    settings: FineTune
    seed: int
    numerics: Numerics

    @property
    def budget(self) -> Budget:
        return self.settings.budget

    @property
    def batch_size(self) -> int:
        return self.settings.batch_size

    @property
    def optimizer(self) -> Optimizer:
        return self.settings.optimizer

    @property
    def measure(self) -> Measure:
        return self.settings.measure


COUNTED = 256
"""Items, evenly spread, of which the FLOPs of an item are the mean: a decoder spells as many
answers as its question has."""

Reads = Callable[[TaskModel, ItemBatch, bool], Tensor]
"""(model, batch on the device, packed) -> its logits."""
Loss = Callable[[Tensor, ItemBatch, Tensor | None], Term]
"""(logits, batch, the twin's logits or None) -> the loss, its target softened by the twin."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a task teaches."""

    model: TaskModel
    """Its new parts are drawn."""
    train: ReadyItems
    val: ReadyItems
    """Its items give the curves."""
    reads: Reads
    loss: Loss


class FineTuner(Loop):
    """A task's model, and its momentum twin where the target is softened by one."""

    def __init__(self, spec: FineTuneSpec, lesson: Lesson) -> None:
        """Prepares fine-tuning from its first step."""
        settings = spec.settings
        super().__init__(spec, ItemBatches(lesson.train, settings.batch_size, spec.seed))
        self.spec, self.lesson = spec, lesson
        self.model = lesson.model.to(self.device).train()
        self.design = self.model.design
        self.twin = ModelTwin(self.model, settings.momentum) if settings.distil else None
        named = list(self.model.named_parameters())
        rates, times = self.model.rates(settings.head_rate), times_of(self.model)
        exempt = undecayed(self.model)
        self.optimizer = adamw.over(settings.optimizer, named, rates, exempt, times, fused=True)
        self.gradients = Gradients(map(_as_of_design, named), self.design.crossings())
        pieces = lesson.val.pieces(settings.batch_size, settings.measure.items)
        self.validation = [batch.to(self.device) for batch in pieces]

    def parts(self) -> Mapping[str, nn.Module]:
        twin = {} if self.twin is None else {"twin": self.twin}
        return {"model": self.model, **twin}

    def final(self) -> nn.Module:
        return self.model

    def before_step(self) -> None:
        """Does nothing more: the twin follows when it is asked, as in ALBEF."""

    def after_step(self) -> None:
        """Does nothing more."""

    def forward(self, batch: ItemBatch, step: int) -> tuple[Losses, Tensor]:
        torch.manual_seed(torch_seed(self.spec.seed, "fine-tuning dropout", step))
        with self.precision():
            taught = None
            if self.twin is not None:
                taught = self.twin.ask(self.model, lambda asked: self._read(asked, batch))
            term = self.lesson.loss(self._read(self.model, batch), batch, taught)
        return Losses(terms={"task": term}, notes={}), term.loss

    def _read(self, model: TaskModel, batch: ItemBatch) -> Tensor:
        return self.lesson.reads(model, batch, self.packed)

    def flops_per_sample(self) -> float:
        """Counts the FLOPs of a step by the rules of `loop.flops`, for one item: on the meta
        device, at padded length, the twin included.
        """
        (batch,) = self.lesson.train.pieces(COUNTED, COUNTED)
        shapes = replace(batch.to("meta"), right=batch.right)  # which answers there are is data
        model = copy.deepcopy(self.model).to("meta")
        with FlopCounterMode(display=False) as counter:
            for taught in (True, False) if self.twin else (False,):
                with torch.no_grad() if taught else contextlib.nullcontext():
                    logits = self.lesson.reads(model, shapes, False)
            logits.sum().backward()
        return counter.get_total_flops() / len(batch)

    def image_tokens(self, batch: ItemBatch) -> int:
        return batch.image_BICHW.shape[:2].numel() * (self.design.backbone.patches + 1)

    def measure(self) -> dict[str, float]:
        values = self.sums["task"].values("train/task") if self.sums else {}
        values |= self.means_since()
        if self.validation:
            values |= self.validate().values("val/task")
        return values

    @torch.no_grad()
    def validate(self) -> Term:
        """Returns the loss and how often the model is right on the validation items."""
        self.model.eval()
        with self.precision():
            terms = [
                self.lesson.loss(self.lesson.reads(self.model, batch, False), batch, None)
                for batch in self.validation
            ]
        self.model.train()
        first, *others = terms
        return sum(others, start=first)


def _as_of_design(named: tuple[str, nn.Parameter]) -> tuple[str, nn.Parameter]:
    """Names a parameter as the design does; those that the task adds are the head's."""
    role, parameter = named
    inside = role.removeprefix("design.")
    return (inside if inside != role else f"{HEAD}{role}"), parameter
