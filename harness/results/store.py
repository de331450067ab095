"""The MLflow store of an outputs folder is one sqlite file that moves with the folder.

It can be rebuilt from the run folders at any time (`fuselab publish`), so nothing here may stop a
run: what is wrong is said, with the remedy.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from architectures.frozen import SettingError
from harness.outputs.copies import machine_folder
from harness.outputs.files import TrackingError
from harness.results.from_mlflow import quiet_mlflow

UNSAFE = "?#%"
"""Characters that the address of a store cannot hold."""


def default_uri(outputs: Path) -> str:
    """Returns the address of an outputs folder's store: sqlite, by an absolute path.

    Raises `SettingError` where the path has a character that an address cannot hold.
    """
    path = machine_folder(outputs.resolve()) / "mlflow.db"
    if wrong := sorted(set(UNSAFE) & set(str(path))):
        raise SettingError(
            f"the outputs folder {str(outputs)!r} has {' and '.join(wrong)} in its path, which the "
            "address of MLflow's store cannot hold; name another folder"
        )
    return f"sqlite:///{path}"


def database_of(outputs: Path) -> Path:
    """Says where the store of an outputs folder lies; of outputs at a URL each machine has its
    own, since sqlite cannot live in a bucket."""
    return machine_folder(outputs) / "mlflow.db"


def ui_command(outputs: Path, port: int = 5000, uri: str | None = None) -> list[str]:
    """Returns the command that serves MLflow's page on a store (default: the outputs folder's own),
    to this machine only."""
    return [
        sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", uri or default_uri(outputs), "--workers", "1",
        "--default-artifact-root", files_of(outputs),
    ]  # fmt: skip


UI_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # else seven idle processes
}


def files_of(outputs: Path) -> str:
    """Says where the store of an outputs folder keeps files, as an address."""
    return (machine_folder(outputs.resolve()) / "mlartifacts").as_uri()


def opened(outputs: Path, uri: str, *, create: bool) -> Any:
    """Returns MLflow's client of a store whose schema is there.

    `create`: makes the store of the outputs folder where there is none. Raises `TrackingError`,
    within seconds, where the store is not there or cannot be used.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    mlflow = quiet_mlflow()
    own = uri == default_uri(outputs)
    if own and not database_of(outputs).exists() and not create:
        raise TrackingError(f"there is no store at {uri}: `fuselab publish` makes it")
    try:
        if own:
            _make(outputs)
            _follow(outputs)
        client = mlflow.MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        remedy = (
            f"move {database_of(outputs)} away and run `fuselab publish`" if own
            else "run `fuselab publish` when it is back"
        )  # fmt: skip
        raise TrackingError(
            f"MLflow at {uri} cannot be used: {reason}. The run folders hold everything: {remedy}"
        ) from error
    return client


def _make(outputs: Path) -> None:
    """Makes the store where there is none, aside and under a lock: a kill leaves no half of it."""
    target = database_of(outputs)
    if target.exists():
        return
    with lock(outputs):
        if target.exists():  # another process was first
            return
        part = target.with_name(f".mlflow.db.{os.getpid()}.part")
        try:
            client = quiet_mlflow().MlflowClient(tracking_uri=f"sqlite:///{part}")
            client.search_experiments(max_results=1)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _follow(outputs: Path) -> None:
    """Where the outputs folder was moved or copied since the store was made, the store's addresses
    of files follow: each ends in `/mlartifacts/...`, and what comes before is the folder."""
    root = files_of(outputs)
    tables = {"experiments": "artifact_location", "runs": "artifact_uri"}
    with contextlib.closing(sqlite3.connect(database_of(outputs), timeout=30)) as database:
        for table, column in tables.items():
            stale = f"{column} LIKE '%/mlartifacts/%' AND {column} NOT LIKE ? || '/%'"
            tail = f"substr({column}, instr({column}, '/mlartifacts/') + length('/mlartifacts'))"
            if database.execute(f"SELECT 1 FROM {table} WHERE {stale} LIMIT 1", [root]).fetchone():
                database.execute(
                    f"UPDATE {table} SET {column} = ? || {tail} WHERE {stale}", [root, root]
                )
        database.commit()


def add_history(outputs: Path, rows: Iterable[tuple[str, float, int, str, int, bool]]) -> None:
    """Adds earlier values of metrics (`entries.history`) to the store of an outputs folder, in one
    transaction. By MLflow's client a value takes a tenth of a millisecond, and a run has thousands;
    newest values go that way, since they stand in a second table. Raises sqlite3.Error where the
    table is another one."""
    with (
        contextlib.closing(sqlite3.connect(database_of(outputs), timeout=30)) as database,
        database,
    ):
        database.executemany(
            "INSERT OR IGNORE INTO metrics (key, value, timestamp, run_uuid, step, is_nan) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            rows,
        )


@contextlib.contextmanager
def lock(outputs: Path) -> Iterator[None]:
    """Holds the store: publishers take turns."""
    outputs.mkdir(parents=True, exist_ok=True)
    with (machine_folder(outputs) / ".publish.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
