"""How fast is our ALBEF step, and how much memory does it take, beside the plain one?

The same model, batch and losses on both sides: ours is `Trainer.one_step`, theirs the padded eager
step of `plain_albef.py` with AdamW as torch has it. ViT 6 x 192 at 64 px in patches of 8, BERT 12 x
192 split 6 + 6, 64 pairs of 24 tokens with 13 words on average, a queue of 4096, dropout 0.1. Each
side has a process of its own, and they take turns. Before that, without dropout and from the same
weights, masks and negatives, the three losses must agree to 1e-5.
Guess: 2.0x in float32, 3.5x with ours in bfloat16 where the processor multiplies it.
Cost: three minutes on two cores. Nothing else should be running.

    python benchmarks/step.py [--dtype bfloat16] [--rounds 6] [--steps 2] [--threads 2]

One line a side: milliseconds of a step, and those that cores were busy for it, all added (medians
and ranges: on a busy machine read the second, with one thread, since threads that wait are busy
too); the largest resident memory, on a GPU the largest allocated; GFLOP of matrix products of a
step; their rate as a share of a measured matmul peak in the side's dtype. Then plain / ours, by
rounds. `--profile` adds where each side's time goes. Exits 1 where losses differ.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from plain_albef import Inputs, PlainALBEF, Sizes, optimizer_of
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from architectures.backbone import Backbone
from architectures.contract import FusionDesign
from architectures.weights.published.albef import albef_roles
from harness.runs.assemble import build_design
from harness.training.data.batches import Batch, Batches, digest_after
from harness.training.data.identity import Identity, matches
from harness.training.data.masking import widest
from harness.training.loop import numerics
from harness.training.loop.trainer import Trainer
from harness.training.objectives.forward import terms
from harness.training.objectives.itm import Negatives
from harness.training.objectives.state import ObjectiveState
from harness.training.settings.data import Scenes
from harness.training.settings.loop import Budget, Numerics, Optimizer
from harness.training.settings.objectives import ALBEF_OBJECTIVES
from harness.training.settings.spec import Asked, RunSpec, TrainSpec

ALPHA = 0.4
BATCH, TOKENS = 64, 24
WIDEST = widest(TOKENS - 2, Sizes.masked)
"""Most words of a text that are hidden, as our data have it."""
WARM_UP = 2
LIMIT = 1e-5
Step = Callable[[], object]


# ---- One batch for both sides --------------------------------------------------------------------


def drawn(sizes: Sizes) -> dict[str, Tensor]:
    """Pictures of noise, texts of 2 to 24 tokens (13 on average), and the words hidden of them."""
    draw = torch.Generator().manual_seed(0)

    def whole(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=draw)

    lengths = torch.linspace(2, TOKENS, BATCH).round()[torch.randperm(BATCH, generator=draw)]
    real = torch.arange(TOKENS) < lengths[:, None]
    ids = whole(1000, sizes.vocabulary, BATCH, TOKENS).where(real, sizes.padding_id)
    ids[:, 0] = sizes.cls_id
    hidden = (torch.rand(BATCH, TOKENS, generator=draw) < sizes.masked) & real
    hidden[:, 0] = False
    hidden &= hidden.cumsum(1) <= WIDEST
    return {
        "images": whole(0, 256, BATCH, 3, sizes.image_size, sizes.image_size).to(torch.uint8),
        "ids": ids,
        "real": real,
        "masked_ids": ids.masked_fill(hidden, sizes.mask_id),
        "labels": ids.where(hidden, -100),
        "negatives": (torch.arange(BATCH) + whole(1, BATCH, 2, BATCH)) % BATCH,
    }


def plain_inputs(found: dict[str, Tensor], device: str, *, negatives: bool) -> Inputs:
    """As the plain step takes them; without `negatives` it draws its own."""
    found = {name: x.to(device) for name, x in found.items()}
    image_of_text, text_of_image = found["negatives"]
    return Inputs(
        images=found["images"].float() / 127.5 - 1,
        ids=found["ids"],
        real=found["real"].long(),
        masked_ids=found["masked_ids"],
        labels=found["labels"],
        negatives=(image_of_text, text_of_image) if negatives else None,
    )


def our_batch(found: dict[str, Tensor]) -> Batch:
    """As ours takes them: every row something of its own."""
    number_B, labels = torch.arange(BATCH), found["labels"]
    identity = Identity(
        group_B=number_B, picture_B=number_B, caption_B=number_B, captions_BC=number_B[:, None]
    )
    hidden_first = (labels == -100).to(torch.uint8).sort(dim=1, stable=True).indices[:, :WIDEST]
    labels_BR = labels.gather(1, hidden_first)
    return Batch(
        step=0,
        rows_B=number_B,
        image_BCHW=found["images"],
        ids_BL=found["ids"],
        text_is_real_BL=found["real"],
        masked_ids_BL=found["masked_ids"],
        mask_positions_BR=hidden_first.where(labels_BR != -100, 0),
        mask_labels_BR=labels_BR,
        hidden_N=(labels_BR.flatten() != -100).nonzero().squeeze(1),
        identity=identity,
        match_BB=matches(identity, identity),
    )


class OneBatch:
    """Stands in for `Batches`: the same batch at every step."""

    steps_per_epoch = 1

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def at(self, step: int) -> Batch:
        return self.batch

    def after(self, digest: str, batch: Batch) -> str:
        return digest_after(digest, batch)


# ---- The two sides -------------------------------------------------------------------------------


def plain(given: argparse.Namespace, sizes: Sizes) -> Step:
    """A step of the published implementation, as plainly as it can be written."""
    torch.manual_seed(0)
    model = PlainALBEF(sizes).to(given.device).train()
    optimizer = optimizer_of(model)
    inputs = plain_inputs(drawn(sizes), given.device, negatives=False)
    half = given.plain_dtype == "bfloat16"

    def step() -> None:
        with torch.autocast(given.device, dtype=torch.bfloat16, enabled=half):
            loss = torch.stack(list(model(inputs, ALPHA).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def ours(given: argparse.Namespace, sizes: Sizes) -> Step:
    """The step that studies train with."""
    return trainer_of(given, sizes, given.dtype).one_step


def trainer_of(given: argparse.Namespace, sizes: Sizes, dtype: str) -> Trainer:
    """With weights drawn at random, and all of the teacher's share from the first step on."""
    backbone = Backbone(
        image_size=sizes.image_size,
        patch_size=sizes.patch,
        image_width=sizes.image_width,
        image_layers=sizes.image_layers,
        image_heads=sizes.image_heads,
        image_mlp=4 * sizes.image_width,
        image_norm_eps=1e-6,
        text_width=sizes.text_width,
        text_layers=sizes.text_layers,
        text_heads=sizes.text_heads,
        text_mlp=sizes.text_mlp,
        max_positions=sizes.positions,
        dropout=sizes.dropout,
        itc_width=sizes.itc_width,
    )
    objectives = ALBEF_OBJECTIVES.with_field("itc.queue", sizes.queue)
    train = TrainSpec(
        design="split_bert",
        config={"text_layers": sizes.split},
        backbone=backbone,
        data="",
        objectives=objectives.with_field("teacher.ramp_epochs", 0),
        optimizer=Optimizer(learning_rate=1e-4, clip_norm=0),
        budget=Budget(steps=1000),
        batch_size=BATCH,
        seed=0,
        numerics=Numerics(threads=given.threads, dtype=dtype, device=given.device),
    )
    numerics.prepare(train.numerics)
    design = build_design(RunSpec(train=train, asked=Asked(data=Scenes())), sizes.vocabulary)
    return Trainer(train, design, cast(Batches, OneBatch(our_batch(drawn(sizes)))), ())


