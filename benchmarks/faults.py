"""Does a study come out the same whatever dies? Real processes, real SIGKILLs, and bits compared.

One study of eight runs with a warm start and tuning is done once undisturbed. Then the same, in
other folders: workers and drivers are killed at random moments, the disk is full while something is
written, two drivers are started on one study, the MLflow server is gone for a while, and the
tracking store is lost. After each, the same command again must finish the study, nothing that was
finished may be done again, and scores, curves, digests and tuning must equal the undisturbed ones
to the last bit. Prints a line for each part and exits 1 if one failed; each fails by itself. Kills
are drawn from --seed.

    python benchmarks/faults.py [--kills 20] [--seed 0] [--only PART] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil

from harness.lab import Lab
from harness.results.tables import Results

NAME = "faults"
COMMAND = "from harness.commands.main import app; app()"
STUDY = f'''"""A study that is there to be disturbed."""

from harness.study import Budget, Measure, Range, Retrieval, Scenes, Study, Tuning, Variant
from harness.study import WarmStart, grid, scale

STUDY = Study(
    name="{NAME}",
    question="Does a study come out the same whatever dies?",
    cells=grid(Variant("split_bert"), text_layers=(1, 2, 3, 4)),
    control="split_bert text_layers=2",
    backbone=scale("nano").model_copy(update={{"text_layers": 6, "image_layers": 2}}),
    data=Scenes(train=512, val=64, test=64),
    warm_start=WarmStart(bert_samples=512, distil_samples=256, vit_samples=512,
                         text_stage_samples=256, align_samples=512),
    budget=Budget(steps=60),
    batch_size=32,
    seeds=(0, 1),
    measure=Measure(points=6, items=64, checkpoints=6),
    tasks=(Retrieval(rerank=4),),
    tuning=Tuning(space={{"optimizer.learning_rate": Range(low=1e-4, high=2e-3, log=True)}},
                  trials=2),
)
'''
TIMES = ("seconds", "time")
"""What may differ between two runs that are equal."""


class Failed(AssertionError):
    """Failed says what did not hold."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A place is an outputs folder with the study file that it is for."""

    outputs: Path
    study: Path

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Starts a command in a session of its own, output kept in the folder's log."""
        self.outputs.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", COMMAND, words[0], str(self.study),
                 *words[1:], "--outputs", str(self.outputs)],
                stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> Path:
        """Beside the folder, which may be a full disk."""
        return self.outputs.with_suffix(".log")

    @property
    def stage(self) -> tuple[str, ...]:
        """The command that is next: tuning until it chose, then the runs with its choice."""
        chosen = (self.outputs / "studies" / NAME / "tuning" / "choice.json").exists()
        return ("run", "--tuned") if chosen else ("tune",)

    def finish(self, *words: str) -> None:
        """Gives the same commands again, which must end well. Raises Failed."""
        for command in (("tune",), ("run", "--tuned")):
            code = self.start(*command, *words).wait()
            if code:
                raise Failed(f"`{' '.join(command)}` ended with {code}: see {self.log}")

    def finished(self) -> dict[Path, tuple[int, int]]:
        """Final weights that lie here -> what tells whether they were written again."""
        files = [*self.outputs.glob("runs/*/weights.pt"), *self.outputs.glob("warm_start/*/*.json")]
        return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def outcome(outputs: Path, *, from_tracking: bool = False) -> dict[str, pd.DataFrame]:
    """Returns all that two equal studies have in common: name -> table."""
    lab = Lab(outputs)
    results: Results = lab.results(NAME, from_tracking=from_tracking)
    shown = {name: getattr(results, name) for name in ("scores", "levels", "curves", "digests")}
    # Retrieval is timed, and times differ.
    shown["scores"] = shown["scores"][shown["scores"]["unit"] != "seconds"]
    shown["runs"] = results.runs[["cell", "seed", "run", "status", "batches"]]
    if not from_tracking:
        choice = lab.tuning(NAME) or {}
        rows = [(cell, one.score, str(one.chosen)) for cell, one in choice.items()]
        shown["tuning"] = pd.DataFrame(rows, columns=["cell", "score", "chosen"])
    return {name: table.drop(columns=[*TIMES], errors="ignore") for name, table in shown.items()}


