"""Reads what runs answered to single items, where their folders are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.outputs.folder import RunFolder
from harness.results.tables import Results

FloatArray = npt.NDArray[np.float64]
CLOSE = 1e-3
"""Within which a mean over items is the score, in its own unit."""


def item_answers(outputs: Path, results: Results, endpoint: str) -> FloatArray | None:
    """Returns what every compared design's run of every seed got for every item (D, S, N), in the
    units of the score; None where a run has no such answers, or their mean is not the score.

    Only runs that are done, of seeds that all compared cells with a score have.
    """
    task = endpoint.partition("/")[0]
    runs = results.runs.assign(score=results.values(endpoint))
    runs = runs[(runs["role"] == "compared") & (runs["status"] == "done") & runs["score"].notna()]
    by_cell: dict[str, dict[int, tuple[str, float]]] = {}
    for run in runs.to_dict("records"):
        by_cell.setdefault(run["cell"], {})[int(run["seed"])] = (run["run"], float(run["score"]))
    seeds = sorted(set.intersection(*map(set, by_cell.values()))) if by_cell else []
    answers = [
        [
            _answers(outputs, run, task, endpoint, score)
            for run, score in (rows[seed] for seed in seeds)
        ]
        for rows in by_cell.values()
    ]
    sizes = {len(one) if one is not None else 0 for row in answers for one in row}
    return np.array(answers, dtype=float) if len(sizes) == 1 and 0 not in sizes else None


def _answers(outputs: Path, run: str, task: str, endpoint: str, score: float) -> FloatArray | None:
    """Returns the answers (N,) that the score is the mean of: one array of the run's file, or the
    mean of all of them; shares become percent where the score is."""
    try:
        with np.load(RunFolder(outputs, run).score_file(task).with_suffix(".npz")) as file:
            arrays = {name: file[name].astype(float) for name in file.files}
    except (OSError, ValueError, KeyError):
        return None
    wanted = endpoint.partition("/")[2]
    candidates = [array for name, array in arrays.items() if name.startswith(wanted)]
    if len({len(array) for array in arrays.values()}) == 1:
        candidates.append(np.mean(list(arrays.values()), axis=0))
    for array in candidates:
        for unit in (1.0, 100.0):
            if abs(unit * array.mean() - score) <= CLOSE * max(1.0, abs(score)):
                return unit * array
    return None