def same(given: argparse.Namespace, sizes: Sizes) -> dict[str, tuple[float, float]]:
    """The three losses of both sides, without dropout, in float32."""
    sizes = dataclasses.replace(sizes, dropout=0.0)
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False
    model = PlainALBEF(sizes)
    for parameter in model.parameters():  # apart, and large enough to tell inputs from each other
        parameter.data *= 2
        parameter.data += 0.01 * torch.randn_like(parameter)
    model.temp.data.fill_(0.07)
    trainer = trainer_of(given, sizes, "float32")
    design, state, batch = trainer.design, trainer.state, trainer.batches.at(0).to(given.device)
    fill(design, state, albef_roles(model.state_dict()))
    state.before_step(epochs=1)
    wrong = Negatives(*drawn(sizes)["negatives"].to(given.device))
    packed = trainer.packed
    taught = state.teach(design, batch, packed=packed)
    found = terms(design, state, batch, negatives=wrong, taught=taught, packed=packed).terms
    model = model.to(given.device)
    theirs = model(plain_inputs(drawn(sizes), given.device, negatives=True), ALPHA)
    named = {"itc": "ita", "itm": "itm", "mlm": "mlm"}
    return {ours: (theirs[name].item(), found[ours].loss.item()) for ours, name in named.items()}


