"""What only a GPU can show, in one table: does the cuda path train, and train the same, and fast?

Each part runs in a process of its own and fails by itself: what it raises, or where it takes too
long, is a row that begins with `failed`, and the exit status is then 1. A part that needs a library
which is not there is skipped by name, so a bare copy of the tree will do with torch, timm,
transformers, pydantic and psutil.
Guess: no GPU has run this yet. float32 agrees to 1e-4, equal runs to the last bit, a step waits for
nothing, bfloat16 at base reaches a third of the matmul peak, eight small runs packed do twice as
much as one after another.
Cost: under 8 minutes on one GPU. With --device cpu the parts that can run there do, in small, in
three minutes: it shows that they run, and no more.

    python benchmarks/gpu.py [--device cpu] [--only PART]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import importlib.util
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # a bare copy of the tree is not installed

LIMIT_S = 240
"""Seconds that a part may take."""
LOSS_LIMIT, GRADIENT_LIMIT = 1e-5, 1e-3
"""Largest difference between CPU and GPU: of a loss, absolute; of all gradients together, as a
share of their norm."""
CURVE_LIMIT = 0.05
"""Largest difference of the last losses in bfloat16 and float32, as a share of what was learnt."""
PACKED = 8


class FailedError(AssertionError):
    """Says what did not hold."""


class SkippedError(RuntimeError):
    """Says why a part cannot be shown here."""


def sizes_of(scale: str, given: argparse.Namespace, **changes: Any) -> Any:
    """The sizes of a scale as `step.py` takes them; on a CPU the fewest layers and columns."""
    import step
    from plain_albef import Sizes

    from architectures.backbone import scale as backbone_of

    b = backbone_of(scale)
    step.BATCH = {"base": 32}.get(scale, 64)
    sizes = Sizes(
        image_size=b.image_size, patch=b.patch_size, image_width=b.image_width,
        image_layers=b.image_layers, image_heads=b.image_heads, text_width=b.text_width,
        text_layers=b.text_layers, text_heads=b.text_heads, text_mlp=b.text_mlp,
        itc_width=b.itc_width, split=b.text_layers // 2,
    )  # fmt: skip
    if given.device == "cpu":
        step.BATCH = 8
        sizes = dataclasses.replace(
            sizes, image_size=16, patch=8, image_width=24, image_layers=2, text_width=24,
            text_layers=4, split=2, text_mlp=48, image_heads=2, text_heads=2, itc_width=8,
            queue=64, vocabulary=2000,
        )  # fmt: skip
    return dataclasses.replace(sizes, **changes)


def trainer_on(given: argparse.Namespace, sizes: Any, dtype: str, device: str = "") -> Any:
    """A trainer of `step.py` on a device, fed the same batch at every step, padded as on a GPU."""
    import step

    own = argparse.Namespace(threads=given.threads, device=device or given.device)
    trainer = step.trainer_of(own, sizes, dtype)
    trainer.packed = False
    return trainer


def seconds_of(call: Callable[[], object], device: str, repeats: int) -> float:
    """Median seconds of a call that has run before, when the device is done with it."""
    import step

    times = []
    for _ in range(repeats):
        begun = step.now(device)
        call()
        times.append(step.now(device) - begun)
    return statistics.median(times)


# ---- The parts: each yields lines, and raises where something does not hold ----------------------


def machine(given: argparse.Namespace) -> Iterator[str]:
    """What this is."""
    import torch

    if given.device == "cuda":
        own = torch.cuda.get_device_properties(0)
        yield f"{own.name}, {own.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    yield f"torch {torch.__version__}, Python {sys.version.split()[0]}, {os.cpu_count()} cores"


def cpu_and_gpu(given: argparse.Namespace) -> Iterator[str]:
    """Losses and gradients of one step in float32, without dropout, here and on a CPU."""
    import step
    import torch

    from harness.training.objectives.forward import terms, total
    from harness.training.objectives.itm import Negatives

    sizes = sizes_of("tiny", given, dropout=0.0)
    losses, gradients = [], []
    for device in ("cpu", given.device):
        trainer = trainer_on(given, sizes, "float32", device)
        trainer.before_step()
        batch = trainer.batches.at(0).to(device)
        pairs = Negatives(*step.drawn(sizes)["negatives"].to(device))
        taught = trainer.state.teach(trainer.design, batch, packed=False)
        found = terms(trainer.design, trainer.state, batch, negatives=pairs, taught=taught).terms
        total(found, trainer.spec.objectives).backward()
        losses.append({name: term.loss.item() for name, term in found.items()})
        named = trainer.design.named_parameters()
        gradients.append({n: p.grad.cpu().double() for n, p in named if p.grad is not None})
    apart = max(abs(losses[0][name] - losses[1][name]) for name in losses[0])
    on_cpu, here = gradients
    if on_cpu.keys() != here.keys():
        raise FailedError(f"only one side has a gradient of {sorted(on_cpu.keys() ^ here.keys())}")
    norm = torch.stack([g.norm() for g in on_cpu.values()]).norm()
    differences = {n: float((here[n] - g).norm() / norm) for n, g in on_cpu.items()}
    worst = max(differences, key=differences.__getitem__)
    whole = sum(d**2 for d in differences.values()) ** 0.5
    line = f"losses apart by {apart:.1e}, gradients by {whole:.1e} of their norm, most in {worst}"
    if not (apart <= LOSS_LIMIT and whole <= GRADIENT_LIMIT):
        raise FailedError(f"{line}; limits {LOSS_LIMIT:.0e} and {GRADIENT_LIMIT:.0e}")
    yield line


def state_after(trainer: Any, steps: int) -> str:
    """The digest of all that a trainer has learnt after some more steps."""
    from architectures.weights.digests import digest_of

    for _ in range(steps):
        trainer.one_step()
    snapshot = trainer.snapshot()
    tensors = {f"{part}.{n}": x for part in ("design", "state") for n, x in snapshot[part].items()
               if hasattr(x, "detach")}  # fmt: skip
    return digest_of(tensors)


def equal_runs(given: argparse.Namespace) -> Iterator[str]:
    """Two runs of the same settings, with dropout, compared bit by bit."""
    steps = 3 if given.device == "cpu" else 20
    for dtype in ("float32", "bfloat16"):
        sizes = sizes_of("tiny", given)
        first, second = (state_after(trainer_on(given, sizes, dtype), steps) for _ in range(2))
        if first != second:
            raise FailedError(f"{dtype}: weights differ after {steps} steps")
        yield f"{dtype}: equal to the last bit after {steps} steps"


def resumed(given: argparse.Namespace) -> Iterator[str]:
    """A run that goes on from a checkpoint, beside one that was never stopped."""
    import torch

    steps = 2 if given.device == "cpu" else 8
    for dtype in ("float32", "bfloat16"):
        sizes = sizes_of("tiny", given)
        whole = state_after(trainer_on(given, sizes, dtype), 2 * steps)
        stopped, file = trainer_on(given, sizes, dtype), io.BytesIO()
        state_after(stopped, steps)
        torch.save(stopped.snapshot(), file)
        del stopped
        file.seek(0)
        goes_on = trainer_on(given, sizes, dtype)
        goes_on.restore(torch.load(file, weights_only=True, map_location="cpu"))
        if state_after(goes_on, steps) != whole:
            raise FailedError(f"{dtype}: weights differ from those of a run that was never stopped")
        yield f"{dtype}: equal to the last bit"


def half_and_full(given: argparse.Namespace) -> Iterator[str]:
    """The losses of one batch, learnt by heart in float32 and in bfloat16."""
    points, steps = (3, 2) if given.device == "cpu" else (5, 30)
    curves = {}
    for dtype in ("float32", "bfloat16"):
        trainer, curves[dtype] = trainer_on(given, sizes_of("tiny", given), dtype), []
        for _ in range(points):
            trainer.sums = {}
            for _ in range(steps):
                trainer.one_step()
            curves[dtype].append(sum(float(t.loss) for t in trainer.sums.values()))
        yield f"{dtype}: " + " ".join(f"{loss:.3f}" for loss in curves[dtype])
    full, half = curves.values()
    learnt, apart = full[0] - full[-1], abs(full[-1] - half[-1])
    if given.device == "cuda" and not (learnt > 0 and apart <= CURVE_LIMIT * learnt):
        raise FailedError(f"last losses {apart:.3f} apart, of {learnt:.3f} learnt")
    yield f"last losses {apart:.4f} apart"


def waits(given: argparse.Namespace) -> Iterator[str]:
    """Every place of a step where the host waits for the GPU. There should be none."""
    import torch

    if given.device == "cpu":
        raise SkippedError("a CPU is not waited for; tests/training/loop/test_gpu_path.py plays it")
    for dtype in ("float32", "bfloat16"):
        trainer = trainer_on(given, sizes_of("tiny", given), dtype)
        state_after(trainer, 3)
        assert trainer.step + 1 not in trainer.measured
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            trainer.one_step()
        torch.cuda.set_sync_debug_mode("default")
        found = [w for w in seen if "synchron" in str(w.message)]
        places = {f"{Path(w.filename).name}:{w.lineno}" for w in found}
        if places:
            raise FailedError(f"{dtype}: a step waits at {', '.join(sorted(places))}")
        yield f"{dtype}: none"


def small_study(device: str, **changes: Any) -> Any:
    """A study of the harness that trains for seconds."""
    from harness.study import Budget, Measure, Numerics, Retrieval, Scenes, Study, Variant, grid

    fields = {
        "name": "gpu_check", "question": "Does a study run on a GPU?",
        "cells": grid(Variant("split_bert"), text_layers=(4, 6)),
        "control": "split_bert text_layers=6", "data": Scenes(train=256, val=64, test=64),
        "budget": Budget(steps=20), "batch_size": 32, "seeds": (0, 1),
        "measure": Measure(points=2, items=32), "tasks": (Retrieval(rerank=4),),
        "numerics": Numerics(device=device),
    }  # fmt: skip
    return Study(**{**fields, **changes})


def study_through_ray(given: argparse.Namespace) -> Iterator[str]:
    """A study through Ray, four runs on quarters of the GPU."""
    from harness.lab import Lab

    for name in ("ray", "mlflow", "pandas"):  # not imported: ray reads its settings when it is
        if importlib.util.find_spec(name) is None:
            raise SkippedError(f"there is no {name}")
    with tempfile.TemporaryDirectory() as folder:
        lab, study = Lab(Path(folder)), small_study(given.device)
        begun = time.perf_counter()
        states = lab.run(study, gpu_share=0.25)
        seconds = time.perf_counter() - begun
        results = lab.results(study.name)
        unscored = lab.failed_scores(states)
        messages = [m for m in results.runs.get("message", []) if m]
    if set(states.values()) != {"done"} or unscored:
        raise FailedError(f"ended {list(states.values())}: {[*messages, *unscored.values()]}")
    yield f"{len(states)} runs done and scored in {seconds:.0f} s, start-up included"


def out_of_memory(given: argparse.Namespace) -> Iterator[str]:
    """A run that needs more memory than it may take: a status, and the next run trains."""
    import torch

    if given.device == "cpu":
        raise SkippedError("only a GPU's memory can be limited for this")
    from harness.outputs.folder import RunFolder
    from harness.planning.plan import plan
    from harness.runs.run import execute
    from harness.study import Scenes

    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder)
        big = small_study("cuda", batch_size=2048, data=Scenes(train=2048, val=64, test=64))
        specs = [plan(study, outputs).specs[0] for study in (big, small_study("cuda"))]
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(512 * 2**20 / total)
        for spec, wanted in zip(specs, ("out_of_memory", "done"), strict=True):
            state = execute(spec, outputs)
            message = RunFolder(outputs, spec.train_key()).status().message
            if state != wanted:
                raise FailedError(f"{state} where {wanted} should be: {message}")
            gc.collect()  # what the failed run held
            yield f"{state}: {message.partition('. ')[0][:100] or 'the next run in the process'}"


def speed(given: argparse.Namespace) -> Iterator[str]:
    """Step time, model FLOPs utilisation, and both towers beside those of transformers."""
    import step
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    dtype = "float32" if given.device == "cpu" else "bfloat16"
    peak = step.peak(given.device, dtype)
    yield f"matrix products: {peak / 1e12:.3g} TFLOP/s in {dtype}"
    repeats = 2 if given.device == "cpu" else 10
    for scale in ("tiny", "small", "base"):
        sizes = sizes_of(scale, given)
        trainer = trainer_on(given, sizes, dtype)
        state_after(trainer, 2)
        seconds = seconds_of(trainer.one_step, given.device, repeats)
        with FlopCounterMode(display=False, custom_mapping=step.UNKNOWN_TO_TORCH) as counter:
            trainer.one_step()
        flops = counter.get_total_flops()
        beside = " ".join(towers(given, sizes, trainer, repeats))
        yield (
            f"{scale}: {1e3 * seconds:.1f} ms for {step.BATCH} pairs, {flops / 1e12:.3g} TFLOP, "
            f"{flops / seconds / peak:.1%} of the peak, {step.peak_mib(given.device):.0f} MiB;"
            f" {beside}"
        )
        del trainer
        if given.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def towers(given: argparse.Namespace, sizes: Any, trainer: Any, repeats: int) -> Iterator[str]:
    """Forward and backward of ViT and text layers, ours and those of transformers."""
    from transformers import BertConfig, BertModel, ViTConfig, ViTModel

    def config(kind: Any, part: str, layers: int, inner: int, **more: Any) -> Any:
        return kind(
            hidden_size=getattr(sizes, f"{part}_width"), num_hidden_layers=layers,
            num_attention_heads=getattr(sizes, f"{part}_heads"), intermediate_size=inner, **more,
        )  # fmt: skip

    batch, design = trainer.batches.at(0).to(given.device), trainer.design
    vit = ViTModel(
        config(ViTConfig, "image", sizes.image_layers, 4 * sizes.image_width,
               image_size=sizes.image_size, patch_size=sizes.patch),
        add_pooling_layer=False,
    )  # fmt: skip
    bert = BertModel(
        config(BertConfig, "text", sizes.split, sizes.text_mlp, vocab_size=sizes.vocabulary,
               hidden_dropout_prob=sizes.dropout, attention_probs_dropout_prob=sizes.dropout),
        add_pooling_layer=False,
    )  # fmt: skip
    vit, bert = vit.to(given.device).train(), bert.to(given.device).train()
    ids, real = batch.ids_BL, batch.text_is_real_BL
    calls: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "image": (
            lambda: design.encode_image(batch.pixels()).pooled_BD,
            lambda: vit(pixel_values=batch.pixels()).last_hidden_state[:, 0],
        ),
        "text": (
            lambda: design.encode_text(ids, real).pooled_BD,
            lambda: bert(input_ids=ids, attention_mask=real.long()).last_hidden_state[:, 0],
        ),
    }
    for name, pair in calls.items():
        times = []
        for call in pair:

            def both_ways(call: Callable[[], Any] = call) -> None:
                with trainer.precision():
                    reads = call()
                reads.float().sum().backward()

            both_ways()
            times.append(1e3 * seconds_of(both_ways, given.device, repeats))
        yield f"{name} tower {times[0]:.1f} ms (transformers {times[1]:.1f})"


def packed(given: argparse.Namespace) -> Iterator[str]:
    """Eight runs side by side on the device, beside one at a time, start-up apart."""
    runs = 2 if given.device == "cpu" else PACKED
    with workers(given, 1) as (one,):
        alone = turn([one])
    with workers(given, runs) as together:
        side_by_side = turn(together)
    gain = runs * alone / side_by_side
    yield f"one takes {alone:.2f} s, {runs} together {side_by_side:.2f} s: {gain:.2f}x"


@contextlib.contextmanager
def workers(given: argparse.Namespace, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that have trained two steps and wait for a line."""
    started = [
        subprocess.Popen(
            command(given, "--part", "worker"), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for _ in range(count)
    ]  # fmt: skip
    try:
        for each in started:
            answer(each)
        yield started
    finally:
        for each in started:
            each.kill()
            each.wait()
            for pipe in (each.stdin, each.stdout):
                if pipe:
                    pipe.close()


def answer(process: subprocess.Popen[str]) -> None:
    """Waits for a worker's line. Raises FailedError where it ended instead."""
    assert process.stdout
    if process.stdout.readline().strip() != "ready":
        raise FailedError(f"a worker ended with {process.wait()}")


def turn(together: list[subprocess.Popen[str]]) -> float:
    """Seconds until all have done their steps."""
    begun = time.perf_counter()
    for each in together:
        assert each.stdin
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in together:
        answer(each)
    return time.perf_counter() - begun


def worker(given: argparse.Namespace) -> Iterator[str]:
    """One run of those that are packed: it trains some steps for every line it reads."""
    import step

    dtype = "float32" if given.device == "cpu" else "bfloat16"
    trainer = trainer_on(given, sizes_of("tiny", given), dtype)
    state_after(trainer, 2)
    print("ready", flush=True)
    for _ in sys.stdin:
        for _ in range(3 if given.device == "cpu" else 100):
            trainer.one_step()
        step.now(given.device)
        print("ready", flush=True)
    yield from ()


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[str]]] = {
    "machine": machine,
    "CPU and GPU": cpu_and_gpu,
    "equal runs": equal_runs,
    "resumed": resumed,
    "bfloat16": half_and_full,
    "waits": waits,
    "out of memory": out_of_memory,
    "study through Ray": study_through_ray,
    "speed": speed,
    "packed": packed,
}