def must_equal(mine: dict[str, pd.DataFrame], reference: dict[str, pd.DataFrame]) -> str:
    """Compares tables to the last bit. Raises Failed. Returns how many values were equal."""
    for name, table in mine.items():
        keys = [column for column in map(str, table) if column != "value"]
        own, other = (
            each[name].sort_values(keys).reset_index(drop=True) for each in (mine, reference)
        )
        try:
            pd.testing.assert_frame_equal(own, other, check_exact=True)
        except AssertionError as error:
            raise Failed(f"{name} differ from the undisturbed study: {str(error)[:300]}") from error
    return f"{sum(table.size for table in mine.values()):,} values equal"


def must_stand(before: dict[Path, tuple[int, int]], place: Place) -> None:
    """Raises Failed where something that was finished was written again."""
    after = place.finished()
    again = [str(file) for file, mark in before.items() if after.get(file) != mark]
    if again:
        raise Failed(f"finished before, and written again: {', '.join(again)}")


def family(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """Workers of a driver that train right now."""
    with contextlib.suppress(psutil.Error):
        below = psutil.Process(driver.pid).children(recursive=True)
        return [each for each in below if _title(each).startswith("ray::")]
    return []


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def kills(place: Place, reference: Outcomes, chance: random.Random, count: int) -> str:
    """Workers and drivers die at random moments; as many studies as it takes."""
    died = {"driver": 0, "worker": 0}
    studies = 0
    while sum(died.values()) < count:
        studies += 1
        here = Place(place.outputs / f"study{studies}", place.study)
        while sum(died.values()) < count:
            before, stage = here.finished(), here.stage
            driver = here.start(*stage)
            while driver.poll() is None and sum(died.values()) < count:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    driver.wait(chance.uniform(1, 25))
                    break
                workers = family(driver)
                if workers and chance.random() < 0.6:
                    chance.choice(workers).kill()
                    died["worker"] += 1
                else:
                    driver.kill()
                    driver.wait()
                    died["driver"] += 1
            driver.wait()
            must_stand(before, here)
            if driver.returncode == 0 and stage[0] == "run":
                break
        before = here.finished()
        here.finish()
        must_stand(before, here)
        equal = must_equal(outcome(here.outputs), reference.folders)
    return (
        f"{died['driver']} drivers and {died['worker']} workers killed over {studies} studies; "
        f"{equal} in the last"
    )


def full_disk(place: Place, reference: Outcomes, chance: random.Random, count: int) -> str:
    """The disk fills up while the study runs, and is made larger."""
    place.outputs.mkdir(parents=True)
    size = sum(file.stat().st_size for file in reference.outputs.rglob("*") if file.is_file())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size // 3}", "tmpfs", str(place.outputs)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"not tried, mounting a small disk needs root: {done.stderr.strip()}")
    try:
        codes = [place.start(*place.stage).wait() for _ in range(2)]
        if not any(codes):
            raise Failed("the disk was never full")
        text = place.log.read_text()
        if "Traceback" in text or "no space is left" not in text:
            raise Failed(f"a full disk is not said in a line: see {place.log}")
        subprocess.run(["mount", "-o", "remount,size=4G", str(place.outputs)], check=True)
        before = place.finished()
        place.finish()
        must_stand(before, place)
        equal = must_equal(outcome(place.outputs), reference.folders)
    finally:
        subprocess.run(["umount", "-l", str(place.outputs)], check=False)
    return f"full at {size // 3 // 2**20} MiB, ended with {codes}, then went on; {equal}"


def two_drivers(place: Place, reference: Outcomes, chance: random.Random, count: int) -> str:
    """Two drivers are started on one study by mistake, for tuning and for the runs."""
    codes = []
    for command in (("tune",), ("run", "--tuned")):
        both = [place.start(*command) for _ in range(2)]
        codes.append([each.wait() for each in both])
        if "Traceback" in place.log.read_text():
            raise Failed(f"a traceback: see {place.log}")
        if all(codes[-1]) and place.start(*command).wait():
            raise Failed(f"neither of two finished, nor the command again: see {place.log}")
    before = place.finished()
    place.finish()
    must_stand(before, place)
    return f"ended with {codes}; {must_equal(outcome(place.outputs), reference.folders)}"


def store_gone(place: Place, reference: Outcomes, chance: random.Random, count: int) -> str:
    """The MLflow server dies while runs go on and comes back; publishing makes up for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with served(place.outputs.with_suffix(".store"), port):
        if place.start("tune", "--tracking", address).wait():
            raise Failed(f"tuning failed: see {place.log}")
        trials = len(place.finished())
        driver = place.start("run", "--tuned", "--tracking", address)
        while driver.poll() is None and len(place.finished()) < trials + 2:
            time.sleep(0.2)
    code = driver.wait()
    with served(place.outputs.with_suffix(".store"), port):
        place.finish("--tracking", address)
        lab = Lab(place.outputs, address)
        there = lab.results(NAME, from_tracking=True).runs["status"].tolist()
    if there != ["done"] * len(there):
        raise Failed(f"the store knows of {there}")
    return f"the driver ended with {code}; {must_equal(outcome(place.outputs), reference.folders)}"


@contextlib.contextmanager
def served(folder: Path, port: int) -> Iterator[None]:
    """Holds an MLflow server on loopback, killed at the end."""
    folder.mkdir(exist_ok=True)
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
         "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
         "--artifacts-destination", str(folder / "artifacts")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.2)
        else:
            raise Failed("the MLflow server did not start")
        yield
    finally:
        for process in [*psutil.Process(server.pid).children(recursive=True), server]:
            process.kill()
        server.wait()


def store_lost(place: Place, reference: Outcomes, chance: random.Random, count: int) -> str:
    """The tracking store is deleted, and published again from the folders."""
    shutil.copytree(reference.outputs, place.outputs)
    (place.outputs / "mlflow.db").unlink()
    if place.start("publish").wait():
        raise Failed(f"publish failed: see {place.log}")
    return must_equal(outcome(place.outputs, from_tracking=True), reference.store)


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """Outcomes are what the undisturbed study says, from its folders and from its store."""

    outputs: Path
    folders: dict[str, pd.DataFrame]
    store: dict[str, pd.DataFrame]


PARTS: dict[str, Callable[[Place, Outcomes, random.Random, int], str]] = {
    part.__name__: part for part in (kills, full_disk, two_drivers, store_gone, store_lost)
}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--kills", type=int, default=20)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--only", choices=PARTS, action="append")
    words.add_argument("--keep", type=Path, help="a folder for all that is written")
    asked = words.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        folder = (asked.keep or Path(scratch)).resolve()
        study = folder / "study.py"
        study.write_text(STUDY)
        calm = Place(folder / "undisturbed", study)
        begun = time.perf_counter()
        calm.finish()
        reference = Outcomes(
            calm.outputs, outcome(calm.outputs), outcome(calm.outputs, from_tracking=True)
        )
        print(f"{'undisturbed':12} {time.perf_counter() - begun:5.0f} s  seed {asked.seed}, load "
              f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)  # fmt: skip
        for name in asked.only or PARTS:
            begun = time.perf_counter()
            try:
                seen = PARTS[name](
                    Place(folder / name, study), reference, random.Random(asked.seed), asked.kills
                )
            except Exception as error:  # one part says nothing of the next
                seen, failed = f"FAILED: {type(error).__name__}: {error}", True
            print(f"{name:12} {time.perf_counter() - begun:5.0f} s  {seen}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
