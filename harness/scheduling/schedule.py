"""Many runs: each once, on Ray's workers or in this process, watched until all have ended.

The run folders are the truth: a run that is done is skipped, an interrupted one goes on from its
checkpoint, one that failed is only tried again on request. Each run is one Ray core task. With
the address of a cluster, outputs must lie at a URL or on storage that all its nodes share, and the
project must be installed on each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from architectures.frozen import Frozen
from harness.outputs.files import State
from harness.scheduling.here import Here, Work
from harness.scheduling.on_ray import Workers, opened
from harness.scheduling.session import Hook, Session
from harness.training.settings.spec import RunSpec


class How(Frozen):
    """How runs are done; the same for `Lab.run`, `Lab.tune` and the command line."""

    local: bool = False
    """One at a time in this process, without Ray."""
    retry_failed: bool = False
    """Whether failed and diverged runs, and scores that failed, are tried again."""
    address: str | None = None
    """A Ray cluster's; null: a Ray of our own on this machine."""
    gpu_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of a GPU that a run on cuda takes."""


def run_all(
    specs: Sequence[RunSpec],
    outputs: Path,
    *,
    local: bool = False,
    retry_failed: bool = False,
    address: str | None = None,
    on_change: Hook | None = None,
    work: Work | None = None,
    labels: Mapping[str, str] | None = None,
    gpu_share: float = 1.0,
) -> dict[str, State]:
    """Bring every run to an end; returns train key -> state, in the order given.

    `local`: one at a time in this process, without Ray. `address`: a Ray cluster's; None: a Ray of
    our own on this machine. `labels`: train key -> what the terminal calls the run. `gpu_share`:
    part of a GPU that a run on cuda takes. What `on_change` raises does not end the runs: it is
    called once more after them, and raises then.

    Raises SettingError where a run could never start, SystemExit after Ctrl-C or SIGTERM.
    """
    outputs = outputs.resolve()
    session = Session(
        {spec.train_key(): spec for spec in specs},
        outputs,
        retry_failed=retry_failed,
        labels=labels,
        on_change=on_change,
    )
    if session.waiting and local:
        session.go(Here(outputs, work))
    elif session.waiting:
        with opened(address, max(spec.train.numerics.threads for spec in specs)):
            workers = Workers(outputs, work, gpu_share)
            for spec in specs:
                workers.slots(spec)  # says at once what could never start
            session.go(workers)
    return session.finish()
