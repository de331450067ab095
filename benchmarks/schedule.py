"""What does scheduling cost? Many runs that only wait, on Ray's workers, timed by the clock.

A stand-in for training notes its step every second, as a run does, and ends after so many seconds;
imports are those of a real run. What the clock shows beyond runs x seconds / runs at once, from the
first run's start to the last one's end, is scheduling; opening Ray and the first worker's start are
printed apart. Asked for: under 5 % at 60 runs of 20 s. Waiting costs no processor, so little else
disturbs it; the load stands in the line all the same.

    python benchmarks/schedule.py [--runs 60] [--seconds 20]
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import tempfile
import time
from pathlib import Path

import psutil

from harness.outputs.files import State
from harness.outputs.folder import RunFolder
from harness.scheduling.schedule import run_all
from harness.study import Budget, Numerics, RunSpec, Scenes
from harness.training.settings.spec import Asked, TrainSpec


def waits(spec: RunSpec, outputs: Path, *, seconds: float) -> State:
    """Stands in for `harness.runs.run.execute`: imports what it does, and waits."""
    from harness.runs import run  # seconds in a worker's first run, nothing in its others

    assert run.STATUS_EVERY
    begun = time.time()
    folder = RunFolder(outputs, spec.train_key())
    folder.path.mkdir(parents=True, exist_ok=True)
    steps = math.ceil(seconds)
    with folder.lock():
        (folder.path / "begun").write_text(repr(begun))
        ends = time.time() + seconds
        for step in range(1, steps + 1):
            folder.set_status("running", step=step, steps=steps, durable=False)
            time.sleep(max(0.0, min(1.0, ends - time.time())))
        folder.set_status("done")
        (folder.path / "ended").write_text(repr(time.time()))
    return "done"


def spec_of(seed: int) -> RunSpec:
    """A run apart from the others by its seed alone."""
    return RunSpec(
        train=TrainSpec(
            design="any", config={}, data="", budget=Budget(steps=1), batch_size=2, seed=seed,
            numerics=Numerics(threads=1),
        ),
        asked=Asked(data=Scenes(), tasks=()),
    )  # fmt: skip


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--runs", type=int, default=60)
    words.add_argument("--seconds", type=float, default=20.0)
    asked = words.parse_args()
    specs = [spec_of(seed) for seed in range(asked.runs)]
    with tempfile.TemporaryDirectory() as scratch:
        outputs = Path(scratch)
        opened = time.time()
        states = run_all(specs, outputs, work=functools.partial(waits, seconds=asked.seconds))
        closed = time.time()
        if set(states.values()) != {"done"}:
            raise SystemExit(f"not all are done: {sorted(set(states.values()))}")
        begun = [float(file.read_text()) for file in outputs.glob("runs/*/begun")]
        ended = [float(file.read_text()) for file in outputs.glob("runs/*/ended")]
    at_once = psutil.cpu_count(logical=True) or 1
    ideal = math.ceil(asked.runs / at_once) * asked.seconds
    spent = max(ended) - min(begun)
    load = os.getloadavg()[0]
    print(
        f"{asked.runs} runs of {asked.seconds:g} s, {at_once} at once, load {load:.1f}: "
        f"{spent:.1f} s where {ideal:.1f} s are waited: {100 * (spent / ideal - 1):.1f} % more; "
        f"before the first run {min(begun) - opened:.1f} s, after the last "
        f"{closed - max(ended):.1f} s"
    )


if __name__ == "__main__":
    main()
