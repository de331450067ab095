"""What must hold for every bad input: exit code 2, no traceback, words that name the place."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.commands.main import app

Refused = Callable[..., list[str]]
FOREIGN = (
    "Input should be", "pydantic", "For further information", "Traceback", "validation error",
    "unable to parse", "Value error",
)  # fmt: skip
"""Words that no user can act on."""
STUDY = """
from harness.study import *

STUDY = Study(
    name="tiny",
    question="Does it run?",
    cells=(
        *grid(Variant("split_bert"), text_layers=(1, 2), label="k{text_layers}".format),
        Cell(variant=Variant("dual_encoder"), role="floor"),
    ),
    control="k1",
    backbone=scale("nano").with_fields({"text_layers": 3, "image_layers": 1}),
    data=Scenes(train=96, val=24, test=24),
    budget=Budget(steps=6),
    batch_size=8,
    seeds=(0, 1),
    measure=Measure(points=3, items=24),
    tasks=(Retrieval(rerank=4),),
)
"""


def wrong_with(words: Iterable[object], names: Iterable[str]) -> list[str]:
    """What is wrong with how a command refuses; nothing where it is as promised."""
    result = CliRunner().invoke(app, list(map(str, words)))
    text = result.output
    faults = [f"says {word!r}" for word in FOREIGN if word in text]
    faults += [f"names no {name!r}" for name in names if name not in text]
    if result.exit_code != 2:
        faults.append(f"ends with {result.exit_code}")
    if result.exception and not isinstance(result.exception, SystemExit):
        faults += traceback.format_exception_only(result.exception)
    return faults


@pytest.fixture
def refused(outputs: Path) -> Refused:
    """Runs a command in an outputs folder; a line for each fault of how it refuses."""

    def check(*words: object, names: Iterable[str] = (), own: bool = False) -> list[str]:
        more = [] if own else ["--outputs", str(outputs)]
        said = wrong_with([*words, *more], names)
        return [f"{' '.join(map(str, words))[-200:]}: {fault}" for fault in said]

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many bad inputs were tried; a test of many says their number itself."""
    for outcome in ("passed", "failed"):
        reports = [
            report
            for report in terminalreporter.getreports(outcome)
            if "bad_inputs" in report.nodeid and getattr(report, "when", "") == "call"
        ]
        if reports:
            cases = sum(dict(report.user_properties).get("cases", 1) for report in reports)
            terminalreporter.write_line(f"bad inputs: {cases} in tests that {outcome}")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study file without a fault."""
    file = tmp_path / "own.py"
    file.write_text(STUDY)
    return file
