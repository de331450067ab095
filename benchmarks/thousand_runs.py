"""How long do the commands take that read a study of 1,000 finished runs?

One tiny run is trained; its records, rewritten under the train key of every other run of the study
by the writers that runs use, make the rest: 20 curves of 200 points each. Then every command runs
as a process of its own, timed from outside, with the most memory that it held. Asked for: status in
2 s, results in 5 s, the report in 60 s and 1 GB, publishing in 0.1 s a run. Say what else the
machine did: the load stands in the first line.

    python benchmarks/thousand_runs.py [--cells 20] [--seeds 50] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.lab import Lab
from harness.outputs.files import write_json
from harness.outputs.folder import RunFolder
from harness.outputs.measured import MeasuredLine
from harness.outputs.records import (
    Certificate,
    Environment,
    LedgerRecord,
)
from harness.study import Budget, Measure, Retrieval, Scenes, Study, Variant, grid, scale
from harness.training.settings.spec import RunSpec

POINTS, CURVES = 200, 20
NAME = "thousand"
LOAD = "from pathlib import Path; from harness.lab import Lab; Lab(Path({!r})).results({!r})"
COMMAND = "from harness.commands.main import app; app()"


def study(cells: int, seeds: int) -> Study:
    """A study of cells x seeds runs whose own training takes a second."""
    rates = [1e-4 * 1.1**i for i in range(cells)]
    asked = grid(Variant("split_bert", text_layers=1), {"optimizer.learning_rate": rates})
    return Study(
        name=NAME,
        question="How long does reading take?",
        cells=asked,
        control=asked[0].name,
        axis="set.optimizer.learning_rate",
        backbone=scale("nano").model_copy(
            update={"text_layers": 2, "image_layers": 1, "text_width": 16, "text_mlp": 32,
                    "image_width": 16, "text_heads": 2, "image_heads": 2},
        ),
        data=Scenes(train=96, val=24, test=24),
        budget=Budget(steps=POINTS),
        batch_size=8,
        seeds=tuple(range(seeds)),
        measure=Measure(points=POINTS, items=24, checkpoints=1),
        tasks=(Retrieval(rerank=4),),
    )  # fmt: skip


def write(folder: RunFolder, spec: RunSpec, real: RunFolder, names: list[str]) -> None:
    """Writes a finished run like the real one, with curves and scores of its own."""
    drawn = random.Random(folder.key)
    folder.path.mkdir(parents=True)
    write_json(folder.spec, spec.model_dump(mode="json"))
    Certificate.read(real.certificate).write(folder.certificate, durable=False)
    Environment.read(real.environment).write(folder.environment, durable=False)
    LedgerRecord.read(real.ledger).write(folder.ledger, durable=False)
    folder.graph.write_bytes(real.graph.read_bytes())
    (folder.path / "weights.pt").touch()
    begun = time.time()
    for step in range(1, POINTS + 1):
        values = {name: math.exp(-step / 90) + drawn.gauss(0, 0.05) for name in names}
        folder.append_metrics(
            MeasuredLine(
                step=step,
                samples=8 * step,
                seconds=round(0.01 * step, 4),
                time=begun + step,
                values=values,
                chain=f"{drawn.getrandbits(64):016x}",
            )
        )
    for record in real.score_records():
        scores = [
            score.__class__(**{**vars(score), "value": score.value + drawn.gauss(0, 5)})
            for score in record.scores
        ]
        record.model_copy(update={"scores": tuple(scores)}).write(
            folder.score_file(record.task), durable=False
        )
    folder.set_status("done", durable=False, step=POINTS, steps=POINTS, checkpoint_step=POINTS)


def made(outputs: Path, cells: int, seeds: int) -> None:
    """Makes the study's folders."""
    from harness.planning.plan import plan, write_study  # torch: a child's memory would count it

    asked = study(cells, seeds)
    planned = plan(asked, outputs)
    first, *others = planned.specs
    Lab(outputs, f"sqlite:///{outputs}/thrown_away.db").run(
        asked.model_copy(update={"cells": asked.cells[:1], "seeds": asked.seeds[:1]}), local=True
    )
    (outputs / "thrown_away.db").unlink()
    real = RunFolder(outputs, first.train_key())
    names = list(real.metric_lines()[-1].values)
    names += [f"val/more_{i}" for i in range(CURVES - len(names))]
    for spec in others:
        write(RunFolder(outputs, spec.train_key()), spec, real, names[:CURVES])
    write_study(planned, outputs)


def timed(*arguments: str) -> tuple[float, float, float]:
    """Seconds by the clock, seconds of processor, and MiB that a process held at the most."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", *arguments],
                               stdout=subprocess.DEVNULL)  # fmt: skip
    _, code, usage = os.wait4(process.pid, 0)
    process.returncode = code
    if code:
        raise SystemExit(f"{arguments[1:]} ended with {code}")
    spent = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - begun, spent, usage.ru_maxrss / 1024


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--cells", type=int, default=20)
    words.add_argument("--seeds", type=int, default=50)
    words.add_argument("--keep", type=Path, help="a folder for the runs; used again if there")
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        outputs = (given.keep or Path(scratch)).resolve()
        there = [path for path in outputs.glob("runs/*") if path.is_dir()]
        runs = len(there) or given.cells * given.seeds
        if not there:  # in a process of its own: the memory of a child counts from its parent's
            spawned = multiprocessing.get_context("spawn").Process(
                target=made, args=(outputs, given.cells, given.seeds)
            )
            spawned.start()
            spawned.join()
        print(f"{runs} runs; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
        where = ["--outputs", str(outputs)]
        commands = {
            "status": (COMMAND, "status", NAME, *where),
            "results": (LOAD.format(str(outputs), NAME),),
            "publish": (COMMAND, "publish", NAME, *where),
            "publish again": (COMMAND, "publish", NAME, *where),
            "report": (COMMAND, "report", NAME, *where),
        }
        (outputs / "mlflow.db").unlink(missing_ok=True)
        for name, arguments in commands.items():
            seconds, processor, mib = timed(*arguments)
            print(
                f"{name:14} {seconds:7.2f} s  {processor:7.2f} s of processor  {mib:6.0f} MiB"
                f"  {1000 * seconds / runs:7.1f} ms a run",
                flush=True,
            )


if __name__ == "__main__":
    main()