# ---- The table -----------------------------------------------------------------------------------


def command(given: argparse.Namespace, *words: str) -> list[str]:
    own = ["--device", given.device, "--threads", str(given.threads)]
    return [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), *own, *words]


def shown_by(name: str, given: argparse.Namespace) -> list[str]:
    """The rows of a part, each with its outcome: this process's own, so that it ends afterwards."""
    rows = []
    try:
        for line in {**PARTS, "worker": worker}[name](given):
            rows.append(line)
    except SkippedError as reason:
        rows.append(f"skipped: {reason}")
    except ModuleNotFoundError as error:
        ours = (error.name or "").partition(".")[0] in ("architectures", "harness", "studies")
        rows.append(f"{'failed' if ours else 'skipped'}: there is no {error.name}")
    except Exception as error:
        traceback.print_exc()
        text = " ".join(str(error).split())[:300]
        kind = "" if isinstance(error, FailedError) else f"{type(error).__name__}: "
        rows.append(f"failed: {kind}{text}")
    return rows


def rows_of(name: str, given: argparse.Namespace) -> list[str]:
    """The rows of a part that runs in a process of its own."""
    try:
        process = subprocess.run(
            command(given, "--part", name), text=True, timeout=given.limit, capture_output=True
        )
    except subprocess.TimeoutExpired:
        return [f"failed: not done in {given.limit:.0f} s"]
    try:
        rows = json.loads(process.stdout.strip().rpartition("\n")[2])
    except json.JSONDecodeError:
        last = process.stderr.strip().rpartition("\n")[2]
        return [f"failed: its process ended with {process.returncode}: {last[:300]}"]
    if any(row.startswith("failed") for row in rows):
        print(process.stderr, file=sys.stderr)
    return rows


def main() -> int:
    """The exit status."""
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    words.add_argument("--only", choices=PARTS, action="append", help="a part; may be repeated")
    words.add_argument("--threads", type=int, default=1)
    words.add_argument("--limit", type=float, default=LIMIT_S, help="seconds that a part may take")
    words.add_argument("--part", choices=(*PARTS, "worker"), help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.part:
        rows = shown_by(given.part, given)
        if given.part != "worker":
            print(json.dumps(rows), flush=True)
        return int(any(row.startswith("failed") for row in rows))
    failed = False
    for name in given.only or PARTS:
        begun = time.perf_counter()
        rows = rows_of(name, given)
        failed |= any(row.startswith("failed") for row in rows)
        for i, row in enumerate(rows):
            seconds = f"{time.perf_counter() - begun:.0f} s" if not i else ""
            print(f"{name if not i else '':18} {seconds:>6}  {row}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