@torch.no_grad()
def fill(design: FusionDesign, state: ObjectiveState, stored: dict[str, Tensor]) -> None:
    """Weights, teacher, queue and temperature of a checkpoint, by role."""
    assert state.queue is not None and state.twin is not None
    for role, weight in design.named_parameters():
        weight.copy_(stored[role])
    for role, weight in state.twin.design.named_parameters():
        weight.copy_(stored[f"momentum.{role}"])
    state.queue.image_QE.copy_(stored["queue.image"].T)
    state.queue.text_QE.copy_(stored["queue.text"].T)
    state.temperature.copy_(stored["temperature"])


SIDES = {"plain": plain, "ours": ours}

# ---- What is measured ----------------------------------------------------------------------------


def peak(device: str, dtype: str) -> float:
    """FLOP a second of matrix products, the best of many: so short that on a busy machine some are
    not interrupted.
    """
    side, tries, repeats = (8192, 10, 10) if device == "cuda" else (1024, 50, 1)
    a = torch.randn(side, side, device=device, dtype=getattr(torch, dtype))
    times = []
    for _ in range(tries):
        begun = now(device)
        for _ in range(repeats):
            a @ a
        times.append((now(device) - begun) / repeats)
    return 2 * side**3 / min(times)


UNKNOWN_TO_TORCH: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
    ),
}
"""Operators whose products torch does not count by itself -> how to, scores that the backward makes
again included.
"""


def now(device: str) -> float:
    """Seconds, when all that was asked of the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_mib(device: str) -> float:
    """Largest memory of this process so far."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


GROUPS = {
    "linear": ("addmm", "mm", "mkldnn_linear", "_addmm_activation", "convolution"),
    "attention products": ("bmm", "baddbmm", "_scaled_dot_product", "_flash_attention"),
    "softmax": ("_softmax", "_log_softmax"),
    "GELU": ("gelu",),
    "dropout": ("native_dropout", "bernoulli", "random_", "uniform_"),
    "norms": ("native_layer_norm",),
    "copies": (
        "copy_", "cat", "stack", "index", "gather", "scatter", "fill_", "zero_", "select_",
        "embedding",
    ),
    "elementwise": ("add", "mul", "div", "sub", "sum", "neg", "lerp", "_foreach", "exp", "where"),
}  # fmt: skip
"""Beginnings of the operators' names; what an optimizer or a dropout calls is its own."""


def group_of(event: Any) -> str:
    above = event
    while above is not None:
        if above.name.startswith("Optimizer.step"):
            return "optimizer"
        if "dropout" in above.name.lower():
            return "dropout"
        above = above.cpu_parent
    name = event.name.rpartition("::")[2]
    return next((g for g, begin in GROUPS.items() if name.startswith(begin)), "other")


def profile(step: Step, steps: int, device: str) -> dict[str, float]:
    """Share of the device's time of each group of operators."""
    time_of = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    with torch.profiler.profile() as seen:
        for _ in range(steps):
            step()
    found: defaultdict[str, float] = defaultdict(float)
    for event in seen.events():
        if event.device_type == torch.autograd.DeviceType.CPU:  # a kernel's time is its caller's
            found[group_of(event)] += getattr(event, time_of)
    total = sum(found.values())
    return {g: x / total for g, x in sorted(found.items(), key=lambda item: -item[1])}


def work(side: str, given: argparse.Namespace, sizes: Sizes) -> None:
    """One side: for every line it gets, the seconds of its steps; at the end what else it knows."""
    torch.set_num_threads(given.threads)
    step = SIDES[side](given, sizes)
    for _ in range(WARM_UP):
        step()
    say(ready=True)
    for _ in sys.stdin:
        seconds, busy = [], []
        for _ in range(given.steps):
            begun, used = now(given.device), time.process_time()
            step()
            seconds.append(now(given.device) - begun)
            busy.append(time.process_time() - used)
        say(seconds=seconds, busy=busy)
    found = {"peak_mib": peak_mib(given.device)}
    with FlopCounterMode(display=False, custom_mapping=UNKNOWN_TO_TORCH) as counter:
        step()
    dtype = given.plain_dtype if side == "plain" else given.dtype
    found |= {"flop": counter.get_total_flops(), "flop_a_second": peak(given.device, dtype)}
    say(**found, profile=profile(step, given.steps, given.device) if given.profile else {})


def say(**found: Any) -> None:
    print(json.dumps(found), flush=True)


# ---- The processes, taking turns -----------------------------------------------------------------


