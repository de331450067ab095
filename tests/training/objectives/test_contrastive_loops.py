"""ITC against loops: teacher keys, queue, soft targets, identity; values and gradients."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from harness.training.objectives import itc as ours
from harness.training.objectives.forward import compared
from harness.training.settings.objectives import ITC
from tests.training.objectives import loops
from tests.training.objectives.situations import (
    Situation,
    close,
    one_situation,
    product_pairs,
    queue_by_loops,
    quick,
    situations,
    state_of,
    taught_of,
)

SAME = st.sampled_from(["positive", "masked", "negative"])
ALPHA = st.sampled_from([0.0, 0.25, 0.4, 1.0])


def settings_of(same: str, candidates: str, queue: int, start: str, alpha: float) -> ITC:
    fields = {
        "same": same,
        "candidates": candidates,
        "queue": queue,
        "queue_start": start,
        "distil": alpha,
    }
    return ITC.model_validate(fields)


def ours_of(situation: Situation, itc: ITC, dtype: torch.dtype, ramp: float) -> list[Tensor]:
    """Loss and its gradients for images, texts and temperature."""
    state = state_of(situation, itc, dtype)
    state.ramp = ramp
    rows = product_pairs(situation.rows, dtype)
    image, text = rows.image_NE.requires_grad_(), rows.text_NE.requires_grad_()
    asked = itc.candidates == "teacher" or itc.distil > 0
    taught = taught_of(situation, dtype) if asked else None
    both = compared((image, text), rows.identity, state, taught)
    alpha = itc.distil * ramp if asked else 0.0
    term, _ = ours.aligned(*both, state.temperature, itc, alpha)
    assert int(term.items) == 2 * len(situation.rows)
    term.loss.backward()
    return [term.loss.detach(), image.grad, text.grad, state.temperature.grad]


def naive_of(situation: Situation, itc: ITC, ramp: float) -> list[Tensor]:
    """The same by loops."""
    queue = queue_by_loops(state_of(situation, itc, torch.float32), situation, itc)
    learn = itc.candidates == "batch"
    others = situation.rows if learn else situation.teacher
    teacher = situation.teacher + queue if itc.distil else None
    rule = loops.Rule(itc.same, situation.temperature, itc.distil * ramp)
    loss, slopes = loops.itc(situation.rows, others + queue, rule, teacher, learn=learn)
    numbers = (loss, slopes.images, slopes.texts, slopes.temperature)
    return [torch.tensor(x, dtype=torch.float64) for x in numbers]


def hold(situation: Situation, itc: ITC, ramp: float) -> None:
    """Both precisions against the loops. A gradient's unit is 1 / temperature, a logit's slope."""
    units = (1.0, *[1 / situation.temperature] * 3)
    with torch.random.fork_rng():
        torch.manual_seed(5)  # of the queue's noise
        naive = naive_of(situation, itc, ramp)
        for dtype in (torch.float64, torch.float32):
            torch.manual_seed(5)
            mine = ours_of(situation, itc, dtype, ramp)
            for our, expected, unit in zip(mine, naive, units, strict=True):
                close(our.reshape(expected.shape), expected, unit)


@quick
@given(
    situations(),
    SAME,
    st.sampled_from([0, 1, 2, 3, 7, 11]),
    st.sampled_from(["empty", "noise"]),
    ALPHA,
)
def test_teacher_keys_queue_and_soft_targets(
    situation: Situation, same: str, queue: int, start: str, alpha: float
) -> None:
    """Queues are smaller and larger than the batch, rarely a multiple of it, full or not."""
    hold(situation, settings_of(same, "teacher", queue, start, alpha), 0.5)


@quick
@given(situations(pushes=0), SAME, ALPHA)
def test_keys_of_the_batch_that_learn_and_soft_targets(
    situation: Situation, same: str, alpha: float
) -> None:
    hold(situation, settings_of(same, "batch", 0, "empty", alpha), 1.0)


@pytest.mark.parametrize("same", ["positive", "masked", "negative"])
@pytest.mark.parametrize("size", [1, 2])
def test_all_of_one_identity(same: str, size: int) -> None:
    """Nothing is left to tell apart: no NaN in value or gradient."""
    image = torch.full((size, 3), 3**-0.5)
    one = [loops.Pair([row], row, 1, 1, (1,)) for row in image.tolist()]
    situation = Situation(one, one, [one, one], 0.07)
    hold(situation, settings_of(same, "teacher", 3, "empty", 0.4), 1.0)


def test_parts_are_the_loss_at_alpha_0_and_1() -> None:
    """`itc_hard_loss` and `itc_distil_loss`, whatever alpha is."""
    situation = one_situation()
    itc = settings_of("positive", "teacher", 4, "empty", 0.4)
    state, rows = state_of(situation, itc, torch.float64), product_pairs(situation.rows)
    taught = taught_of(situation, torch.float64)
    both = compared((rows.image_NE, rows.text_NE), rows.identity, state, taught)
    losses = {a: ours.aligned(*both, state.temperature, itc, a)[0].loss for a in (0.0, 0.4, 1.0)}
    parts = ours.aligned(*both, state.temperature, itc, 0.4)[1]
    close(parts["itc_hard_loss"], losses[0.0])
    close(parts["itc_distil_loss"], losses[1.0])
    close(0.6 * parts["itc_hard_loss"] + 0.4 * parts["itc_distil_loss"], losses[0.4])
    assert not any(part.requires_grad for part in parts.values())
