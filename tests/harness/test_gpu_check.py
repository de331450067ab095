"""`make gpu-check` on a machine without a GPU: parts fail apart, and run in small on a CPU."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", list(sys.path))  # the script adds its own folders
    found = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_what_a_part_raises_is_a_row_after_what_it_had_shown(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(given: object) -> Iterator[str]:
        yield "the first line"
        raise ValueError("no\nway")

    def untrue(given: object) -> Iterator[str]:
        raise gpu.FailedError("weights differ")
        yield ""

    def lacking(given: object) -> Iterator[str]:
        import nobody_has_this  # type: ignore[import-not-found]  # noqa: F401

        yield ""

    monkeypatch.setattr(gpu, "PARTS", {"a": broken, "b": untrue, "c": lacking})
    rows = [gpu.shown_by(name, argparse.Namespace()) for name in gpu.PARTS]
    assert rows == [
        ["the first line", "failed: ValueError: no way"],
        ["failed: weights differ"],
        ["skipped: there is no nobody_has_this"],
    ]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs the script as `make` does."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), *words], text=True, capture_output=True
    )


def test_a_part_that_takes_too_long_fails_and_the_next_one_runs() -> None:
    shown = run("--device", "cpu", "--limit", "0.01", "--only", "machine", "--only", "waits")
    assert shown.returncode == 1
    assert shown.stdout.count("failed: not done in 0 s") == 2


@pytest.mark.slow
def test_every_part_that_a_cpu_can_run_runs_there(gpu: ModuleType) -> None:
    parts = [name for name in gpu.PARTS if name != "packed"]  # times, and two processes more
    only = [word for name in parts for word in ("--only", name)]
    shown = run("--device", "cpu", *only)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "failed" not in shown.stdout
    for wanted in ("losses apart by 0.0e+00", "equal to the last bit after 3 steps", "runs done"):
        assert wanted in shown.stdout
