"""A step on a GPU is played through without one: tensors that hold no values, but know a device.

They refuse to be mixed with those of another device, and to be asked for a value: so a step that
would stop on a GPU, or wait for it, fails here. What kernels compute is shown on a GPU alone, by
`make gpu-check`; the backward pass too, which is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

from harness.runs.run import _no_memory
from harness.training.loop import numerics
from harness.training.loop import optimizer as adamw
from harness.training.loop.gradients import Gradients
from harness.training.loop.trainer import Trainer
from harness.training.settings.loop import Numerics
from tests.training.objectives.conftest import (
    FULL,
    batches,
    corpus,
    every_design,
    for_design,
    make,
    trainer,
)

__all__ = ["batches", "corpus", "make", "trainer"]


class Drawing(torch.Generator):
    """A generator for whatever device: no number is drawn."""

    def __new__(cls, device: object = None) -> Drawing:
        return super().__new__(cls)


@pytest.fixture
def no_values(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within it tensors hold no values; torch without CUDA can neither pin nor draw for a GPU."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    draw = torch.multinomial
    monkeypatch.setattr(
        torch, "multinomial", lambda weights, count, generator: draw(weights, count)
    )
    monkeypatch.setattr("harness.training.loop.trainer.torch.Generator", Drawing)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def moved(trainer: Trainer) -> Trainer:
    """Brings a trainer to the GPU, as its constructor would."""
    trainer.device, trainer.packed = torch.device("cuda"), False
    trainer.design.to(trainer.device)
    trainer.state.to(trainer.device)
    trainer.finite = trainer.finite.to(trainer.device)
    trainer.optimizer = adamw.build(
        trainer.spec.optimizer, trainer.design, trainer.state, fused=True
    )
    trainer.gradients = Gradients.of_design(trainer.design, trainer.state)
    return trainer


def step(trainer: Trainer, batch: Any, number: int) -> None:
    """Does what `Loop.one_step` does on the device, but for the backward pass."""
    trainer.before_step()
    losses, loss = trainer.forward(batch.to(trainer.device), number)
    assert loss.device.type == "cuda"
    for group in trainer.optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    norms = trainer.gradients.norms()
    trainer._check(number, loss.detach(), norms["grad_norm"])
    trainer.gradients.clip(norms["grad_norm"], 1.0)
    trainer.optimizer.step()
    trainer.after_step()
    trainer._count(batch, losses, norms)


@pytest.mark.slow
@every_design
def test_a_step_mixes_no_devices_and_waits_for_nothing(
    name: str, trainer: Callable[..., Trainer], request: pytest.FixtureRequest
) -> None:
    ready = trainer(name, for_design(name))
    fed = [ready.batches.at(0), ready.batches.at(1)]
    request.getfixturevalue("no_values")
    moved(ready)
    for number, batch in enumerate(fed, 1):  # the second adds to sums, and finds pairs in the queue
        step(ready, batch, number)


@pytest.mark.slow
def test_a_step_that_asks_for_a_value_is_noticed(
    trainer: Callable[..., Trainer], request: pytest.FixtureRequest
) -> None:
    ready = trainer("split_bert", FULL)
    batch = ready.batches.at(0)
    request.getfixturevalue("no_values")
    moved(ready).packed = True  # packing counts the words of a batch
    with pytest.raises(DynamicOutputShapeException):
        step(ready, batch, 1)


def test_what_is_not_deterministic_stops_a_run_on_a_gpu_and_warns_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch's attention has a deterministic backward on a GPU and uses it only in this mode."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    try:
        numerics.prepare(Numerics(device="cuda"))
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.backends.cudnn.allow_tf32
    finally:
        numerics.prepare(Numerics())
    assert torch.is_deterministic_algorithms_warn_only_enabled()


@pytest.mark.parametrize(
    ("message", "memory"),
    [
        ("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory", True),
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("CUDA error: device-side assert triggered", False),
    ],
)
def test_lacking_memory_is_known_by_what_torch_says(message: str, memory: bool) -> None:
    assert _no_memory(RuntimeError(message)) == memory
