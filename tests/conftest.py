"""One thread and no network in every test."""

import os

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


@pytest.fixture(autouse=True)
def one_thread() -> None:
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
