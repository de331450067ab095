"""ITC of several workers that train one model together: what a test starts in processes."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from harness.training.data.identity import Identity
from harness.training.objectives import itc as losses
from harness.training.objectives.forward import compared
from harness.training.objectives.gather import workers
from harness.training.objectives.queue import Queue
from harness.training.objectives.state import ObjectiveState
from harness.training.objectives.teacher import Taught
from harness.training.settings.objectives import ITC, Objectives

WORLD, ROWS, STEPS, WIDTH = 2, 3, 3, 4
TEACHER = {"candidates": "teacher", "queue": 7, "distil": 0.4}
CASES = {
    "batch": ITC(),
    "batch_distil": ITC(distil=0.4, same="masked"),
    "teacher": ITC.model_validate(TEACHER),
    "own_batch": ITC.model_validate({**TEACHER, "gather": False}),
}
"""The queue holds a whole step of 6 pairs and one of the step before."""


def unit(x: Tensor) -> Tensor:
    return nn.functional.normalize(x, dim=-1)


def identity_of(rows: slice, drawing: torch.Generator) -> Identity:
    """Few of each: pairs match across workers and steps."""
    numbers = torch.randint(9, (WORLD * ROWS, 4), generator=drawing)
    identity = Identity(
        group_B=numbers[:, 0], picture_B=numbers[:, 1], caption_B=numbers[:, 2],
        captions_BC=numbers[:, 2:],
    )  # fmt: skip
    return identity.map(lambda each: each[rows])


def trained(itc: ITC, rows: slice) -> list[list[Tensor]]:
    """Of every step the loss over the rows and the gradients of two towers and the temperature,
    averaged over the workers; then what the queue holds. Nothing is updated between.
    """
    drawing = torch.Generator().manual_seed(0)
    state = ObjectiveState(Objectives(), nn.Module())
    state.settings, state.ramp = Objectives(itc=itc), 0.5
    if itc.queue:
        state.queue = Queue(itc.queue, image=(WIDTH,), width=WIDTH, noise=None)
    state.double()
    student = torch.randn(2, 5, WIDTH, generator=drawing, dtype=torch.float64).requires_grad_()
    teacher = torch.randn(2, 5, WIDTH, generator=drawing, dtype=torch.float64)
    found = []
    for _ in range(STEPS):
        given = torch.randn(2, WORLD * ROWS, 5, generator=drawing, dtype=torch.float64)[:, rows]
        identity = identity_of(rows, drawing)
        image, text = unit(given @ student)
        taught = None
        if itc.distil:
            said = unit(given @ teacher)
            taught = Taught(image_BE=said[0], text_BE=said[1])
        both = compared((image, text), identity, state, taught)
        term, _ = losses.aligned(*both, state.temperature, itc, itc.distil * state.ramp)
        slopes = torch.autograd.grad(term.loss, [student, state.temperature])
        state.remember(taught, identity)
        found.append([averaged(x) for x in (term.loss.detach(), *slopes)])
    held = [] if state.queue is None else list(state.queue.buffers())
    return [*found, held]


def averaged(x: Tensor) -> Tensor:
    if workers() > 1:
        dist.all_reduce(x)
    return x / workers()


def one_worker(rank: int, folder: str) -> None:
    """Writes what it found for every case."""
    torch.set_num_threads(1)
    meeting = Path(folder, "meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORLD)
    rows = slice(rank * ROWS, (rank + 1) * ROWS)
    torch.save({n: trained(itc, rows) for n, itc in CASES.items()}, Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()
