"""The trainer pre-trains one design by its objectives: losses, teacher, negatives, validation."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from architectures.contract import FusionDesign
from harness.training.data.batches import Batch, Batches
from harness.training.loop import optimizer as adamw
from harness.training.loop.final import Averaged
from harness.training.loop.flops import training_flops
from harness.training.loop.freezing import Freezing, KeptStates, why_not_kept
from harness.training.loop.gradients import Gradients
from harness.training.loop.loop import Loop
from harness.training.loop.workers import in_step
from harness.training.objectives.binding import Binding
from harness.training.objectives.forward import terms, total
from harness.training.objectives.gather import rank, workers
from harness.training.objectives.state import ObjectiveState
from harness.training.objectives.term import Losses, Term
from harness.training.objectives.together import draws_from_all
from harness.training.objectives.validation import curve_values, gaps, validate
from harness.training.randomness import torch_seed
from harness.training.settings.spec import TrainSpec

VERSION = "2"
"""Raised when the same spec trains differently than before."""


class _Step(nn.Module):
    """A step's forward pass as one module over all that it reads, as DDP asks for."""

    def __init__(
        self, design: FusionDesign, state: ObjectiveState, losses: Callable[..., object]
    ) -> None:
        super().__init__()
        self.design, self.state, self.losses = design, state, losses

    def forward(self, batch: Batch, step: int) -> object:
        return self.losses(batch, step)


class Trainer(Loop):
    """One design with the state of its objectives."""

    def __init__(
        self,
        spec: TrainSpec,
        design: FusionDesign,
        batches: Batches,
        validation: Sequence[Batch],
        trained_on: Sequence[Batch] = (),
        binding: Binding | None = None,
    ) -> None:
        """Prepares a run from its first step. `validation`: the fixed batches that curves are
        measured on; `trained_on`: such batches of training pictures, for the gap between the two;
        `binding`: swap groups and masked words that are curves too.
        """
        super().__init__(spec, batches)
        self.spec, self.binding, self._source = spec, binding, batches
        self.design = design.to(self.device).train()
        self.state = ObjectiveState(spec.objectives, self.design, seed=spec.seed)
        self.state.to(self.device)
        self.freezing = Freezing(spec.freeze, self.design, self.steps)
        never = self.freezing.never_learn
        self.optimizer = adamw.build(
            spec.optimizer, self.design, self.state, fused=True, without=never
        )
        self.gradients = Gradients.of_design(self.design, self.state, without=never)
        self._in_step = in_step(_Step(self.design, self.state, self._losses))
        self.kept = KeptStates(len(batches.split)) if self._keeps() else None
        self.validation = [batch.to(self.device) for batch in validation]
        self.trained_on = [batch.to(self.device) for batch in trained_on]
        last = spec.final.kind == "last"
        self.averaged = None if last else Averaged(spec.final, self.design, self.grid)
        self.validated: dict[str, Term] = {}

    def _keeps(self) -> bool:
        """Says whether what a frozen image tower makes of a picture is computed once."""
        spec, source = self.spec, self._source
        return spec.freeze.image is not None and not why_not_kept(
            self.design, spec.freeze, spec.numerics, source.augment, len(source.split)
        )

    def parts(self) -> Mapping[str, nn.Module]:
        averaged = {} if self.averaged is None else {"averaged": self.averaged}
        return {"design": self.design, "state": self.state, **averaged}

    def before_step(self) -> None:
        self.state.before_step(self.step / self.batches.steps_per_epoch)

    def after_step(self) -> None:
        self.state.clamp()
        if self.averaged is not None:
            self.averaged.follow(self.design, self.step)

    def own(self, batch: Batch) -> Batch:
        return batch if workers() == 1 else batch.part(rank(), workers())

    def forward(self, batch: Batch, step: int) -> tuple[Losses, Tensor]:
        """Returns the losses of a batch and their weighted sum; of its own part of a batch, where
        several workers train, those of the whole.
        """
        losses, loss = self._in_step(batch, step)
        return losses, loss

    def _losses(self, batch: Batch, step: int) -> tuple[Losses, Tensor]:
        """Computes what `forward` returns. The teacher draws its dropout from a stream of its own,
        so the design draws the same with a teacher and without; every worker after the first has
        its own streams.
        """
        seed, worker = self.spec.seed, (rank(),) if rank() else ()
        drawing = torch.Generator(self.device)
        whose = () if draws_from_all(self.spec.objectives) else worker
        drawing.manual_seed(torch_seed(seed, "itm negatives", step, *whose))
        with self.precision(), self.freezing.at(step), self._states_of(batch, step):
            torch.manual_seed(torch_seed(seed, "teacher dropout", step, *worker))
            taught = self.state.teach(self.design, batch, packed=self.packed)
            torch.manual_seed(torch_seed(seed, "dropout", step, *worker))
            losses = terms(
                self.design,
                self.state,
                batch,
                negatives=drawing,
                taught=taught,
                packed=self.packed,
            )
            loss = total(losses.terms, self.spec.objectives)
        self.state.remember(taught, batch.identity)
        return losses, loss

    def _states_of(self, batch: Batch, step: int) -> contextlib.AbstractContextManager[None]:
        """Returns the context in which pictures are encoded once while the image tower is frozen;
        the teacher's is the same until then, since it follows what does not move.
        """
        image = self.spec.freeze.image
        if self.kept is None or image is None or step not in image.steps(self.steps):
            self.kept = None
            return contextlib.nullcontext()
        both = [self.design] if self.state.twin is None else [self.design, self.state.twin.design]
        return self.kept.of(batch.rows_B, both)

    def flops_per_sample(self) -> float:
        """Counts a sample of a step in which nothing is frozen."""
        batches = self._source
        return training_flops(
            copy.deepcopy(self.design).to("meta"),
            self.spec.objectives,
            text_tokens=batches.split.ids_KL.shape[1],
            rows=batches.batch_size,
            words=batches.words,
            swapped=batches.split.swapped_share,
        )

    def image_tokens(self, batch: Batch) -> int:
        return len(batch) * (self.design.backbone.patches + 1)

    def measure(self) -> dict[str, float]:
        objectives = self.spec.objectives
        values = {f"train/{name}": value for name, value in self.state.curves().items()}
        if self.sums:
            values |= curve_values(self.sums, objectives, "train")
        values |= self.means_since()
        self.validated = self.validate()
        values |= curve_values(self.validated, objectives)
        if self.trained_on:
            seen = validate(self.design, self.state, self.trained_on, self.precision)
            values |= gaps(self.validated, seen, objectives)
        if self.binding:
            values |= self.binding.curves(self.design, self.device, self.precision)
        if self.averaged is not None and self.step == self.steps:
            self.validated = self.validate(self.final())
            values |= curve_values(self.validated, objectives, "val_final")
        return values

    def validate(self, design: FusionDesign | None = None) -> dict[str, Term]:
        """Returns the terms of the fixed validation batches under the present weights, or those of
        `design`.
        """
        return validate(design or self.design, self.state, self.validation, self.precision)

    def final(self) -> FusionDesign:
        """Returns the design with the weights that `spec.final` names."""
        return self.design if self.averaged is None else self.averaged.design
