"""Prices a plan's runs: counted FLOPs and parameters, a measured step of each cell."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

from architectures.contract import FusionDesign
from harness.planning.plan import Plan
from harness.training.data.corpus import Corpus
from harness.training.loop.budget import steps_of
from harness.training.settings.spec import RunSpec
from harness.training.settings.tasks import TaskSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """An estimate says what one cell will cost at one seed."""

    cell: str
    parameters: int
    flops_per_sample: float
    """Training: forward and backward, all objectives."""
    finetuning_flops: float
    """Of all fine-tunings of a run, from their first step to the last."""
    steps: int
    """Optimizer steps."""
    seconds: float
    """Training steps, and those of fine-tuning, from a measured step of each; scoring comes on
    top."""
    disk_mib: float
    """What is kept at the end; three times that while it trains, four where the final weights are a
    mean."""
    measured_rows: int
    """Batch of the measured step; smaller than the study's where that would take long."""


COMFORTABLE_FLOPS = 1e12
"""A measured step above this many FLOPs is measured on fewer rows and scaled up."""


def estimates(
    planned: Plan, corpora: Mapping[str, Corpus], say: Callable[[str], object] = str
) -> list[Estimate]:
    """Returns the cost of every cell: counted FLOPs and parameters, one measured step of each.

    `corpora`: cell -> its data (`prepare.prepared`).
    """
    first = {row.cell.name: row.spec for row in reversed(planned.rows)}
    costs = []
    for cell in corpora:
        say(f"pricing {cell}: counting, and a measured step")
        costs.append(_estimate(cell, first[cell], corpora[cell]))
    return costs


def _estimate(cell: str, spec: RunSpec, corpus: Corpus) -> Estimate:
    from harness.runs.assemble import (
        build_design,
        counted_cost,
        counted_flops,
        training_batches,
    )
    from harness.training.loop import numerics
    from harness.training.loop.trainer import Trainer

    numerics.prepare(spec.train.numerics)
    counted = counted_cost(spec, corpus)
    flops = counted_flops(spec, corpus)
    rows = max(2, min(spec.train.batch_size, int(COMFORTABLE_FLOPS / flops)))
    train = spec.train.model_copy(update={"batch_size": rows})
    small = spec.model_copy(update={"train": train})
    design = build_design(small, corpus.tokenizer.vocabulary)
    trainer = Trainer(small.train, design, training_batches(small, corpus), [])
    trainer.one_step()
    begun = time.perf_counter()
    trainer.one_step()
    seconds = (time.perf_counter() - begun) * spec.train.batch_size / rows
    steps = steps_of(spec.train.budget, spec.train.batch_size)
    learnt = {small.finetune_key(task): task for task in spec.asked.tasks if task.learning}
    finetunings = [_finetuning(design, corpus, task, small) for task in learnt.values()]
    return Estimate(
        cell=cell,
        parameters=counted.parameters,
        flops_per_sample=flops,
        finetuning_flops=sum(flops for flops, _ in finetunings),
        steps=steps,
        seconds=seconds * steps + sum(seconds for _, seconds in finetunings),
        disk_mib=counted.parameters * 4 * (1 + len(learnt)) / 2**20,
        measured_rows=rows,
    )


def _finetuning(
    design: FusionDesign, corpus: Corpus, task: TaskSpec, spec: RunSpec
) -> tuple[float, float]:
    """Returns the FLOPs of a task's fine-tuning, and its seconds, from a measured step of at most
    as many rows as the measured step of training."""
    from harness.runs.finetuning import loop_of

    finetune = task.learning
    assert finetune is not None
    rows = min(finetune.batch_size, max(2, spec.train.batch_size))
    loop = loop_of(design, corpus, task.with_field("finetune.batch_size", rows), spec)
    loop.one_step()
    begun = time.perf_counter()
    loop.one_step()
    seconds = (time.perf_counter() - begun) * finetune.batch_size / rows
    steps = steps_of(finetune.budget, finetune.batch_size)
    return loop.flops_per_sample() * finetune.batch_size * steps, seconds * steps
