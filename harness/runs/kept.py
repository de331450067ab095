"""Keeps what a run goes on from or is scored by: checkpoint and final weights, with a digest.

A byte that a disk changed is noticed when they are read: tensors are compared with the digest of
what was written.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from architectures.weights.digests import digest_of
from harness.outputs.copies import fetched, there
from harness.outputs.files import atomic_file
from harness.outputs.folder import LoopFolder
from harness.outputs.records import WeightsRecord, read_if_there

RETRAIN = "delete the run's folder to train it again"
RESTART = "delete it to start this run again"
DIGEST = "digest"
"""Under which a checkpoint holds its own digest."""


def write_checkpoint(folder: LoopFolder, snapshot: Mapping[str, object]) -> None:
    """Writes a checkpoint, whole or not at all, and waits for the disk."""
    sealed = {**snapshot, DIGEST: digest_of(dict(_tensors(snapshot)))}
    with atomic_file(folder.checkpoint, durable=True) as part:
        _save(sealed, part)


def read_checkpoint(folder: LoopFolder) -> dict[str, Any]:
    """Reads the newest checkpoint. Raises ValueError where it cannot be read or was changed."""
    snapshot = _opened(folder.checkpoint, RESTART)
    digest = snapshot.pop(DIGEST, None)
    if digest is not None and digest != digest_of(dict(_tensors(snapshot))):
        raise ValueError(f"{folder.checkpoint} is not what was written to it; {RESTART}")
    return snapshot


def write_weights(folder: LoopFolder, weights: Mapping[str, Tensor]) -> None:
    """Writes the final weights of a run, their digest first: weights that stand are whole."""
    WeightsRecord(digest=digest_of(weights)).write(folder.weights_digest)
    with atomic_file(folder.weights, durable=True) as part:
        _save(dict(weights), part)


def read_weights(folder: LoopFolder) -> dict[str, Tensor]:
    """Reads the final weights of a run. Raises FileNotFoundError where they were cleaned away, and
    ValueError where the file cannot be read or was changed."""
    if not there(folder.weights):
        raise FileNotFoundError(f"{folder.weights} was cleaned away: {RETRAIN}")
    weights = _opened(folder.weights, RETRAIN)
    record = read_if_there(WeightsRecord, folder.weights_digest)
    if record is not None and record.digest != digest_of(weights):
        raise ValueError(f"{folder.weights} is not what was written to it; {RETRAIN}")
    return weights


def _tensors(value: object, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields every tensor in nested mappings and lists, by the path to it."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _tensors(inner, f"{path}/{name}")
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _tensors(inner, f"{path}/{place}")


def _save(value: Mapping[str, object], part: Path) -> None:
    """Writes what torch saves. By a file of our own: torch does not close its own where the disk is
    full, which keeps it full, and does not say so."""
    with part.open("wb") as file:
        torch.save(value, file)


def _opened(path: Path, remedy: str) -> dict[str, Any]:
    """Opens what torch saved; no file is opened that could run code."""
    try:
        return torch.load(fetched(path), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:  # whose text advises to run what a file holds
        raise ValueError(f"{path} cannot be read (it holds no tensors); {remedy}") from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(f"{path} cannot be read ({first}); {remedy}") from error
