"""One run by several workers: the first one does the run, the others train beside it.

The first worker alone reads and writes the run's folder, measures and scores (`runs.run`). The
others join it where it begins to train, take the same steps on their parts of the batches, and end
with it; what ends the run is for the first one to say.
"""

from __future__ import annotations

import gc
from pathlib import Path

import torch.distributed as dist

from harness.outputs.files import State
from harness.outputs.folder import RunFolder
from harness.runs.assemble import build_design, load_data, training_batches
from harness.runs.kept import read_checkpoint
from harness.runs.run import execute, trainer_of
from harness.training.loop import numerics
from harness.training.loop.loop import DivergedError
from harness.training.loop.workers import other_is_gone
from harness.training.objectives.gather import agreed, rank
from harness.training.settings.spec import RunSpec
from harness.warm_start import make as warm_start


def execute_together(spec: RunSpec, outputs: Path) -> State | None:
    """Does this worker's part of a run; its process group must be open, and is closed at the end,
    which lets go of workers that still wait for this one. Returns the run's final state in the
    first worker, None in the others.

    Raises in the first worker where another one is lost: the run then goes on from its checkpoint
    when it is started again. Another worker raises what went wrong in it.
    """
    try:
        if rank() == 0:
            return execute(spec, outputs)
        _assist(spec, outputs)
        return None
    except Exception as error:
        if rank() and (isinstance(error, DivergedError) or other_is_gone(error)):
            return None  # the first worker has the same to say, or is gone
        raise
    finally:
        gc.collect()  # a trainer that is left over would keep the connections open
        dist.destroy_process_group()


def _assist(spec: RunSpec, outputs: Path) -> None:
    """Trains beside the first worker."""
    numerics.prepare(spec.train.numerics)
    if not agreed(False):  # there is nothing to train
        return
    corpus = load_data(spec, outputs)
    start = warm_start.made(spec, corpus, outputs)
    design = build_design(spec, corpus.tokenizer.vocabulary, start)
    trainer = trainer_of(spec, design, corpus, training_batches(spec, corpus))
    folder = RunFolder(outputs, spec.train_key())
    folder.fetch()
    if folder.checkpoint.exists():
        trainer.restore(read_checkpoint(folder))
    agreed(True)
    for _ in trainer.train(bool):
        pass
