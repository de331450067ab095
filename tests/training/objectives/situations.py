"""Random batches, teachers and queues for the losses, as loops see them and as the product does."""

from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import torch
from hypothesis import settings
from torch import Tensor, nn

from harness.training.data.identity import Identity
from harness.training.objectives.pairs import Pairs
from harness.training.objectives.queue import Queue
from harness.training.objectives.state import ObjectiveState
from harness.training.objectives.teacher import Taught
from harness.training.settings.objectives import ITC, Objectives
from tests.training.objectives.loops import Pair

WIDTH = 3
quick = settings(max_examples=30, deadline=None)


@dataclasses.dataclass
class Situation:
    """All features are float32 numbers held in float64."""

    rows: list[Pair]
    teacher: list[Pair]
    """The same pairs with the teacher's features."""
    earlier: list[list[Pair]]
    """Batches that went into the queue before, first to last."""
    temperature: float


def unit(drawing: torch.Generator, *shape: int) -> list:
    x = torch.randn(*shape, generator=drawing)
    return nn.functional.normalize(x, dim=-1).tolist()


def pairs(count: int, vectors: int, kinds: int, drawing: torch.Generator) -> list[Pair]:
    """Few `kinds` of groups, pictures and captions: many pairs are of the same thing."""

    def number(high: int) -> int:
        return int(torch.randint(high, (), generator=drawing))

    return [
        Pair(
            unit(drawing, vectors, WIDTH),
            unit(drawing, WIDTH),
            number(kinds),
            number(kinds),
            tuple(number(3 * kinds) for _ in range(1 + number(3))),
        )
        for _ in range(count)
    ]


@st.composite
def situations(draw: st.DrawFn, *, pushes: int = 3) -> Situation:
    drawing = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    size, vectors = draw(st.integers(2, 5)), draw(st.sampled_from([1, 1, 3]))
    kinds = draw(st.sampled_from([3, 8, 1000]))
    rows = pairs(size, vectors, kinds, drawing)
    features = pairs(size, vectors, kinds, drawing)
    teacher = [
        dataclasses.replace(row, image=other.image, text=other.text)
        for row, other in zip(rows, features, strict=True)
    ]
    earlier = [
        pairs(draw(st.integers(1, 5)), vectors, kinds, drawing)
        for _ in range(draw(st.integers(0, pushes)))
    ]
    temperature = float(torch.tensor(draw(st.floats(0.03, 0.5))))
    return Situation(rows, teacher, earlier, temperature)


def one_situation() -> Situation:
    """The same each time: three pairs and two batches before."""
    drawing = torch.Generator().manual_seed(3)
    first, second = pairs(3, 1, 4, drawing), pairs(3, 1, 4, drawing)
    teacher = [
        dataclasses.replace(row, image=other.image, text=other.text)
        for row, other in zip(first, second, strict=True)
    ]
    return Situation(first, teacher, [pairs(2, 1, 4, drawing) for _ in range(2)], 0.07)


def identity_of(rows: list[Pair]) -> Identity:
    """As the product holds them: captions padded with -1."""
    widest = max(4, *(len(row.captions) for row in rows))
    return Identity(
        group_B=torch.tensor([row.group for row in rows]),
        picture_B=torch.tensor([row.picture for row in rows]),
        caption_B=torch.tensor([row.captions[0] for row in rows]),
        captions_BC=torch.tensor(
            [[*row.captions, *[-1] * (widest - len(row.captions))] for row in rows]
        ),
    )


def image_shape(rows: list[Pair]) -> tuple[int, ...]:
    """The product gives a single vector no axis of its own."""
    vectors = len(rows[0].image)
    return (WIDTH,) if vectors == 1 else (vectors, WIDTH)


def product_pairs(rows: list[Pair], dtype: torch.dtype = torch.float64) -> Pairs:
    image = torch.tensor([row.image for row in rows], dtype=dtype)
    return Pairs(
        image_NE=image.reshape(len(rows), *image_shape(rows)),
        text_NE=torch.tensor([row.text for row in rows], dtype=dtype),
        identity=identity_of(rows),
    )


def state_of(situation: Situation, itc: ITC, dtype: torch.dtype) -> ObjectiveState:
    """What the objectives hold after the earlier batches; there is no design and so no twin."""
    state = ObjectiveState(Objectives(), nn.Module())
    state.settings = Objectives(itc=itc)
    if itc.queue:
        noise = torch.Generator() if itc.queue_start == "noise" else None
        state.queue = Queue(itc.queue, image=image_shape(situation.rows), width=WIDTH, noise=noise)
    state.to(dtype)
    for batch in situation.earlier if state.queue is not None else ():
        state.queue.push(product_pairs(batch, dtype))
    state.temperature = nn.Parameter(torch.tensor(situation.temperature, dtype=dtype))
    return state


def taught_of(situation: Situation, dtype: torch.dtype) -> Taught:
    teacher = product_pairs(situation.teacher, dtype)
    return Taught(image_BE=teacher.image_NE, text_BE=teacher.text_NE)


def queue_by_loops(state: ObjectiveState, situation: Situation, itc: ITC) -> list[Pair]:
    """What the queue holds, the oldest first: noise, as it was drawn, is overwritten first."""
    held: list[Pair] = []
    pushed = [pair for batch in situation.earlier for pair in batch]
    if itc.queue_start == "noise" and state.queue is not None:
        keys = state.queue.keys_Q3[:, 0]
        held = [
            Pair(
                state.queue.image_QE[i].reshape(-1, WIDTH).tolist(),
                state.queue.text_QE[i].tolist(),
            )
            for i in range(itc.queue)
            if int(keys[i]) == -2
        ]
    return (held + pushed)[-itc.queue :] if itc.queue else []


def close(ours: Tensor, naive: Tensor, unit: float = 1.0) -> None:
    """To 1e-9 in float64 and 1e-5 in float32 of the largest number, or of `unit` where all are
    smaller.
    """
    naive = naive.detach()
    limit = 1e-9 if ours.dtype == torch.float64 else 1e-5
    scale = max(unit, float(naive.abs().max())) if naive.numel() else unit
    torch.testing.assert_close(ours.detach().double(), naive, rtol=0, atol=limit * scale)
