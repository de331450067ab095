"""Three steps of training, by one worker or by several: what a test starts in processes."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist

from architectures import build, registry
from harness.planning.plan import applicable
from harness.training.data.batches import Batches
from harness.training.data.corpus import Corpus, load_corpus
from harness.training.loop.trainer import Trainer
from harness.training.randomness import stream
from harness.training.settings.loop import Budget
from harness.training.settings.objectives import Objectives
from harness.training.settings.spec import TrainSpec
from tests.training.objectives.conftest import DATA, FULL, SMALL

WORLD, BATCH, STEPS = 2, 8, 3
PAIRS = DATA.model_copy(update={"objects": (2, 2)})
"""Two things a picture: captions have other arrangements."""
STILL = SMALL.model_copy(update={"dropout": 0.0})
OTHERS: dict[str, Objectives] = {
    "albef": FULL.with_field("itc.gather", True).with_field("teacher.ramp_epochs", 0.5),
    "sigmoid": Objectives().with_field("itc.loss", "sigmoid").with_field("itm.hard_share", 0.5),
    "hinge": Objectives().with_field("itc.loss", "hinge_max").with_field("mlm.weight", 0.0),
    "no itc": Objectives().with_field("itc.weight", 0.0),
    "swaps": Objectives().with_field("itm.swap_share", 0.5),
    "lm": Objectives().with_fields({"mlm.weight": 0.0, "lm.weight": 1.0, "lm.prefix": 0.5}),
    "one word": Objectives().with_field("mlm.share", 0.02),
}
"""Objectives of `split_bert`; in the last a worker's part of a batch may hide no word at all."""
CASES = {**{name: (name, Objectives()) for name in registry.names()},
         **{name: ("split_bert", objectives) for name, objectives in OTHERS.items()}}  # fmt: skip
LOCAL = ("split_bert", Objectives().with_field("itm.gather", False))
"""Negatives of the own worker: another loss."""


def trainer_of(name: str, objectives: Objectives, corpus: Corpus) -> Trainer:
    design = registry.find(name)
    objectives, _ = applicable(objectives, design.facts(design.Config(), STILL))
    spec = TrainSpec(
        design=name, backbone=STILL, data="", objectives=objectives, budget=Budget(steps=6),
        batch_size=BATCH, seed=0,
    )  # fmt: skip
    model = build.design(
        name, {}, STILL, corpus.tokenizer.vocabulary,
        draw=lambda role: stream(0, "init", role), objectives=objectives.active(),
    )  # fmt: skip
    batches = Batches(
        corpus.train, corpus.tokenizer, BATCH, 0, objectives.mlm,
        swap_share=objectives.itm.swap_share, prefix=objectives.lm.prefix,
    )  # fmt: skip
    return Trainer(spec, model, batches, [])


def trained(name: str, objectives: Objectives, corpus: Corpus) -> dict[str, torch.Tensor]:
    """Returns loss and every gradient of each step, before it is clipped, and all curves; the
    queue at the end.
    """
    run = trainer_of(name, objectives, corpus)
    seen: dict[str, torch.Tensor] = {}
    clip, forward = run.gradients.clip, run.forward

    def noting(norm: torch.Tensor, limit: float) -> None:
        for role, its in [*run.design.named_parameters(), *run.state.named_parameters()]:
            if its.grad is not None:
                seen[f"{run.step + 1} gradient {role}"] = its.grad.clone()
        clip(norm, limit)

    def losing(*given):
        losses, loss = forward(*given)
        seen[f"{run.step + 1} loss"] = loss.detach()
        return losses, loss

    run.gradients.clip, run.forward = noting, losing
    for _ in range(STEPS):
        run.one_step()
    for objective, term in run.sums.items():
        seen |= {f"sum {objective} {k}": torch.tensor(v) for k, v in term.values("").items()}
    seen |= {f"note {k}": v for k, v in run.note_sums.items()}
    if run.state.queue is not None:
        seen |= {f"queue {k}": v for k, v in run.state.queue.named_buffers()}
    return seen | {"chain": run.chain, "samples": run.ledger.samples}


def corpus_in(cache: Path) -> Corpus:
    return load_corpus(PAIRS, SMALL.image_size, cache, swaps=True)


def one_worker(rank: int, folder: str, cache: str) -> None:
    """Writes what it saw of every case."""
    torch.set_num_threads(1)
    meeting = Path(folder, "meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORLD)
    corpus = corpus_in(Path(cache))
    seen = {case: trained(*its, corpus) for case, its in {**CASES, "local": LOCAL}.items()}
    torch.save(seen, Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()
