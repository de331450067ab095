"""The ledger counts what a run spent, in every unit."""

from __future__ import annotations

import dataclasses

from pydantic import JsonValue


@dataclasses.dataclass
class Ledger:
    """What a run spent: the unit of its budget and all others."""

    steps: int = 0
    samples: int = 0
    text_tokens: int = 0
    """Real text tokens, without padding."""
    image_tokens: int = 0
    flops: float = 0.0
    """Counted, not measured: FLOPs per training sample (`loop.flops`) x samples."""
    train_seconds: float = 0.0
    """Wall time of training steps alone: without start-up, measuring and scoring."""
    device_seconds: float = 0.0
    """Wall time of the whole run on its device, over all its attempts, times its workers."""
    peak_mib: float = 0.0
    """Largest memory at the end of a forward pass, in MiB: allocated on a GPU; on a CPU resident in
    the process, part of which may be left from runs that the same worker did before."""
    parameters: int = 0
    trainable: int = 0
    flops_per_sample: float = 0.0
    forward_flops: float = 0.0
    """Forward FLOPs of one pair through towers and fusion."""
    tuning_trials: int = 0
    """Trials of the cell's tuning; the study fills it in, the run leaves it 0."""
    tuning_seconds: float = 0.0
    finetuning_flops: float = 0.0
    """What its tasks were taught by, each with a ledger of its own; filled in where results are
    read, the run leaves it 0."""
    finetuning_seconds: float = 0.0
    """Wall time of these steps alone."""
    energy_joules: float | None = None
    """Of the processor's packages, and of the GPU on cuda, over the whole run and all its attempts,
    whatever else ran there; None where the machine does not tell it."""
    attempts: int = 0

    def as_json(self) -> dict[str, JsonValue]:
        return dataclasses.asdict(self)
