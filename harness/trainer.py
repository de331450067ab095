"""The training loop: runs to its budget, yields what it measured.

It writes nothing and knows no folder: `run.py` decides what becomes of a measurement. Nothing
random is consumed in order (`randomness.py`), so a loop that goes on from a snapshot equals one
that was never stopped, to the last bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import psutil
import torch

from architectures.contract import FusionDesign
from harness import optimizer as adamw
from harness.budget import Ledger, checkpoints_of, grid_of, steps_of
from harness.data.batches import Batch, Batches
from harness.objectives.forward import ObjectiveState, terms, total
from harness.objectives.term import Term
from harness.objectives.validation import curve_values, validate
from harness.randomness import torch_seed
from harness.study import RunSpec

VERSION = "1"
"""Raised when the same spec trains differently than before."""


class DivergedError(RuntimeError):
    """The loss is not a finite number."""


@dataclasses.dataclass
class Measurement:
    """What is known after a step. `values` is empty where the loop only stopped on request."""

    step: int
    values: dict[str, float]
    checkpoint: bool
    """A snapshot is due."""
    stopped: bool = False


class Trainer:
    """One model, its optimizer and objective state, and the loop over them."""

    def __init__(
        self, spec: RunSpec, design: FusionDesign, batches: Batches, validation: Sequence[Batch]
    ) -> None:
        self.spec, self.batches = spec, batches
        self.device = torch.device(spec.numerics.device)
        self.design = design.to(self.device).train()
        self.state = ObjectiveState(spec.objectives).to(self.device)
        self.optimizer = adamw.build(spec.optimizer, self.design, self.state, fused=True)
        self.validation = [batch.to(self.device) for batch in validation]
        self.step = 0
        self.steps = steps_of(spec.budget, spec.batch_size)
        self.chain = ""
        self.ledger = Ledger()
        self.sums: dict[str, Term] = {}
        self.norm_sum = torch.zeros((), device=self.device)
        self.validated: dict[str, Term] = {}
        self._process = psutil.Process()

    def precision(self) -> AbstractContextManager[object]:
        """Autocast to bfloat16 where the spec asks for it."""
        if self.spec.numerics.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def train(self, should_stop: Callable[[], bool]) -> Iterator[Measurement]:
        """Steps until the budget is spent; yields at the start, on the grid, and when stopped.

        Raises `DivergedError` at the first step whose loss or gradient is not finite.
        """
        measured = frozenset(grid_of(self.steps, self.spec.measure.points))
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
            if self.step in measured:
                yield Measurement(self.step, self.measure(), checkpoint=self.step in saved)

    def one_step(self) -> None:
        """Forward, backward, clip, update; keeps the chain of digests and the ledger."""
        spec, step = self.spec, self.step + 1
        batch = self.batches.at(self.step)
        self.chain = self.batches.after(self.chain, batch)
        self.ledger.text_tokens += int(batch.text_is_real_BL.sum())  # before it is on the device
        batch = batch.to(self.device)
        torch.manual_seed(torch_seed(spec.seed, "dropout", step))
        drawing = torch.Generator(self.device)
        drawing.manual_seed(torch_seed(spec.seed, "itm negatives", step))
        rate = adamw.learning_rate(spec.optimizer, step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.state.before_step()
        with self.precision():
            found = terms(self.design, self.state, batch, spec.objectives, negatives=drawing)
            loss = total(found, spec.objectives)
        self._note_memory()
        loss.backward()
        norm = self._clip()
        size, found_loss = norm.item(), loss.item()
        if not math.isfinite(size + found_loss):
            raise DivergedError(f"step {step}: loss {found_loss}, gradient norm {size}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step = step
        self._count(batch, found, norm)

    def _clip(self) -> torch.Tensor:
        """The gradient's norm before clipping; clipping by it where the settings say so."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        limit = self.spec.optimizer.clip_norm or math.inf
        return torch.nn.utils.clip_grad_norm_(parameters, limit)

    def _count(self, batch: Batch, found: dict[str, Term], norm: torch.Tensor) -> None:
        for name, term in found.items():
            term = term.detach()
            self.sums[name] = self.sums[name] + term if name in self.sums else term
        self.norm_sum += norm.detach()
        rows = len(batch.ids_BL)
        self.ledger.steps += 1
        self.ledger.samples += rows
        self.ledger.image_tokens += rows * (self.design.backbone.patches + 1)

    def _note_memory(self) -> None:
        """At the end of the forward pass, when most is held."""
        if self.device.type == "cuda":
            held = torch.cuda.max_memory_allocated(self.device)
        else:
            held = self._process.memory_info().rss
        self.ledger.peak_mib = max(self.ledger.peak_mib, held / 2**20)

    def measure(self) -> dict[str, float]:
        """Training means since the last measurement, and validation values."""
        values: dict[str, float] = {}
        for name, term in self.sums.items():
            values |= term.values(f"train/{name}")
        if self.sums:
            weights = self.spec.objectives
            values["train/loss"] = sum(
                getattr(weights, name).weight * values[f"train/{name}_loss"] for name in self.sums
            )
            steps = self.step - self._last_measured()
            values["train/grad_norm"] = float(self.norm_sum) / steps
            group = self.optimizer.param_groups[0]
            values["train/learning_rate"] = group["lr"] / group["rate"]
        values["train/temperature"] = float(self.state.temperature.detach())
        self.sums = {}
        self.norm_sum = torch.zeros((), device=self.device)
        objectives = self.spec.objectives
        self.validated = self.validate()
        return values | curve_values(self.validated, objectives)

    def validate(self) -> dict[str, Term]:
        """The terms of the fixed validation batches, now."""
        objectives = self.spec.objectives
        return validate(self.design, self.state, self.validation, objectives, self.precision)

    def _last_measured(self) -> int:
        earlier = [s for s in grid_of(self.steps, self.spec.measure.points) if s < self.step]
        return max(earlier, default=0)

    def snapshot(self) -> dict[str, Any]:
        """Everything the loop needs to go on; tensors and plain values only."""
        return {
            "step": self.step,
            "design": self.design.state_dict(),
            "state": self.state.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "chain": self.chain,
            "ledger": self.ledger.as_json(),
            "sums": {name: dataclasses.asdict(term) for name, term in self.sums.items()},
            "norm_sum": self.norm_sum,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self.step = snapshot["step"]
        self.design.load_state_dict(snapshot["design"])
        self.state.load_state_dict(snapshot["state"])
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self.chain = snapshot["chain"]
        self.ledger = Ledger(**snapshot["ledger"])
        self.sums = {
            name: Term(**{k: v.to(self.device) for k, v in parts.items()})
            for name, parts in snapshot["sums"].items()
        }
        self.norm_sum = snapshot["norm_sum"].to(self.device)
