"""One RunSpec -> one finished run. Read this first.

    data -> design -> trainer (budget) -> tasks -> run folder

The folder is the truth: everything a run has to say is written there, whole or not at all, and
nothing else is written. Failures become a named status with a message; they are never swallowed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import pickle
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch

from architectures.contract import FusionDesign
from architectures.weights import slots
from harness.outputs.code import code_digest
from harness.outputs.folder import RunFolder, State, atomic_file, read_json, write_json
from harness.runs.assemble import (
    build_design,
    counted_cost,
    counted_flops,
    graph_of,
    load_data,
    training_batches,
)
from harness.training.data.batches import validation_batches
from harness.training.data.corpus import Corpus
from harness.training.loop import numerics
from harness.training.loop.trainer import DivergedError, Measurement, Trainer
from harness.training.scoring import registry as tasks
from harness.training.scoring.chance import majority_level
from harness.training.scoring.contract import record
from harness.training.settings.spec import RunSpec
from harness.warm_start import make as warm_start

STATUS_EVERY = 1.0
"""Seconds between two notes of progress."""


def execute(spec: RunSpec, outputs: Path) -> State:
    """Train and score one run in this process, or go on with it; returns its final state.

    A finished run is not trained again: only scores that are missing are made. Raises `Locked`
    where another process has the run; every other failure is recorded as the run's status.
    """
    folder = RunFolder(outputs, spec.train_key())
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.lock():
        folder.stop_file.unlink(missing_ok=True)
        write_json(folder.spec, spec.model_dump(mode="json"))
        begun = time.time()
        run = _Run(spec, folder, outputs)
        try:
            return run.go()
        except DivergedError as error:
            return run.ended("diverged", str(error))
        except (torch.OutOfMemoryError, MemoryError) as error:
            return run.ended("out_of_memory", f"{type(error).__name__}: {error}")
        except KeyboardInterrupt:
            return run.ended("interrupted", f"stopped after {time.time() - begun:.0f} s")
        except Exception as error:
            return run.ended("failed", f"{type(error).__name__}: {error}", traceback.format_exc())
        finally:
            numerics.release()


class _Run:
    """The steps of one run, in the order they happen."""

    def __init__(self, spec: RunSpec, folder: RunFolder, outputs: Path) -> None:
        self.spec, self.folder, self.outputs = spec, folder, outputs
        self.started = time.time()
        self.trainer: Trainer | None = None

    def ended(self, state: State, message: str, trace: str = "") -> State:
        """Note how the run ended before its end, and what it had spent."""
        # With a full disk nothing can be written; the folder then still says `running` without an
        # owner, which reads as interrupted.
        with contextlib.suppress(OSError):
            if self.trainer:
                write_json(self.folder.ledger, self.trainer.ledger.as_json())
            if trace:
                (self.folder.path / "traceback.txt").write_text(trace)
            self.folder.set_status(state, message)
        return state

    def go(self) -> State:
        was = read_json(self.folder.status_file, {}).get("state")
        weights = self.folder.path / "weights.pt"
        if was == "done" and not self._missing_scores():
            return "done"
        self.folder.set_status("running", steps=0 if was != "done" else None)
        numerics.prepare(self.spec.numerics)
        corpus = load_data(self.spec, self.outputs)
        start = None if was == "done" else warm_start.made(self.spec, corpus, self.outputs)
        design = build_design(self.spec, corpus.tokenizer.vocabulary, start)
        device = torch.device(self.spec.numerics.device)
        facts = design.facts(design.config, design.backbone)
        for task in self._missing_scores():
            tasks.find(task.name).refuse(facts, self.spec.objectives, corpus, task)
        if was == "done":
            if not weights.exists():
                raise FileNotFoundError(
                    "weights.pt was cleaned away and a new score is asked for: delete this run's "
                    "folder to train it again"
                )
            design.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
            design.to(device)
        elif not self._train(design, corpus):
            self.folder.set_status("interrupted", "stopped on request; a checkpoint is kept")
            return "interrupted"
        self._score(design, corpus, device)
        self.folder.set_status("done")
        # Only now: a run that is stopped while it is scored goes on from here.
        self.folder.checkpoint.unlink(missing_ok=True)
        return "done"

    def _train(self, design: FusionDesign, corpus: Corpus) -> bool:
        """Train to the end of the budget; False where a stop was asked for."""
        spec, folder = self.spec, self.folder
        fixed = functools.partial(
            validation_batches,
            tokenizer=corpus.tokenizer,
            batch_size=spec.batch_size,
            mlm=spec.objectives.mlm,
        )
        self._certify(design, corpus)
        trainer = self.trainer = Trainer(
            spec,
            design,
            training_batches(spec, corpus),
            validation=fixed(corpus.val, items=spec.measure.items),
            trained_on=fixed(corpus.train, items=spec.measure.gap_items),
        )
        self._resume(trainer)
        self._count_cost(trainer, corpus)
        stop = _Stop(folder, trainer)
        seconds_before, started = trainer.ledger.device_seconds, self.started
        for measurement in trainer.train(stop):
            trainer.ledger.device_seconds = seconds_before + time.time() - started
            self._note(trainer, measurement)
            if measurement.stopped:
                return False
        self._write_validation(trainer)
        write_json(folder.ledger, trainer.ledger.as_json())
        with atomic_file(folder.path / "weights.pt", durable=True) as part:
            torch.save(trainer.design.state_dict(), part)
        return True

    def _certify(self, design: FusionDesign, corpus: Corpus) -> None:
        """What pairs this run with others: written before the first step, completed as it runs."""
        spec = self.spec
        facts = type(design).facts(design.config, design.backbone)
        old = read_json(self.folder.certificate, {})
        code = code_digest(spec.design_file)
        if self.folder.checkpoint.exists() and code not in old.get("code", code).split("+"):
            code = f"{old['code']}+{code}"  # begun by one, gone on by another
        write_json(
            self.folder.certificate,
            {
                "batches": old.get("batches", {}),
                "roles": slots.role_digests(design),
                "drawn_as": slots.starts(design),
                "sizes": {role: p.numel() for role, p in design.named_parameters()},
                "code": code,
                "data": corpus.content,
                "facts": dataclasses.asdict(facts),
            },
        )
        words = corpus.tokenizer.vocabulary
        drawn = graph_of(spec.design, json.dumps(spec.config), spec.backbone, words)
        write_json(self.folder.graph, drawn)

    def _resume(self, trainer: Trainer) -> None:
        """Go on from the checkpoint; measurements after it are forgotten and made again."""
        folder = self.folder
        if folder.checkpoint.exists():
            try:
                snapshot = torch.load(folder.checkpoint, weights_only=True, map_location="cpu")
            except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
                raise ValueError(
                    f"checkpoint.pt cannot be read ({error}); delete it to start this run again"
                ) from error
            try:
                trainer.restore(snapshot)
            except KeyError as lacking:
                raise ValueError(
                    f"checkpoint.pt lacks {lacking}, so other code wrote it; delete it to start "
                    "this run again"
                ) from lacking
        trainer.ledger.attempts += 1
        kept = [line for line in folder.metric_lines() if line["step"] <= trainer.step]
        if trainer.step == 0:
            kept = []
        folder.rewrite_metrics(kept)
        folder.set_status(
            "running", steps=trainer.steps, step=trainer.step, checkpoint_step=trainer.step or -1
        )

    def _count_cost(self, trainer: Trainer, corpus: Corpus) -> None:
        counted = counted_cost(self.spec, corpus)
        ledger = trainer.ledger
        ledger.parameters, ledger.trainable = counted.parameters, counted.trainable
        ledger.flops_per_sample = counted_flops(self.spec, corpus)
        ledger.forward_flops = float((counted.image + counted.text + counted.fuse).flops)

    def _note(self, trainer: Trainer, measurement: Measurement) -> None:
        """A measurement into the folder; a checkpoint where one is due."""
        folder, ledger = self.folder, trainer.ledger
        ledger.flops = ledger.flops_per_sample * ledger.samples
        if measurement.values:
            folder.append_metrics(
                {
                    "step": measurement.step,
                    "samples": ledger.samples,
                    "seconds": round(ledger.train_seconds, 4),
                    "time": time.time(),
                    "values": measurement.values,
                }
            )
            certificate = read_json(folder.certificate)
            certificate["batches"][str(measurement.step)] = trainer.chain
            write_json(folder.certificate, certificate)
        if measurement.checkpoint:
            with atomic_file(folder.checkpoint, durable=True) as part:
                torch.save(trainer.snapshot(), part)
            write_json(folder.ledger, ledger.as_json())
            folder.set_status("running", step=trainer.step, checkpoint_step=trainer.step)

    def _write_validation(self, trainer: Trainer) -> None:
        """The last validation: accuracies in percent, losses, and beside what the most frequent
        answer would earn, by items. A study may name one as its primary score, for instance
        `validation/mlm_accuracy`.
        """
        levels, values = {}, {}
        terms = trainer.validated or trainer.validate()
        labels = torch.cat([b.mask_labels_BR.flatten() for b in trainer.validation])
        words = labels[labels != -100].tolist()
        chances = {"mlm": majority_level(words)}
        if "itm" in terms:  # rows without a negative are left out, so it need not be two thirds
            pairs = sum(len(batch) for batch in trainer.validation)
            rows = int(terms["itm"].items)
            chances["itm"] = max(pairs, rows - pairs) / rows
        for name, term in terms.items():
            last = term.values(name)
            values[f"{name}_loss"] = last[f"{name}_loss"]
            values[f"{name}_accuracy"] = 100 * last[f"{name}_accuracy"]
            if name in chances:
                levels[f"{name}_accuracy"] = {
                    "successes": int(term.correct),
                    "items": int(term.items),
                    "chance": chances[name],
                }
        write_json(self.folder.scores / "validation.json", {"levels": levels, "values": values})

    def _missing_scores(self) -> list[Any]:
        return [
            task
            for task in self.spec.tasks
            if read_json(self.folder.scores / f"{task.name}.json", {}).get("score_key")
            != self.spec.score_key(task)
        ]

    def _score(self, design: FusionDesign, corpus: Corpus, device: torch.device) -> None:
        design.eval()
        for settings in self._missing_scores():
            task = tasks.find(settings.name)
            scores = task.score(design, corpus, settings, device)
            self.folder.scores.mkdir(exist_ok=True)
            npz = self.folder.scores / f"{settings.name}.npz"
            with atomic_file(npz) as part, part.open("wb") as file:
                np.savez_compressed(file, **scores.predictions)
            write_json(
                self.folder.scores / f"{settings.name}.json",
                {"score_key": self.spec.score_key(settings), **record(scores)},
            )


class _Stop:
    """Asked before every step: was a stop requested? Notes the progress now and then."""

    def __init__(self, folder: RunFolder, trainer: Trainer) -> None:
        self.folder, self.trainer = folder, trainer
        self.noted = 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self.noted >= STATUS_EVERY:
            self.noted = now
            self.folder.set_status("running", step=self.trainer.step)
        return os.path.exists(self.folder.stop_file)
