"""Says where a study's runs stand in MLflow's page, read from the store of an outputs folder."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from harness.results.store import database_of

PAGE = "http://127.0.0.1:5000/#/experiments"
"""Where `fuselab ui` shows experiments, by default."""


def links(outputs: Path, study: str) -> dict[str, str]:
    """Returns train key -> address of the run; nothing where the store cannot be read, which a
    report can do without."""
    path = database_of(outputs)
    if not path.is_file():
        return {}
    address = f"{path.resolve().as_uri()}?mode=ro"
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(address, uri=True)) as store,
    ):
        rows = store.execute(
            "SELECT tags.value, runs.experiment_id, runs.run_uuid FROM runs "
            "JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'fuselab.run' "
            "JOIN experiments ON experiments.experiment_id = runs.experiment_id "
            "WHERE experiments.name = ? AND runs.lifecycle_stage = 'active'",
            [study],
        )
        return {key: f"{PAGE}/{experiment}/runs/{run}" for key, experiment, run in rows}
    return {}
