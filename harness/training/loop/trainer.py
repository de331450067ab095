"""The training loop trains one model until its budget is spent, and yields its measurements.

It writes nothing and knows no folder: `harness.runs` decides what becomes of a measurement. No
random stream is consumed in order (`randomness.py`), so a loop that goes on from a snapshot equals
one that was never stopped, to the last bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import psutil
import torch
from torch import Tensor

from architectures.contract import FusionDesign
from harness.training.data.batches import Batch, Batches
from harness.training.loop import optimizer as adamw
from harness.training.loop.budget import checkpoints_of, grid_of, steps_of
from harness.training.loop.final import Averaged
from harness.training.loop.gradients import Gradients
from harness.training.loop.ledger import Ledger
from harness.training.objectives.binding import Binding
from harness.training.objectives.forward import terms, total
from harness.training.objectives.state import ObjectiveState
from harness.training.objectives.term import Losses, Term
from harness.training.objectives.validation import curve_values, gaps, validate
from harness.training.randomness import torch_seed
from harness.training.settings.spec import TrainSpec

VERSION = "2"
"""Raised when the same spec trains differently than before."""


class DivergedError(RuntimeError):
    """The loss is not a finite number."""


@dataclasses.dataclass
class Measurement:
    """The curves' values after a step; none where the loop only stopped on request."""

    step: int
    values: dict[str, float]
    checkpoint: bool
    """A snapshot is due now."""
    stopped: bool = False
    """The loop ended here because `should_stop` said so."""


