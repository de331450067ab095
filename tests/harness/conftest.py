"""A study so small that a run takes a second, and one cache of its pictures for all tests."""

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


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that every outputs folder of the tests links to."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An empty tracking store: to create its schema takes seconds, to copy it nothing."""
    from harness.results.to_mlflow import Tracker

    outputs = tmp_path_factory.mktemp("schema")
    Tracker(outputs)
    return (outputs / "mlflow.db").read_bytes()


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path, schema: bytes) -> Path:
    """An outputs folder in which `tiny` was run and published; for tests that only read."""
    from harness.lab import Lab

    outputs = tmp_path_factory.mktemp("ran")
    (outputs / "cache").symlink_to(shared_cache)
    (outputs / "mlflow.db").write_bytes(schema)
    states = Lab(outputs).run(TINY, local=True)
    assert list(states.values()) == ["done"] * 6
    return outputs


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
