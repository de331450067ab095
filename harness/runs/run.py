"""Turns one RunSpec into one finished run. Read this first.

    data -> design -> trainer (budget) -> tasks -> run folder

The folder is the truth: everything a run has to say is written there, whole or not at all, and
nothing else is written. Failures become a named status with a message; they are never swallowed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
import traceback
from pathlib import Path

import torch

from architectures.contract import FusionDesign
from harness.outputs.copies import removed
from harness.outputs.files import Locked, State, outside, write_json, write_text
from harness.outputs.folder import RunFolder
from harness.runs.along import write_along
from harness.runs.assemble import (
    build_design,
    counted_cost,
    counted_flops,
    load_data,
    training_batches,
)
from harness.runs.certify import certify
from harness.runs.energy import EnergyMeter
from harness.runs.kept import write_weights
from harness.runs.missing import missing_scores
from harness.runs.scoring import (
    refuse_scores,
    score,
    write_validation,
)
from harness.runs.spending import note, resume, write_ledger
from harness.training.data.batches import Batches, validation_batches
from harness.training.data.corpus import Corpus
from harness.training.loop import numerics
from harness.training.loop.loop import DivergedError
from harness.training.loop.trainer import Trainer
from harness.training.loop.workers import other_is_gone
from harness.training.objectives.binding import binding_of
from harness.training.objectives.gather import agreed, alone, workers
from harness.training.settings.spec import RunSpec
from harness.warm_start import make as warm_start

STATUS_EVERY = 1.0
"""Seconds between two notes of progress."""


def execute(spec: RunSpec, outputs: Path) -> State:
    """Trains and scores one run in this process, or goes on with it; returns its final state.

    A finished run is not trained again: only scores that are missing are made. Raises `Locked`
    where another process has the run, and what says that another worker of it is gone; every other
    failure is recorded as the run's status.
    """
    folder = RunFolder(outputs, spec.train_key())
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.lock():
        folder.fetch()
        removed(folder.stop_file)
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
        except Locked:
            raise
        except Exception as error:
            if why := outside(error):
                run.ended("interrupted", why)
                return "interrupted"  # also where it was trained: scores are missing
            if workers() > 1 and other_is_gone(error):
                raise  # the status still says running, which reads as interrupted
            state: State = "out_of_memory" if _no_memory(error) else "failed"
            return run.ended(state, f"{type(error).__name__}: {error}", traceback.format_exc())
        finally:
            numerics.release()


NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
"""What torch says in a plain RuntimeError where memory is lacking: on a CPU, and on a GPU outside
of its own allocator (a context; cuBLAS and cuDNN), as where runs share it."""


def _no_memory(error: Exception) -> bool:
    """Says whether torch could not get memory, and said so by a plain RuntimeError."""
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


class _Run:
    """_Run takes the steps of one run, in the order they happen."""

    def __init__(self, spec: RunSpec, folder: RunFolder, outputs: Path) -> None:
        self.spec, self.folder, self.outputs = spec, folder, outputs
        self.started = time.time()
        self.trainer: Trainer | None = None

    def ended(self, state: State, message: str, trace: str = "") -> State:
        """Notes how the run ended before its end, and what it had spent."""
        # With a full disk each of these may fail; where even the status does, the folder still says
        # `running` without an owner, which reads as interrupted.
        with contextlib.suppress(OSError):
            if self.trained():
                state = "done"
            elif self.trainer:
                write_ledger(self.trainer, self.folder)
        with contextlib.suppress(OSError):
            if trace:
                write_text(self.folder.path / "traceback.txt", trace)
        with contextlib.suppress(OSError):
            self.folder.set_status(state, message)
        return state

    def go(self) -> State:
        """Trains where the weights are not there yet, scores what is not scored yet."""
        spec, folder = self.spec, self.folder
        trained = self.trained()
        if trained and not missing_scores(folder, spec):
            folder.set_status("done")
            return "done"
        if not trained:
            folder.set_status("running", steps=0)
        numerics.prepare(spec.train.numerics)
        corpus = load_data(spec, self.outputs)
        start = None if trained else warm_start.made(spec, corpus, self.outputs)
        design = build_design(spec, corpus.tokenizer.vocabulary, start)
        if not trained:
            refuse_scores(folder, spec, design, corpus)
        agreed(not trained)  # where other workers wait, they join now
        if not trained and not self._train(design, corpus):
            folder.set_status("interrupted", "stopped on request; a checkpoint is kept")
            return "interrupted"
        # From here on nothing is trained again: a score that fails is a score that failed, and one
        # that is stopped is made by the next command.
        folder.set_status("done")
        removed(folder.checkpoint)
        load = trained or spec.train.final.kind != "last"
        stop = folder.stop_file.exists
        with alone():
            scored = score(folder, spec, design, corpus, load=load, should_stop=stop)
        if not scored:
            folder.set_status("done", "stopped while it learnt a task; the next run goes on")
            return "interrupted"
        folder.set_status("done")
        return "done"

    def trained(self) -> bool:
        """Says whether the run needs no training: its weights are whole, or it was done and they
        were cleaned away."""
        return self.folder.weights.exists() or self.folder.recovered_status().state == "done"

    def _train(self, design: FusionDesign, corpus: Corpus) -> bool:
        """Trains to the end of the budget; False where a stop was asked for."""
        folder = self.folder
        certify(folder, self.spec, design, corpus)
        batches = training_batches(self.spec, corpus)
        trainer = self.trainer = trainer_of(self.spec, design, corpus, batches)
        resume(trainer, folder)
        agreed(True)  # all have read the checkpoint
        folder.set_status(
            "running", steps=trainer.steps, step=trainer.step, checkpoint_step=trainer.step or -1
        )
        with alone():
            self._count_cost(trainer, corpus)
        stop = _Stop(folder, trainer)
        meter, ledger = EnergyMeter(self.spec.train.numerics.device), trainer.ledger
        seconds_before, joules_before = ledger.device_seconds, ledger.energy_joules or 0.0
        for measurement in trainer.train(stop):
            seconds = (time.time() - self.started) * self.spec.train.numerics.workers
            trainer.ledger.device_seconds = seconds_before + seconds
            if (joules := meter.joules()) is not None:
                trainer.ledger.energy_joules = joules_before + joules
            note(trainer, folder, measurement)
            if measurement.checkpoint:
                folder.set_status("running", step=trainer.step, checkpoint_step=trainer.step)
            if measurement.stopped:
                return False
        with alone():
            write_validation(folder, trainer)
        write_along(folder, self.spec.train)
        write_ledger(trainer, folder)
        write_weights(folder, trainer.final().state_dict())
        return True

    def _count_cost(self, trainer: Trainer, corpus: Corpus) -> None:
        counted = counted_cost(self.spec, corpus)
        ledger = trainer.ledger
        frozen = trainer.freezing.never_learn
        held = sum(p.numel() for role, p in trainer.design.named_parameters() if role in frozen)
        ledger.parameters, ledger.trainable = counted.parameters, counted.trainable - held
        ledger.flops_per_sample = counted_flops(self.spec, corpus)
        ledger.forward_flops = float((counted.image + counted.text + counted.fuse).flops)


def trainer_of(spec: RunSpec, design: FusionDesign, corpus: Corpus, batches: Batches) -> Trainer:
    """Returns the trainer of a run, with all that it measures along the way."""
    train = spec.train
    fixed = functools.partial(
        validation_batches,
        tokenizer=corpus.tokenizer,
        batch_size=train.batch_size,
        mlm=train.objectives.mlm,
    )
    return Trainer(
        train,
        design,
        batches,
        validation=fixed(corpus.val, items=train.measure.items),
        trained_on=fixed(corpus.train, items=train.measure.gap_items),
        binding=binding_of(train.measure, corpus),
    )


class _Stop:
    """Says before every step whether a stop was requested. Notes the progress now and then."""

    def __init__(self, folder: RunFolder, trainer: Trainer) -> None:
        self.folder, self.trainer = folder, trainer
        self.noted = 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self.noted >= STATUS_EVERY:
            self.noted = now
            self.folder.set_status("running", step=self.trainer.step, durable=False)
        return os.path.exists(self.folder.stop_file)