class Worker:
    """A process that takes its turn when asked."""

    def __init__(self, side: str, given: argparse.Namespace) -> None:
        command = [sys.executable, "-W", "ignore", *sys.argv, "--side", side]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(given.threads)},
        )  # fmt: skip
        self.heard()

    def turn(self) -> dict[str, list[float]]:
        """`seconds` of every step, and `busy`, those of all cores."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.heard()

    def end(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.heard()

    def heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended: {' '.join(map(str, self.process.args))}")
        return json.loads(line)


def measured(sides: list[str], given: argparse.Namespace) -> Iterator[str]:
    """The lines of the table."""
    workers = {side: Worker(side, given) for side in sides}
    turns: dict[str, list[dict[str, list[float]]]] = {side: [] for side in sides}
    for i in range(given.rounds):
        for side in sides if i % 2 else sides[::-1]:
            turns[side].append(workers[side].turn())
    known = {side: worker.end() for side, worker in workers.items()}
    for side in sides:
        yield from described(side, turns[side], known[side])
    if len(sides) == 2:
        ratios = {
            kind: spread(
                [
                    statistics.median(theirs[kind]) / statistics.median(own[kind])
                    for theirs, own in zip(turns["plain"], turns["ours"], strict=True)
                ],
                2,
            )
            for kind in ("seconds", "busy")
        }
        memory = known["ours"]["peak_mib"] / known["plain"]["peak_mib"]
        yield f"plain / ours: {ratios['seconds']}, of all cores {ratios['busy']}"
        yield f"memory, ours / plain: {memory:.2f}"


def described(
    side: str, turns: list[dict[str, list[float]]], known: dict[str, Any]
) -> Iterator[str]:
    """The line of a side, and its profile."""
    seconds, busy = ([s for turn in turns for s in turn[kind]] for kind in ("seconds", "busy"))
    rate = known["flop"] / statistics.median(seconds)
    yield (
        f"{side:6}{spread([1e3 * s for s in seconds])} ms, "
        f"of all cores{spread([1e3 * s for s in busy])} ms, "
        f"{known['peak_mib']:.0f} MiB, {known['flop'] / 1e9:.1f} GFLOP, "
        f"{rate / known['flop_a_second']:.1%} of {known['flop_a_second'] / 1e9:.0f} GFLOP/s"
    )
    for group, share in known["profile"].items():
        yield f"         {group:20} {share:6.1%}"


def spread(values: list[float], digits: int = 0) -> str:
    """Median and range."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):8.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def agree(given: argparse.Namespace, sizes: Sizes) -> bool:
    """Prints both sides' losses; whether they are equal."""
    found = same(given, sizes)
    worst = max(abs(a - b) for a, b in found.values())
    shown = ", ".join(f"{name} {a:.6f} {b:.6f}" for name, (a, b) in found.items())
    print(f"losses without dropout, plain and ours: {shown}; largest difference {worst:.1e}")
    return worst <= LIMIT


def main() -> int:
    """The exit status."""
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    kinds = ("float32", "bfloat16")
    words.add_argument("--dtype", choices=kinds, help="of ours; float32, on a GPU bfloat16")
    words.add_argument("--plain-dtype", choices=kinds, default="float32")
    words.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    words.add_argument("--rounds", type=int, default=6)
    words.add_argument("--steps", type=int, default=2, help="in a turn")
    words.add_argument("--threads", type=int, default=2)
    words.add_argument("--itc-width", type=int, default=Sizes.itc_width)
    words.add_argument("--vocabulary", type=int, default=Sizes.vocabulary)
    words.add_argument("--plain-only", action="store_true")
    words.add_argument("--profile", action="store_true", help="where the time goes")
    words.add_argument("--side", choices=(*SIDES, "same"), help=argparse.SUPPRESS)
    given = words.parse_args()
    given.dtype = given.dtype or ("bfloat16" if given.device == "cuda" else "float32")
    sizes = Sizes(itc_width=given.itc_width, vocabulary=given.vocabulary)
    if given.side == "same":
        torch.set_num_threads(given.threads)
        return int(not agree(given, sizes))
    if given.side:
        work(given.side, given, sizes)
        return 0
    wrong = 0
    if not given.plain_only:  # in a process of its own, so that it leaves no memory behind
        wrong = subprocess.call([sys.executable, "-W", "ignore", *sys.argv, "--side", "same"])
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}", flush=True)
    for line in measured(["plain"] if given.plain_only else ["plain", "ours"], given):
        print(line, flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
