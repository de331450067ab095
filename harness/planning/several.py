"""Refuses, before anything is spent, what several workers of one run could not do as one does."""

from __future__ import annotations

from collections.abc import Iterator

from architectures.frozen import SettingError
from harness.planning.plan import Plan
from harness.training.settings.loop import Freeze
from harness.training.settings.spec import RunSpec

ANY_WORDS = 100
"""Size of a vocabulary, where it does not matter."""


def refuse_several(planned: Plan, *, local: bool = False) -> None:
    """Raises `SettingError` for the first cell whose runs have several workers and cannot, and says
    why. `local`: whether they are to be done without Ray.
    """
    cells = {row.cell.name: row.spec for row in planned.rows}
    for name, spec in cells.items():
        if spec.train.numerics.workers > 1:
            for reason in _reasons(spec, local=local):
                raise SettingError(f"cell {name!r}: {reason}")


def _reasons(spec: RunSpec, *, local: bool) -> Iterator[str]:
    train, workers = spec.train, spec.train.numerics.workers
    if local:
        yield f"numerics.workers is {workers}, which Ray starts: leave out --local"
    if train.batch_size % workers:
        yield (
            f"a batch of {train.batch_size} pairs is not divided equally among {workers} workers; "
            "change batch_size or numerics.workers"
        )
    if train.budget.unit == "seconds":
        yield (
            f"a budget in seconds is timed in one process, and numerics.workers is {workers}; "
            "name samples, steps or flops"
        )
    if train.freeze != Freeze():
        yield (
            f"freeze: what is frozen is run in one process, and numerics.workers is {workers}; set "
            "one of the two back"
        )
    if layer := _over_the_batch(spec):
        yield (
            f"{train.design} normalises over the rows of a batch ({layer}), of which each worker "
            f"has a part; set numerics.workers to 1, or normalise by row or with SyncBatchNorm"
        )


def _over_the_batch(spec: RunSpec) -> str:
    """Returns the name of the first layer whose outputs depend on the other rows of a batch."""
    import torch
    from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

    from architectures import build

    with torch.device("meta"):
        design = build.construct(spec.train.design, spec.config, spec.backbone, ANY_WORDS)
    for name, module in design.named_modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm):
            return name
    return ""
