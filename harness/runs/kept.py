"""Keeps what a run goes on from or is scored by: checkpoint and final weights, with a digest.

A byte that a disk changed is noticed when they are read: tensors are compared with the digest of
what was written.
"""

from __future__ import annotations

import errno
import math
import pickle
from collections.abc import Iterator, Mapping, Sequence
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
    groups: dict[str, list[Tensor]] = {LARGE: []}
    packed = {"snapshot": _emptied(snapshot, groups), LARGE: groups.pop(LARGE)}
    packed["shapes"] = {dtype: [list(x.shape) for x in those] for dtype, those in groups.items()}
    packed["small"] = {d: torch.cat([x.reshape(-1) for x in g]) for d, g in groups.items()}
    with atomic_file(folder.checkpoint, durable=True) as part:
        _save({**packed, DIGEST: _digest_of_all(packed)}, part)


def read_checkpoint(folder: LoopFolder) -> dict[str, Any]:
    """Reads the newest checkpoint. Raises ValueError where it cannot be read or was changed."""
    packed = _opened(folder.checkpoint, RESTART)
    before = "snapshot" not in packed  # written when small tensors lay where they belong
    try:
        digest = digest_of(dict(_tensors(packed))) if before else _digest_of_all(packed)
    except (KeyError, TypeError, AttributeError):  # parts are not there, or are others
        digest = "none"
    if packed.get(DIGEST, digest if before else "") != digest:
        raise ValueError(f"{folder.checkpoint} is not what was written to it; {RESTART}")
    if before:
        return packed
    groups = {LARGE: packed[LARGE]}
    for dtype, shapes in packed["shapes"].items():
        flat = packed["small"][dtype].split([math.prod(shape) for shape in shapes])
        groups[dtype] = [x.reshape(shape).clone() for x, shape in zip(flat, shapes, strict=True)]
    return _filled(packed["snapshot"], groups)


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


SMALL = 2**20
"""Bytes of a tensor that is saved together with others of its dtype: each that is saved apart takes
.05 ms, and a small design with its optimizer has 1,300."""
LARGE = "large"
"""The group of tensors that are larger."""
PLACE = "group and number"
"""What stands where a tensor was taken out."""


def _emptied(value: object, groups: dict[str, list[Tensor]]) -> object:
    """Returns nested mappings and lists with places where tensors were; these join `groups`."""
    if isinstance(value, Tensor):
        name = str(value.dtype) if value.nbytes <= SMALL else LARGE
        group = groups.setdefault(name, [])
        group.append(value.detach().cpu())
        return {PLACE: [name, len(group) - 1]}
    if isinstance(value, Mapping):
        return {name: _emptied(inner, groups) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_emptied(inner, groups) for inner in value)
    return value


def _filled(value: Any, groups: Mapping[str, Sequence[Tensor]]) -> Any:
    """Undoes `_emptied`."""
    if isinstance(value, Mapping) and PLACE in value:
        name, number = value[PLACE]
        return groups[name][number]
    if isinstance(value, Mapping):
        return {name: _filled(inner, groups) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_filled(inner, groups) for inner in value)
    return value


def _tensors(value: object, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields every tensor in nested mappings and lists, by the path to it, as the digest of a
    checkpoint of before names them."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _tensors(inner, f"{path}/{name}")
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _tensors(inner, f"{path}/{place}")


def _digest_of_all(packed: Mapping[str, Any]) -> str:
    """Digests what a checkpoint holds: tensors, and the text of all else, whatever the digest it
    already has."""
    large = {str(number): value for number, value in enumerate(packed[LARGE])}
    rest = repr((packed["snapshot"], packed["shapes"]))
    return digest_of({**packed["small"], **large, rest: torch.empty(0)})  # names are digested, too


def _save(value: Mapping[str, object], part: Path) -> None:
    """Writes what torch saves. By a file of our own: torch does not close its own where the disk is
    full, which keeps it full, and does not say so."""
    with part.open("wb") as file:
        torch.save(value, file)


def _opened(path: Path, remedy: str) -> dict[str, Any]:
    """Opens what torch saved; no file is opened that could run code."""
    file = fetched(path)
    try:
        value = torch.load(file, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:  # whose text advises to run what a file holds
        raise ValueError(f"{path} cannot be read (it holds no tensors); {remedy}") from error
    except Exception as error:  # damaged bytes are also instructions that cannot be followed
        if isinstance(error, MemoryError) or (
            isinstance(error, OSError) and error.errno != errno.EINVAL  # a file cut short
        ):
            raise
        first = str(error).partition("\n")[0]
        raise ValueError(f"{path} cannot be read ({first}); {remedy}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} cannot be read (it holds no tensors by name); {remedy}")
    return value
