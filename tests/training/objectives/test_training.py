"""The full objective in the training loop: what learns, what is kept, and the same bits again."""

from __future__ import annotations

import dataclasses
import io

import pytest
import torch

from harness.training.loop.trainer import Trainer
from harness.training.settings.objectives import Objectives
from tests.training.objectives.conftest import FULL, for_design


def steps(run: Trainer, count: int) -> list[float]:
    """Takes steps; the norm of each step's gradient."""
    found = []
    clip = run.gradients.clip

    def noting(norm: torch.Tensor, limit: float) -> None:
        found.append(float(norm))
        clip(norm, limit)

    run.gradients.clip = noting
    for _ in range(count):
        run.one_step()
    run.gradients.clip = clip
    return found


def bits(run: Trainer) -> dict[str, bytes]:
    """Of all weights and of all that the objectives remember."""
    both = {**run.design.state_dict(), **run.state.state_dict(prefix="state.")}
    extra = {role: str(value).encode() for role, value in both.items() if role.endswith("_state")}
    return extra | {r: v.numpy().tobytes() for r, v in both.items() if r not in extra}


def written(run: Trainer) -> dict:
    """A snapshot through a file, as safe as it can be read."""
    file = io.BytesIO()
    torch.save(run.snapshot(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(("start", "stops"), [("empty", (1, 2, 2)), ("noise", (3, 2))])
def test_stopped_and_resumed_is_the_same_to_the_last_bit(
    start: str, stops: tuple[int, ...], trainer
) -> None:
    """After one step, while the queue is not full, and later; the ramp ends between."""
    objectives = FULL.with_field("itc.queue_start", start).with_field("itc.queue", 13)
    objectives = objectives.with_field("teacher.ramp_epochs", 0.5)
    torch.manual_seed(1)  # of the noise
    whole = trainer("multiway", objectives, steps=5)
    snapshot = written(whole)
    norms, found = steps(whole, 5), []
    for count in stops:
        torch.manual_seed(count)  # another process
        run = trainer("multiway", objectives, steps=5)
        run.restore(snapshot)
        found += steps(run, count)
        snapshot = written(run)
    assert found == norms and bits(run) == bits(whole) and run.chain == whole.chain
    assert (whole.state.queue.filled, whole.state.queue.place) == (13, 25 % 13)
    assert whole.state.ramp == 1.0


UNTAUGHT = ("twin.design.heads.itm.", "twin.design.heads.lm.")


def test_what_is_in_optimizer_and_checkpoint(trainer) -> None:
    run = trainer("multiway", FULL)
    steps(run, 1)
    optimized = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    assert optimized == {id(p) for p in run.design.parameters()} | {id(run.state.temperature)}
    kept = set(run.snapshot()["state"])
    twin = {f"twin.design.{role}" for role, _ in run.design.named_parameters()}
    assert {role for role in twin if not role.startswith(UNTAUGHT)} <= kept
    queue = {f"queue.{n}" for n in ("image_QE", "text_QE", "keys_Q3", "captions_QC")}
    assert queue | {"temperature", "queue._extra_state"} <= kept


def test_the_design_draws_the_same_dropout_with_a_teacher_or_without(trainer) -> None:
    """In the first step alpha is 0: a teacher that is asked changes no bit of the gradient."""
    plain = Objectives()
    silent = plain.with_field("itc.distil", 0.4).with_field("mlm.distil", 0.4)
    runs = [trainer("multiway", objectives) for objectives in (plain, silent, plain)]
    runs[2].spec = runs[2].spec.model_copy(update={"seed": 1})  # other draws show
    norms = [steps(run, 1) for run in runs]
    assert runs[1].state.twin is not None and runs[1].state.twin.design.training
    assert norms[0] == norms[1] != norms[2]


def test_the_teacher_draws_other_dropout_than_the_design(trainer) -> None:
    """In step 1 with momentum 0 it has the design's weights, and still says something else."""
    run = trainer("multiway", FULL.with_field("teacher.momentum", 0.0))
    seen = []

    def note(module: torch.nn.Module, given: object, found: tuple[torch.Tensor, ...]) -> None:
        seen.append(found[1].detach())

    for design in (run.design, run.state.twin.design):
        design.heads["itc"].register_forward_hook(note)
    run.forward(run.batches.at(0), 1)
    assert len(seen) == 2 and not torch.equal(*seen)


def test_the_queue_takes_what_the_teacher_said_after_the_loss(trainer) -> None:
    """The own batch is in the queue from the next step on, oldest first."""
    run = trainer("multiway", FULL.with_field("itc.queue_start", "empty"))
    batches = [run.batches.at(step) for step in range(2)]
    run.forward(batches[0], 1)
    assert run.state.queue.filled == 5
    assert torch.equal(run.state.queue.kept().identity.picture_B, batches[0].identity.picture_B)
    run.forward(batches[1], 2)  # 8 places: the fourth and fifth of the first batch are left
    pictures = torch.cat([batch.identity.picture_B for batch in batches])
    assert set(run.state.queue.kept().identity.picture_B.tolist()) == set(pictures[2:].tolist())


def test_a_design_without_fusion_trains_with_teacher_and_queue(trainer) -> None:
    run = trainer("dual_encoder", for_design("dual_encoder"))
    assert dataclasses.asdict(run.ledger)["steps"] == 0
    assert all(norm > 0 for norm in steps(run, 2)) and run.ledger.steps == 2
