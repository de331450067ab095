"""What does the harness cost a run? The same steps through Ray with tracking, and in a bare loop.

Guess: under 1 %: the driver wakes once a second, a run writes a line a second.
Two runs at a time on both sides, since that is how a study runs on two cores; bare and harness
alternate, and both measure the same curves. Timed from the first measurement to the last, so
measuring counts on both sides and start-up on neither; start-up is printed apart. Nothing else
should be running.

    python benchmarks/overhead.py [--rounds 3] [--steps 100]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.lab import Lab
from harness.outputs.folder import RunFolder
from harness.planning.plan import plan
from harness.study import Budget, Cell, Measure, Scenes, Study, Variant
from harness.training.settings.spec import RunSpec

BARE = """
import sys, time
from pathlib import Path
from harness.runs.assemble import build_design, load_data, training_batches
from harness.runs.run import trainer_of
from harness.study import RunSpec
from harness.training.loop import numerics

spec = RunSpec.model_validate_json(Path(sys.argv[1]).read_text())
train = spec.train
numerics.prepare(train.numerics)
corpus = load_data(spec, Path(sys.argv[2]))
design = build_design(spec, corpus.tokenizer.vocabulary)
trainer = trainer_of(spec, design, corpus, training_batches(spec, corpus))
trainer.measure()
begun = time.perf_counter()
for step in range(1, trainer.steps + 1):
    trainer.one_step()
    if step % (trainer.steps // train.measure.points) == 0:
        trainer.measure()
print(time.perf_counter() - begun)
"""


def study(steps: int, seeds: tuple[int, ...]) -> Study:
    return Study(
        name="overhead",
        question="What does the harness cost?",
        cells=(Cell(variant=Variant("split_bert"), label="6+6"),),
        control="6+6",
        data=Scenes(train=4_000, val=128, test=64),
        budget=Budget(steps=steps),
        seeds=seeds,
        measure=Measure(points=5, items=128),
    )


def bare(specs: list[RunSpec], outputs: Path) -> list[float]:
    """Seconds of each, run side by side."""
    started = []
    for spec in specs:
        file = outputs / f"{spec.train_key()}.json"
        file.write_text(spec.model_dump_json())
        command = [sys.executable, "-W", "ignore", "-c", BARE, str(file), str(outputs)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    return [float(process.communicate()[0]) for process in started]


def through_ray(lab: Lab, asked: Study, specs: list[RunSpec]) -> tuple[list[float], float]:
    """Seconds of each between its first and last measurement; seconds of all the rest."""
    begun = time.perf_counter()
    lab.run(asked)
    whole = time.perf_counter() - begun
    seconds = []
    for spec in specs:
        lines = RunFolder(lab.outputs, spec.train_key()).metric_lines()
        seconds.append(lines[-1].time - lines[0].time)
    return seconds, whole - max(seconds)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--steps", type=int, default=100)
    given = words.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        for i in range(given.rounds):
            asked = study(given.steps, (2 * i, 2 * i + 1))
            specs = list(plan(asked, lab.outputs).specs)
            loop = statistics.mean(bare(specs, lab.outputs))
            runs, rest = through_ray(lab, asked, specs)
            ratios.append(statistics.mean(runs) / loop)
            print(
                f"round {i}: bare {loop:.2f} s, through Ray {statistics.mean(runs):.2f} s, "
                f"ratio {ratios[-1]:.3f}; start-up and scoring {rest:.1f} s"
            )
    print(f"ratio: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
