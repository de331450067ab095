"""A study so small that a run takes a second, and one cache of its pictures for all tests."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.study import (
    Budget,
    Cell,
    Measure,
    Retrieval,
    Scenes,
    Study,
    Variant,
    grid,
    scale,
)

TINY = Study(
    name="tiny",
    question="Does it run?",
    cells=(
        *grid(Variant("split_bert"), text_layers=(1, 2), label="k{text_layers}".format),
        Cell(variant=Variant("dual_encoder"), role="floor"),
    ),
    control="k1",
    backbone=scale("nano").model_copy(
        update={"text_layers": 3, "image_layers": 1, "text_width": 16, "text_mlp": 32,
                "image_width": 16, "text_heads": 2, "image_heads": 2, "dropout": 0.1},
    ),
    data=Scenes(train=96, val=24, test=24),
    budget=Budget(steps=6),
    batch_size=8,
    seeds=(0, 1),
    measure=Measure(points=3, items=24, checkpoints=3),
    tasks=(Retrieval(rerank=4),),
)  # fmt: skip


Fill = Callable[[Path], object]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Fill], Path]:
    """`once(name, fill)`: a folder that one worker of pytest-xdist fills and all of them read."""
    top = tmp_path_factory.getbasetemp()
    top = top.parent if "PYTEST_XDIST_WORKER" in os.environ else top

    def filled(name: str, fill: Fill) -> Path:
        folder = top / name
        with (top / f"{name}.lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                folder.mkdir()
                fill(folder)
                (top / f"{name}.full").touch()
        assert (top / f"{name}.full").exists(), f"{name} could not be made in another worker"
        return folder

    return filled


@pytest.fixture(scope="session")
def shared_cache(once: Callable[[str, Fill], Path]) -> Path:
    """A cache that every outputs folder of the tests links to."""
    return once("cache", lambda _: None)


@pytest.fixture(scope="session")
def schema(once: Callable[[str, Fill], Path]) -> bytes:
    """An empty tracking store: to create its schema takes seconds, to copy it nothing."""
    from harness.results.to_mlflow import Tracker

    return (once("schema", Tracker) / "mlflow.db").read_bytes()


@pytest.fixture(scope="session")
def ran(once: Callable[[str, Fill], Path], shared_cache: Path, schema: bytes) -> Path:
    """An outputs folder in which `tiny` was run and published; for tests that only read."""
    from harness.lab import Lab

    def run(outputs: Path) -> None:
        (outputs / "cache").symlink_to(shared_cache)
        (outputs / "mlflow.db").write_bytes(schema)
        states = Lab(outputs).run(TINY, local=True)
        assert list(states.values()) == ["done"] * 6

    return once("ran", run)


@pytest.fixture
def outputs(tmp_path: Path, shared_cache: Path) -> Path:
    """An empty outputs folder whose data need no second decoding."""
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "cache").symlink_to(shared_cache)
    return tmp_path / "outputs"


@pytest.fixture
def tiny() -> Study:
    return TINY


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports draw nothing, to be quick; tests/reports draws every figure."""
    monkeypatch.setattr("reports.build.pictures", lambda: ())
