"""Ray Train's TorchTrainer starts the workers of one run, lets them find each other, and ends all
where one dies. Checkpoints are the run folder's own, so Ray keeps none.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from architectures.registry import bring
from harness.outputs.copies import copy_of, opened, refreshed
from harness.outputs.files import Locked, State
from harness.outputs.folder import RunFolder
from harness.runs.together import execute_together
from harness.scheduling.session import OutOfMemory, ProcessDied
from harness.training.loop.workers import other_is_gone
from harness.training.settings.spec import RunSpec


def execute_by_several(spec: RunSpec, outputs: Path | str, own_file: bytes | None = None) -> State:
    """Does one run by as many workers as its numerics say, each placed where its threads and, on
    cuda, a whole GPU are free. Returns the state that the first worker ended in. `own_file`: the
    text of the user's file that holds the design, which the workers' machines may lack.

    Raises `ProcessDied` where a worker died or was lost, else what went wrong in a worker.
    """
    settings = spec.train.numerics
    cuda = settings.device == "cuda"
    folder = RunFolder(opened(outputs, pull=False), spec.train_key())
    notes = folder.path / "ray_train"  # on storage that every node sees, as Ray Train wants it
    copy = copy_of(notes)
    storage = copy.bucket.arrow_filesystem() if copy else None
    trainer = TorchTrainer(
        lambda: _worker(spec, outputs, own_file),
        scaling_config=ScalingConfig(
            num_workers=settings.workers,
            use_gpu=cuda,
            resources_per_worker={"CPU": settings.threads, **({"GPU": 1} if cuda else {})},
        ),
        torch_config=TorchConfig(backend="nccl" if cuda else "gloo"),
        run_config=RunConfig(
            name=folder.key,
            storage_path=copy.bucket.place(copy.name(notes)) if copy else str(notes),
            storage_filesystem=storage,
            failure_config=FailureConfig(max_failures=0),
        ),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        raise _cause(error) from None
    except TrainingFailedError as error:
        raise ProcessDied(f"its workers could not go on ({_first_line(error)})") from None
    finally:
        shutil.rmtree(notes, ignore_errors=True)
        if copy:
            copy.bucket.remove_all(copy.name(notes))
    refreshed(folder.path)
    return folder.recovered_status().state


def _worker(spec: RunSpec, outputs: Path | str, own_file: bytes | None) -> None:
    if own_file is not None:
        bring(spec.asked.design_file, own_file)
    execute_together(spec, opened(outputs, pull=False))


def _cause(error: WorkerGroupError) -> Exception:
    """Returns what went wrong: a worker's own failure before the loss of another one."""
    failures = [getattr(its, "cause", None) or its for its in error.worker_failures.values()]
    for its in failures:
        if isinstance(its, torch.OutOfMemoryError | MemoryError):
            return OutOfMemory(f"in one of its workers: {_first_line(its)}")
        if isinstance(its, Locked):
            return its
    own = [its for its in failures if not other_is_gone(its) and not _is_rays(its)]
    return own[0] if own else ProcessDied("one of its workers died")


def _is_rays(error: BaseException) -> bool:
    return type(error).__module__.startswith("ray.")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