class Trainer:
    """One model, its optimizer and objective state, and the loop over them."""

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
        self.spec, self.batches, self.binding = spec, batches, binding
        self.device = torch.device(spec.numerics.device)
        self.design = design.to(self.device).train()
        self.state = ObjectiveState(spec.objectives, self.design, seed=spec.seed)
        self.state.to(self.device)
        self.optimizer = adamw.build(spec.optimizer, self.design, self.state, fused=True)
        self.gradients = Gradients(self.design, self.state)
        self.validation = [batch.to(self.device) for batch in validation]
        self.trained_on = [batch.to(self.device) for batch in trained_on]
        # Without padding a batch has another size at every step: that saves a CPU work and keeps a
        # GPU waiting.
        self.packed = self.device.type == "cpu"
        self.step = 0
        self.steps = steps_of(spec.budget, spec.batch_size)
        grid = grid_of(self.steps, spec.measure.points)
        self.measured = frozenset(grid)
        last = spec.final.kind == "last"
        self.averaged = None if last else Averaged(spec.final, self.design, grid)
        self.chain = ""
        self.ledger = Ledger()
        self.sums: dict[str, Term] = {}
        self.note_sums: dict[str, Tensor] = {}
        self.validated: dict[str, Term] = {}
        self.finite = torch.ones((), dtype=torch.bool, device=self.device)
        self._process = psutil.Process()

    def precision(self) -> AbstractContextManager[object]:
        """Returns the context of forward passes: autocast to bfloat16 where the spec says so."""
        if self.spec.numerics.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def train(self, should_stop: Callable[[], bool]) -> Iterator[Measurement]:
        """Trains until the budget is spent; yields at the start, on the grid, and when stopped.

        Raises `DivergedError` at the first step whose loss or gradient is not finite, on a GPU at
        the measurement after it.
        """
        saved = checkpoints_of(self.steps, self.spec.measure)
        if self.step == 0:
            yield Measurement(step=0, values=self.measure(), checkpoint=False)
        while self.step < self.steps:
            if should_stop():
                yield Measurement(step=self.step, values={}, checkpoint=True, stopped=True)
                return
            begun = time.perf_counter()
            self.one_step()
            self.ledger.train_seconds += time.perf_counter() - begun
            if self.step in self.measured:
                yield Measurement(self.step, self.measure(), checkpoint=self.step in saved)

    def one_step(self) -> None:
        """Does one step: forward, backward, clip, update. Also extends the chain of digests of the
        batches, and the ledger.
        """
        spec, step = self.spec, self.step + 1
        batch = self.batches.at(self.step)
        self.chain = self.batches.after(self.chain, batch)
        self.ledger.text_tokens += int(batch.text_is_real_BL.sum())  # before it is on the device
        batch = batch.to(self.device)
        rate = adamw.learning_rate(spec.optimizer, step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.state.before_step(self.step / self.batches.steps_per_epoch)
        losses, loss = self._forward(batch, step)
        self._note_memory()
        loss.backward()
        norms = self.gradients.norms()
        self._check(step, loss.detach(), norms["grad_norm"])
        self.gradients.clip(norms["grad_norm"], spec.optimizer.clip_norm)
        self.optimizer.step()
        self.state.clamp()
        self.optimizer.zero_grad(set_to_none=True)
        self.step = step
        if self.averaged is not None:
            self.averaged.follow(self.design, step)
        self._count(batch, losses, norms)

    def _forward(self, batch: Batch, step: int) -> tuple[Losses, Tensor]:
        """Returns the losses of a batch and their weighted sum. The teacher draws its dropout from
        a stream of its own, so the design draws the same with a teacher and without.
        """
        seed = self.spec.seed
        drawing = torch.Generator(self.device)
        drawing.manual_seed(torch_seed(seed, "itm negatives", step))
        with self.precision():
            torch.manual_seed(torch_seed(seed, "teacher dropout", step))
            taught = self.state.teach(self.design, batch, packed=self.packed)
            torch.manual_seed(torch_seed(seed, "dropout", step))
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

    def _check(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Raises `DivergedError` where loss or gradient is not finite. On a GPU it looks only at
        steps that are measured, because each look waits for all work on the device.
        """
        self.finite = self.finite & torch.isfinite(loss + norm)
        measured = self.device.type == "cpu" or step in self.measured
        if measured and not bool(self.finite):
            raise DivergedError(f"step {step}: loss {float(loss)}, gradient norm {float(norm)}")

    def _count(self, batch: Batch, losses: Losses, norms: dict[str, Tensor]) -> None:
        """Adds a step to the sums of the curves and to the ledger."""
        for name, term in losses.terms.items():
            term = term.detach()
            self.sums[name] = self.sums[name] + term if name in self.sums else term
        for name, value in {**losses.notes, **norms}.items():
            self.note_sums[name] = self.note_sums.get(name, 0) + value.detach()
        rows = len(batch.ids_BL)
        self.ledger.steps += 1
        self.ledger.samples += rows
        self.ledger.image_tokens += rows * (self.design.backbone.patches + 1)

    def _note_memory(self) -> None:
        """Keeps the peak of memory; called at the end of the forward pass, when most is held."""
        if self.device.type == "cuda":
            held = torch.cuda.max_memory_allocated(self.device)
        else:
            held = self._process.memory_info().rss
        self.ledger.peak_mib = max(self.ledger.peak_mib, held / 2**20)

    def measure(self) -> dict[str, float]:
        """Returns training means since the last measurement, and validation values."""
        objectives = self.spec.objectives
        values = {f"train/{name}": value for name, value in self.state.curves().items()}
        if self.sums:
            values |= curve_values(self.sums, objectives, "train")
            steps = self.step - self._last_measured()
            values |= {f"train/{n}": float(total) / steps for n, total in self.note_sums.items()}
            group = self.optimizer.param_groups[0]
            values["train/learning_rate"] = group["lr"] / group["rate"]
        self.sums, self.note_sums = {}, {}
        self.validated = self.validate()
        values |= curve_values(self.validated, objectives)
        if self.trained_on:
            seen = validate(self.design, self.state, self.trained_on, self.precision)
            values |= gaps(self.validated, seen, objectives)
        if self.binding:
            values |= self.binding.curves(self.design, self.device, self.precision)
        if self.averaged is not None and self.step == self.steps:
            self.validated = self.validate(self.final_design())
            values |= curve_values(self.validated, objectives, "val_final")
        return values

    def validate(self, design: FusionDesign | None = None) -> dict[str, Term]:
        """Returns the terms of the fixed validation batches under the present weights, or those of
        `design`.
        """
        return validate(design or self.design, self.state, self.validation, self.precision)

    def final_design(self) -> FusionDesign:
        """Returns the design with the weights that `spec.final` names."""
        return self.design if self.averaged is None else self.averaged.design

    def _last_measured(self) -> int:
        return max((s for s in self.measured if s < self.step), default=0)

    def snapshot(self) -> dict[str, Any]:
        """Returns all that the loop needs to go on, as tensors and plain values."""
        averaged = {} if self.averaged is None else {"averaged": self.averaged.state_dict()}
        return {
            **averaged,
            "step": self.step,
            "design": self.design.state_dict(),
            "state": self.state.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "chain": self.chain,
            "ledger": self.ledger.as_json(),
            "sums": {name: dataclasses.asdict(term) for name, term in self.sums.items()},
            "note_sums": self.note_sums,
            "finite": self.finite,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Puts the loop where it was when `snapshot` was taken."""
        self.step = snapshot["step"]
        self.design.load_state_dict(snapshot["design"])
        self.state.load_state_dict(snapshot["state"])
        if self.averaged is not None:
            self.averaged.load_state_dict(snapshot["averaged"])
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self.chain = snapshot["chain"]
        self.ledger = Ledger(**snapshot["ledger"])
        self.sums = {
            name: Term(**{k: v.to(self.device) for k, v in parts.items()})
            for name, parts in snapshot["sums"].items()
        }
        self.note_sums = {k: v.to(self.device) for k, v in snapshot["note_sums"].items()}
        self.finite = snapshot["finite"].to(self.device)
