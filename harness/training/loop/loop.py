"""The loop trains one model until its budget is spent, and yields its measurements.

It writes nothing and knows no folder: `harness.runs` decides what becomes of a measurement. No
random stream is consumed in order (`randomness.py`), so a loop that goes on from a snapshot equals
one that was never stopped, to the last bit. `trainer.Trainer` pre-trains a design,
`finetune.FineTuner` teaches it a task.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import psutil
import torch
from torch import Tensor, nn

from harness.training.loop import optimizer as adamw
from harness.training.loop.budget import checkpoints_of, grid_of, is_compared, steps_of
from harness.training.loop.gradients import Gradients
from harness.training.loop.ledger import Ledger
from harness.training.loop.numerics import settled
from harness.training.objectives.gather import agreed, alone, rank
from harness.training.objectives.term import Losses, Term
from harness.training.settings.loop import Budget, Measure, Numerics, Optimizer


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
    chains: dict[int, str] = dataclasses.field(default_factory=dict)
    """Step since the last measurement -> digest chain there, at the steps of `is_compared`."""


class LoopSettings(Protocol):
    """What a loop reads of its settings."""

    @property
    def seed(self) -> int: ...
    @property
    def budget(self) -> Budget: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def optimizer(self) -> Optimizer: ...
    @property
    def measure(self) -> Measure: ...
    @property
    def numerics(self) -> Numerics: ...


class BatchSource(Protocol):
    """What gives the batches of a loop, each by the number of its step alone."""

    steps_per_epoch: int

    def at(self, step: int) -> Any:
        """Makes the batch of a step."""
        ...

    def after(self, digest: str, batch: Any) -> str:
        """Continues the digest chain by one batch; it starts from an empty string."""
        ...


class Loop(ABC):
    """One model, its optimizer, and the loop over its batches."""

    optimizer: torch.optim.AdamW
    gradients: Gradients

    def __init__(self, spec: LoopSettings, batches: BatchSource) -> None:
        """Prepares a loop from its first step. What inherits it sets `optimizer` and `gradients`
        of its model, on `device`.
        """
        self.settings, self.batches = spec, batches
        self.device = torch.device(spec.numerics.device)
        # Without padding a batch has another size at every step: that saves a CPU work and keeps a
        # GPU waiting.
        self.packed = self.device.type == "cpu"
        self.step = 0
        self.steps = steps_of(spec.budget, spec.batch_size)
        self.grid = grid_of(self.steps, spec.measure.points)
        self.measured = frozenset(self.grid)
        self.chain = ""
        self.chains: dict[int, str] = {}
        self.ledger = Ledger()
        self.sums: dict[str, Term] = {}
        self.note_sums: dict[str, Tensor] = {}
        self.finite = torch.ones((), dtype=torch.bool, device=self.device)
        self._process = psutil.Process()

    @abstractmethod
    def forward(self, batch: Any, step: int) -> tuple[Losses, Tensor]:
        """Returns the losses of a batch on the device, and what is minimised."""

    @abstractmethod
    def measure(self) -> dict[str, float]:
        """Returns training means since the last measurement, and validation values."""

    @abstractmethod
    def parts(self) -> Mapping[str, nn.Module]:
        """Returns name -> module of all that a snapshot holds besides the optimizer."""

    @abstractmethod
    def final(self) -> nn.Module:
        """Returns the module whose weights are kept when the budget is spent."""

    @abstractmethod
    def flops_per_sample(self) -> float:
        """Counts the FLOPs of a step, forward and backward, for one sample (`loop.flops`)."""

    @abstractmethod
    def before_step(self) -> None:
        """Is called before the forward pass of every step."""

    @abstractmethod
    def after_step(self) -> None:
        """Is called when a step has changed the weights."""

    def own(self, batch: Any) -> Any:
        """Returns what this process trains on of a batch: all of it, where it trains alone."""
        return batch

    def image_tokens(self, batch: Any) -> int:
        """Returns the image tokens of a batch, for the ledger."""
        return 0

    def precision(self) -> AbstractContextManager[object]:
        """Returns the context of forward passes: autocast to bfloat16 where the spec says so."""
        if self.settings.numerics.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def train(self, should_stop: Callable[[], bool]) -> Iterator[Measurement]:
        """Trains until the budget is spent; yields at the start, on the grid, and when stopped.

        Raises `DivergedError` at the first step whose loss or gradient is not finite, on a GPU at
        the measurement after it.
        """
        with settled():
            yield from self._train(should_stop)

    def _train(self, should_stop: Callable[[], bool]) -> Iterator[Measurement]:
        """Does what `train` says."""
        saved = checkpoints_of(self.steps, self.settings.measure)
        if self.step == 0:
            yield Measurement(step=0, values=self._measured(), checkpoint=False)
        while self.step < self.steps:
            if agreed(should_stop()):
                yield Measurement(step=self.step, values={}, checkpoint=True, stopped=True)
                return
            begun = time.perf_counter()
            self.one_step()
            self.ledger.train_seconds += time.perf_counter() - begun
            if self.step in self.measured:
                chains, self.chains = self.chains, {}
                values, due = self._measured(), self.step in saved
                yield Measurement(self.step, values, checkpoint=due, chains=chains)

    def _measured(self) -> dict[str, float]:
        """Measures in the first worker, alone; the others wait for it in their next step."""
        if rank():
            self.sums, self.note_sums = {}, {}
            return {}
        with alone():
            return self.measure()

    def one_step(self) -> None:
        """Does one step: forward, backward, clip, update. Also extends the chain of digests of the
        batches, and the ledger.
        """
        settings, step = self.settings.optimizer, self.step + 1
        batch = self.batches.at(self.step)
        self.chain = self.batches.after(self.chain, batch)
        self.ledger.text_tokens += int(batch.text_is_real_BL.sum())  # before it is on the device
        own = self.own(batch).to(self.device)
        rate = adamw.learning_rate(settings, step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.before_step()
        losses, loss = self.forward(own, step)
        self._note_memory()
        loss.backward()
        norms = self.gradients.norms()
        self._check(step, loss.detach(), norms["grad_norm"])
        self.gradients.clip(norms["grad_norm"], settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step = step
        if is_compared(step):
            self.chains[step] = self.chain
        self.after_step()
        self._count(batch, losses, norms)

    def _check(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Raises `DivergedError` where loss or gradient is not finite. On a GPU it looks only at
        steps that are measured, because each look waits for all work on the device.
        """
        self.finite = self.finite & torch.isfinite(loss + norm)
        measured = self.device.type == "cpu" or step in self.measured
        if measured and not bool(self.finite):
            raise DivergedError(f"step {step}: loss {float(loss)}, gradient norm {float(norm)}")

    def _count(self, batch: Any, losses: Losses, norms: dict[str, Tensor]) -> None:
        """Adds a step to the sums of the curves and to the ledger."""
        for name, term in losses.terms.items():
            term = term.detach()
            self.sums[name] = self.sums[name] + term if name in self.sums else term
        for name, value in {**losses.notes, **norms}.items():
            self.note_sums[name] = self.note_sums.get(name, 0) + value.detach()
        self.ledger.steps += 1
        self.ledger.samples += len(batch.ids_BL)
        self.ledger.image_tokens += self.image_tokens(batch)

    def _note_memory(self) -> None:
        """Keeps the peak of memory; called at the end of the forward pass, when most is held."""
        if self.device.type == "cuda":
            held = torch.cuda.max_memory_allocated(self.device)
        else:
            held = self._process.memory_info().rss
        self.ledger.peak_mib = max(self.ledger.peak_mib, held / 2**20)

    def means_since(self) -> dict[str, float]:
        """Returns the means of notes and gradient norms since the last measurement, as
        `train/grad_norm`, and the learning rate; nothing before the first step. Forgets the sums.
        """
        values: dict[str, float] = {}
        if self.sums:
            steps = self.step - max((s for s in self.measured if s < self.step), default=0)
            values |= {f"train/{n}": float(total) / steps for n, total in self.note_sums.items()}
            group = self.optimizer.param_groups[0]
            values["train/learning_rate"] = group["lr"] / group["rate"]
        self.sums, self.note_sums = {}, {}
        return values

    def snapshot(self) -> dict[str, Any]:
        """Returns all that the loop needs to go on, as tensors and plain values."""
        return {
            **{name: part.state_dict() for name, part in self.parts().items()},
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "chain": self.chain,
            "chains": self.chains,
            "ledger": self.ledger.as_json(),
            "sums": {name: dataclasses.asdict(term) for name, term in self.sums.items()},
            "note_sums": self.note_sums,
            "finite": self.finite,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Puts the loop where it was when `snapshot` was taken."""
        self.step = snapshot["step"]
        for name, part in self.parts().items():
            part.load_state_dict(snapshot[name])
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self.chain = snapshot["chain"]
        self.chains = dict(snapshot.get("chains", {}))  # checkpoints of before had none
        self.ledger = Ledger(**snapshot["ledger"])
        self.sums = {
            name: Term(**{k: v.to(self.device) for k, v in parts.items()})
            for name, parts in snapshot["sums"].items()
        }
        self.note_sums = {k: v.to(self.device) for k, v in snapshot["note_sums"].items()}
        self.finite = snapshot["finite"].to(self.device)
