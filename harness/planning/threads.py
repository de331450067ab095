"""Chooses the threads of a study's runs by measuring: several runs side by side, or one on all
processors.

Runs of the study's control train at once in as many processes as fit and the study has runs, for
each number of threads that divides the processors. The fastest together is taken for the whole
study, since bits depend on the number of threads, and written to `outputs/budgets/`: it is read
from there ever after.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from architectures.frozen import SettingError
from harness.outputs.files import exclusive
from harness.outputs.records import Record, read_if_there
from harness.planning.budgets import BUSY, LONG_ENOUGH, WARMING, key_of
from harness.planning.plan import Plan, plan
from harness.study import Study
from harness.training.settings.loop import Budget
from harness.training.settings.spec import RunSpec

GAIN = 0.02
"""Part by which more threads for each run must be faster together to be taken."""


class Threads(Record):
    """Says how fast runs train together by their number of threads: `budgets/<key>.json`."""

    remedy: ClassVar[str] = (
        "delete it: it is measured again, and where other threads are faster the runs are others"
    )
    threads: int
    """Holds the choice, for each run."""
    samples_a_second: dict[int, float]
    """Threads of each run -> training samples a second of all runs together."""
    processors: int
    design: str
    load: float = 0.0
    """How many processes ran or waited on this machine just before."""


def threaded(study: Study, outputs: Path, say: Callable[[str], object] = str) -> Study:
    """Returns the study with a number of threads: its own, or the kept or measured choice where it
    says 0.

    Raises `SettingError` where they cannot be measured, or a cell alone says 0, `Locked` where
    another process measures, and `DamagedFile`.
    """
    one = study.with_field("numerics.threads", 1)
    if alone := [c.name for c in study.cells if not one.settings_of(c).numerics.threads]:
        raise SettingError(
            f"study {study.name!r}, cell {alone[0]!r}: numerics.threads 0 is measured once, for "
            "all cells: set it for the study, or name a number"
        )
    if study.numerics.threads:
        return study
    if study.numerics.device != "cpu" or study.numerics.workers > 1:
        raise SettingError(
            "numerics.threads 0 measures runs of one process on the CPU; name a number where "
            f"numerics.device is {study.numerics.device} and numerics.workers "
            f"{study.numerics.workers}"
        )
    spec = _control(plan(study.model_copy(update={"seeds": study.seeds[:1]}), outputs))
    path = _file(outputs, spec)
    choice = read_if_there(Threads, path)
    if choice is None:
        with exclusive(outputs / "budgets" / "lock", "threads or a step are being measured"):
            runs = len(study.cells) * len(study.seeds)
            choice = _measured(spec, outputs, runs, say)
            choice.write(path)
    return study.with_field("numerics.threads", choice.threads)


def notes(planned: Plan, outputs: Path) -> Iterator[str]:
    """Says how fast runs are side by side and one at a time, where it was measured."""
    spec = _control(planned)
    choice = read_if_there(Threads, _file(outputs, spec))
    if choice is None or choice.threads != spec.train.numerics.threads:
        return
    rates = ", ".join(
        f"{choice.processors // threads} side by side with {threads} make {rate:,.0f} samples/s"
        for threads, rate in sorted(choice.samples_a_second.items())
    )
    best = choice.samples_a_second[choice.threads]
    gain = best / choice.samples_a_second[max(choice.samples_a_second)]
    line = f"threads of a run of {choice.design}: {rates}; {choice.threads} taken"
    line += f" ({gain:.2f} times one run at a time), kept in {_file(outputs, spec)}"
    if choice.load > BUSY:
        line += f"; {choice.load:.1f} other processes ran meanwhile: delete it to measure again"
    yield line


def _control(planned: Plan) -> RunSpec:
    """Returns a run of the study's control."""
    return next(row.spec for row in planned.rows if row.cell.name == planned.study.control)


def _file(outputs: Path, spec: RunSpec) -> Path:
    return outputs / "budgets" / f"{key_of(spec, 'threads')}.json"


def _measured(spec: RunSpec, outputs: Path, runs: int, say: Callable[[str], object]) -> Threads:
    """Measures each number of threads; `runs`: how many the study has."""
    from harness.runs.assemble import load_data

    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    load_data(spec, outputs)  # decoded once, before several processes want it
    divisors = [n for n in range(1, processors + 1) if processors % n == 0]
    rates = {}
    for threads in (n for n in divisors if n == processors or processors // n <= runs):
        say(f"measuring {processors // threads} runs side by side, {threads} threads each")
        rates[threads] = _together(spec, outputs, threads, processors // threads)
    threads = min(rates)
    for more in sorted(rates):
        threads = more if rates[more] > (1 + GAIN) * rates[threads] else threads
    return Threads(
        threads=threads,
        samples_a_second=rates,
        processors=processors,
        design=spec.train.design,
        load=load,
    )


def _together(spec: RunSpec, outputs: Path, threads: int, runs: int) -> float:
    """Returns samples a second of so many runs at once, each in a process of its own that begins
    when all are ready."""
    numerics = spec.train.numerics.model_copy(update={"threads": threads})
    train = spec.train.model_copy(update={"numerics": numerics, "budget": Budget(steps=10**6)})
    text = spec.model_copy(update={"train": train}).model_dump_json() + "\n"
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    pins = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "harness.planning.threads", str(outputs)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=os.environ | pins | {"PYTHONPATH": paths},
                )
            )
            for _ in range(runs)
        ]
        for process in processes:
            stack.callback(process.kill)
        for process in processes:
            assert process.stdin
            process.stdin.write(text)
            process.stdin.flush()
        _lines(processes)  # each is ready
        for process in processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        return sum(map(float, _lines(processes)))


def _lines(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Returns the next line of each process. Raises `SettingError` with the last words of one that
    ended instead."""
    lines = []
    for process in processes:
        assert process.stdout and process.stderr
        line = process.stdout.readline()
        if not line:
            words = process.stderr.read().strip().splitlines()
            raise SettingError(
                f"threads cannot be measured: {words[-1] if words else 'the process was killed'}; "
                "name a number in numerics.threads"
            )
        lines.append(line)
    return lines


def _measure_here() -> None:
    """Trains a run that stands on standard input, and writes its samples a second: what each of
    the processes does."""
    from harness.runs.assemble import build_design, load_data, training_batches
    from harness.training.loop import numerics
    from harness.training.loop.trainer import Trainer

    spec = RunSpec.model_validate_json(sys.stdin.readline())
    numerics.prepare(spec.train.numerics)
    corpus = load_data(spec, Path(sys.argv[1]))
    design = build_design(spec, corpus.tokenizer.vocabulary)
    trainer = Trainer(spec.train, design, training_batches(spec, corpus), [])
    for _ in range(WARMING):
        trainer.one_step()
    print("ready", flush=True)
    sys.stdin.readline()
    steps, begun = 0, time.perf_counter()
    while (seconds := time.perf_counter() - begun) < LONG_ENOUGH:
        trainer.one_step()
        steps += 1
    print(steps * spec.train.batch_size / seconds, flush=True)


if __name__ == "__main__":
    _measure_here()
