"""Does a design cost more time than the class of transformers it equals?

The same weights, through the published names, and the same batch of pictures and padded texts;
forward, a loss over the states that the class gives, and backward. Each side has a process and a
thread of its own; they take turns, a few steps each, and the seconds are those that the process
itself had the core, so that a busy machine disturbs little.
Attention is what transformers takes by default (sdpa where the class has it), except for
BridgeTower, whose class is right with eager only.
Guess: 0.9 to 1.0, since both are mostly the same matrix products. Cost: half a minute a design.

    python benchmarks/designs.py [NAME ...] [--rounds 15] [--steps 2] [--width 192] [--layers 6]

One line a design: the class it equals, milliseconds a step of the class and of ours, and the ratio
ours / theirs, median and range over rounds. `--reads` adds a line for designs that fuse: ours
when it computes only what ITM and MLM read. Exits 1 where the two losses differ.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import statistics
import subprocess
import sys
import time

import torch
from design_cases import CASES, Batch, Case, Sizes, read
from torch import Tensor


def work(case: Case, side: str, sizes: Sizes, steps: int) -> None:
    """One side: prints its loss, then for every line it is given the seconds of a step."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, run = case.theirs(sizes), case.run_theirs
    if side != "theirs":
        model, run = case.ours(sizes, model), case.run_ours if side == "ours" else read
    model.train()
    torch.manual_seed(1)
    batch = Batch.of(sizes)

    def step() -> Tensor:
        model.zero_grad(set_to_none=True)
        loss = torch.stack([states.square().mean() for states in run(model, batch)]).sum()
        loss.backward()
        return loss.detach()

    print(float([step() for _ in range(3)][-1]), flush=True)
    for _ in sys.stdin:
        begun = time.process_time()
        for _ in range(steps):
            step()
        print((time.process_time() - begun) / steps, flush=True)


class Worker:
    """A process that takes its turn when asked."""

    def __init__(self, name: str, side: str) -> None:
        command = [sys.executable, "-W", "ignore", *sys.argv, "--worker", name, side]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"},
        )  # fmt: skip
        self.loss = self._number()

    def turn(self) -> float:
        """Seconds of a step."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._number()

    def _number(self) -> float:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended: {' '.join(map(str, self.process.args))}")
        return float(line)

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(name: str, rounds: int, *, reads: bool) -> bool:
    """Prints the lines of one case; whether both sides compute the same."""
    sides = ("theirs", "ours", "reads") if reads and CASES[name].fuses else ("theirs", "ours")
    workers = {side: Worker(name, side) for side in sides}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for i in range(rounds):
        for side in sides if i % 2 else sides[::-1]:
            seconds[side].append(workers[side].turn())
    for worker in workers.values():
        worker.end()
    theirs = seconds["theirs"]
    for side in sides[1:]:
        ratios = [ours / other for ours, other in zip(seconds[side], theirs, strict=True)]
        label = name if side == "ours" else "  only what is read"
        print(
            f"{label:26} {CASES[name].reference:17} {1e3 * statistics.median(theirs):8.1f} "
            f"{1e3 * statistics.median(seconds[side]):8.1f} {statistics.median(ratios):9.3f}   "
            f"{min(ratios):.3f} to {max(ratios):.3f}",
            flush=True,
        )
    same = math.isclose(workers["ours"].loss, workers["theirs"].loss, rel_tol=1e-4)
    if not same:
        print(f"  losses differ: {workers['ours'].loss}, theirs {workers['theirs'].loss}")
    return same


def main() -> int:
    """The exit status."""
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}")
    words.add_argument("--rounds", type=int, default=15)
    words.add_argument("--steps", type=int, default=2, help="in a turn")
    words.add_argument("--reads", action="store_true", help="also what ITM and MLM read alone")
    words.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    for field in dataclasses.fields(Sizes):
        words.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default)
    given = words.parse_args()
    sizes = Sizes(**{field.name: getattr(given, field.name) for field in dataclasses.fields(Sizes)})
    if given.worker:
        name, side = given.worker
        work(CASES[name], side, sizes, given.steps)
        return 0
    if sizes.width % 64:
        words.error("--width must be a multiple of 64, BridgeTower's columns of a head")
    unknown = [name for name in given.names if name not in CASES]
    if unknown:
        words.error(f"unknown {unknown[0]!r}; known: {', '.join(CASES)}")
    print(f"{'design':26} {'class':17} {'ms theirs':>8} {'ms ours':>8} {'ratio':>9}   range")
    same = [measure(name, given.rounds, reads=given.reads) for name in given.names or CASES]
    return int(not all(same))


if __name__ == "__main__":
    sys.exit(main())
