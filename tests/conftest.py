"""One thread and no network in every test, and nothing to collect in what was imported."""

import gc
import os
from collections.abc import Iterator

# Before any library reads them: nothing leaves the machine.
os.environ.update(
    HF_HUB_OFFLINE="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    DO_NOT_TRACK="1",
    RAY_USAGE_STATS_ENABLED="0",
    OMP_NUM_THREADS="1",
)

import pytest

# Sizes of a terminal that is not there: tests print as into a pipe.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Modules and tests are a million objects that stay: a quarter of the time of their making went
    into looking for something to free among them, and half a second of every short training.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
