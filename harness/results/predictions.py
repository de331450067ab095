"""Reads what a run answered item by item, from its folder; MLflow does not hold it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.outputs.folder import RunFolder
from harness.outputs.records import DamagedFile


def predictions_of(outputs: Path, run: str, task: str) -> dict[str, npt.NDArray[np.float64]]:
    """Returns measure -> a value for each item (N,) of a task of a run; empty where none is kept.

    Of all that a task keeps, these are the measures with one number an item, as 1 where it was
    answered correctly. Raises DamagedFile.
    """
    file = RunFolder(outputs, run).score_file(task).with_suffix(".npz")
    try:
        with file.open("rb") as opened, np.load(opened) as arrays:
            kept = {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedFile(
            file, f"is damaged ({error})", "delete it and its .json: run again scores it"
        ) from error
    # Whole numbers are labels, not measures.
    return {
        name: values.astype(float)
        for name, values in kept.items()
        if values.ndim == 1 and values.dtype.kind == "f"
    }
